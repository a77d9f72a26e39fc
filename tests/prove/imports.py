"""`scripts/prove imports [--write] [--only NAME]`: real weights through `models import`, against known AP.

Needs `$SIGHTWIRE_SHARED` with `models/` and `data/coco-mini`. What is said of each file is what a user would say:
its family and its labels.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from engines.backends.openvino import Config as OpenVINO
from engines.importing import import_model
from engines.importing.facts import Given
from engines.model import open_model
from engines.store import ModelStore
from tests.prove.heads import KNOWN, precision
from tests.prove.record import section, table


def imported(name: str, shared: Path) -> tuple[list[tuple[str, ...]], str]:
    """Rows of the table, and what the import said of the file."""
    with tempfile.TemporaryDirectory(prefix="imports-") as folder:
        source = shared / "models" / KNOWN[name].file
        made = import_model(source, Given(family=name, labels="coco", licence="NOASSERTION"), ModelStore(Path(folder)))
        proof = made.card.imported
        if proof is None:
            raise AssertionError("an imported card says how it was imported")
        said = (
            f"{name}: opset {proof.opset}, batches up to {made.card.max_batch}, largest difference from the file "
            f"{proof.difference:.1e} on {proof.judge}."
        )
        model = open_model(made.card, made.folder, "fp32", OpenVINO())
        try:
            return list(precision(name, shared / "data" / "coco-mini", model)), said
        finally:
            model.close()


def main() -> None:
    """Measure, print, and with `--write` record in docs/measurements.md."""
    parser = argparse.ArgumentParser(prog="scripts/prove imports", description=__doc__)
    parser.add_argument("--write", action="store_true", help="record in docs/measurements.md")
    parser.add_argument("--only", choices=KNOWN, action="append", help="only this family; may be repeated")
    options = parser.parse_args()
    shared = Path(os.environ.get("SIGHTWIRE_SHARED", ""))
    rows: list[tuple[str, ...]] = []
    said = []
    for name in options.only or KNOWN:
        if not (shared / "models" / KNOWN[name].file).is_file():
            said.append(f"{name}: not measured, $SIGHTWIRE_SHARED has no models/{KNOWN[name].file}.")
            continue
        found, how = imported(name, shared)
        rows += found
        said.append(how)
    header = ("file", "split", "pictures", "known AP", "AP", "AP with defaults", "within .01")
    options_of = "; ".join(f"of {name} {KNOWN[name].nearest}" for name in KNOWN if KNOWN[name].nearest)
    body = f"{table(header, rows)}\n{' '.join(said)} AP: options {options_of}, of the others as by default.\n"
    print(body)
    if options.write:
        section("imports", "Known weights through models import", "scripts/prove imports", body)
    sys.exit(any(row[-1] == "NO" for row in rows))


if __name__ == "__main__":
    main()
