"""`scripts/prove tensorrt [--write] [--only NAME] [--once]`: every INT8 model of the catalogue built by TensorRT-RTX.

For every GPU that it builds for, in both forms, and the float model beside them; twice, to see whether the bytes are
the same (they are not: names that the compiler makes up differ). Models from the web: with `$SIGHTWIRE_SHARED`.

No GPU is needed or used: what plans compute, and how fast, is not seen here. What is seen are the convolutions of a
plan and its passes over tensors beside them, which the plan lists in its own text, documented nowhere.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from engines.card import Card, Precision
from engines.errors import EngineError
from engines.pull import pull
from engines.store import ModelStore
from engines.trt.building import build
from engines.trt.features import Features
from engines.trt.flavours import Flavour, load
from engines.trt.order import Floats
from tests.prove.record import section, table
from tests.support.cache import cache
from tests.support.models import obtainable
from tests.support.rtx import order_of_card

_FORMS: tuple[tuple[Precision, Floats], ...] = (("int8", "f16"), ("int8", "f32"), ("fp32", "f16"))
_HEADER = (
    "model", "file", "float parts", "for", "CPU s", "plan MiB", "convolutions", "passes",
    "bytes that differ in a second", "warnings",
)  # fmt: skip


def models(names: list[str] | None) -> Iterator[tuple[Card, Path]]:
    """Card and folder of each model with an INT8 file whose weights can be had here."""
    with tempfile.TemporaryDirectory(prefix="tensorrt-") as made:
        for name, source in obtainable().items():
            if names and name not in names:
                continue
            with cache() as kept:
                store = ModelStore(kept / "models" if source is None else Path(made))
                card, folder = pull(name, store, source=source)
            if "int8" in card.files:
                yield card, folder


def rows(flavour: Flavour, card: Card, folder: Path, again: bool) -> Iterator[tuple[str, ...]]:
    """One for each form and target."""
    for precision, floats in _FORMS:
        for target in Features.of(flavour.trt).targets:
            order = order_of_card(card, folder, precision, floats, target)
            head = (card.name, precision, floats, ".".join(map(str, target)))
            began = time.process_time()
            try:
                built = build(flavour, order)
            except EngineError as error:
                yield (
                    *head,
                    f"{time.process_time() - began:.1f}",
                    "-",
                    "-",
                    str(error).replace(f"{order.model}: ", ""),
                )
                continue
            seconds = time.process_time() - began
            differ = _apart(built.plan, build(flavour, order).plan) if again else ""
            said = "; ".join(built.warnings) or "none"
            listed = (
                str(len(re.findall(rb"\n\s*%b=\{ name=" % kind, built.plan))) for kind in (b"corrltn", b"function")
            )
            yield (*head, f"{seconds:.1f}", f"{len(built.plan) / 2**20:.1f}", *listed, differ, said)


def _apart(one: bytes, other: bytes) -> str:
    """How many bytes differ."""
    if len(one) != len(other):
        return f"{len(one)} and {len(other)} bytes long"
    return str(np.count_nonzero(np.frombuffer(one, np.uint8) != np.frombuffer(other, np.uint8)))


def main() -> None:
    """Build, print, and with `--write` record in docs/measurements.md. Fails if float16 gives no plan, or a warning."""
    parser = argparse.ArgumentParser(prog="scripts/prove tensorrt", description=__doc__)
    parser.add_argument("--write", action="store_true", help="record in docs/measurements.md")
    parser.add_argument("--only", action="append", metavar="NAME", help="only this model; may be repeated")
    parser.add_argument("--once", action="store_true", help="do not build each plan a second time")
    options = parser.parse_args()
    flavour = load("tensorrt_rtx")
    found = []
    for card, folder in models(options.only):
        for row in rows(flavour, card, folder, not options.once):
            print("  ".join(row), flush=True)
            found.append(row)
    body = f"{flavour}, without a GPU: built, not run.\n\n{table(_HEADER, found)}"
    print(body)
    if options.write:
        section("tensorrt", "INT8 plans of the catalogue", "scripts/prove tensorrt", body)
    sys.exit(any(row[2] == "f16" and row[-1] != "none" for row in found))


if __name__ == "__main__":
    main()
