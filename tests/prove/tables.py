"""`scripts/prove tables`: tables write the INT8 files that were proved, with oldest and newest onnx and numpy.

Tables of weights that come from the web are tried where `$SIGHTWIRE_SHARED/models` has those. Prints a line a pair of
versions; the exit code is 1 where a byte differs.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

from engines import catalogue
from engines.pull import pull
from engines.store import ModelStore
from tests.packaging.test_floors import REQUIREMENTS, at_floor
from tests.prove.record import table
from tests.support.models import obtainable
from tests.support.rebuild import install, sums, sums_with


def pairs() -> list[tuple[str, str]]:
    """Requirements of onnx and numpy: oldest and newest of each, in every combination."""
    known: dict[str, Requirement] = {requirement.name: requirement for requirement in REQUIREMENTS}
    both = [(at_floor(known[name]), str(known[name])) for name in ("onnx", "numpy")]
    return list(itertools.product(*both))


def main() -> int:
    """Print the table; 1 where something differs."""
    with tempfile.TemporaryDirectory(prefix="tables-") as folder:
        store = ModelStore(Path(folder) / "models")
        for name, source in obtainable().items():
            if catalogue.entry(name).int8 is not None:
                pull(name, store, source=source)
        wanted = {name: int8.sha256 for name in store.names() if (int8 := catalogue.entry(name).int8)}
        here = sums(store)
        rows = []
        for index, versions in enumerate(pairs()):
            packages = Path(folder) / str(index)
            install(packages, *versions)
            found = sums_with(packages, store)
            used = (found.pop("onnx"), found.pop("numpy"))
            wrong = [name for name, value in found.items() if value != wanted.get(name, here[name])]
            rows.append((*used, len(found) - len(wrong), ", ".join(wrong) or "none"))
    print(table(("onnx", "numpy", "files as proved", "other bytes"), rows), end="")
    return int(any(row[3] != "none" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
