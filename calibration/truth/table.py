"""Classes of pictures in a CSV: columns `file` and one of `label`, `class` (names or indices), `class_index`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from calibration.errors import DatasetError
from calibration.pictures import Sample
from calibration.truth import Classes
from calibration.truth.names import classes, quoted

COLUMNS = ("label", "class", "class_index")
"""Of several the first counts: names tell labels of another model, numbers need not."""
WANTED = "columns file and one of label, class or class_index"


def read_table(text: str, samples: Sequence[Sample], labels: Sequence[str], source: str, partial: bool) -> Classes:
    """Read a CSV, separated by commas, semicolons or tabs, the columns' names in its first line.

    Raises DatasetError naming the line.
    """
    head = text.split("\n", 1)[0]
    separator = max(",;\t", key=head.count)  # spreadsheets of half the world write semicolons
    written: dict[str, str] = {}
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        columns = [name.strip().lower() for name in next(rows, [])]
        column = next((name for name in COLUMNS if name in columns), None)
        if column is None or "file" not in columns:
            raise DatasetError(f"{source}: not a list of labels: wants a CSV with {WANTED} in its first line")
        file_at, class_at = columns.index("file"), columns.index(column)
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) <= max(file_at, class_at) or not row[file_at].strip() or not row[class_at].strip():
                raise DatasetError(f"{source}: line {rows.line_num}: wants {WANTED}, has {quoted(row)}")
            file, name = row[file_at].strip(), row[class_at].strip()
            if written.setdefault(file, name) != name:
                raise DatasetError(
                    f"{source}: line {rows.line_num}: {quoted(file)} is {quoted(name)} here and "
                    f"{quoted(written[file])} above"
                )
    except csv.Error as error:
        raise DatasetError(f"{source}: not a readable CSV: {error}") from None
    return classes(written, samples, labels, source, partial, by_index=column == "class_index")
