"""`scripts/prove tensorrt [--write] [--only NAME] [--once]`: every INT8 model of the catalogue built by TensorRT-RTX.

For every GPU that it builds for, in both forms, and twice, to see whether the bytes are the same (they are not: names
that the compiler makes up differ). Models that come from the web: with `$SIGHTWIRE_SHARED`. No GPU is needed or used:
what plans compute, and how fast, is not seen here.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from engines.card import Card
from engines.errors import EngineError
from engines.pull import pull
from engines.store import ModelStore
from engines.trt.building import build
from engines.trt.features import Features
from engines.trt.flavours import Flavour, load
from tests.prove.record import section, table
from tests.support.cache import cache
from tests.support.models import obtainable
from tests.support.rtx import order_of_card

_HEADER = ("model", "float parts", "for", "CPU s", "plan MiB", "bytes that differ in a second", "warnings")


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
    for floats in ("f16", "f32"):
        for target in Features.of(flavour.trt).targets:
            order = order_of_card(card, folder, "int8", floats, target)
            head = (card.name, floats, ".".join(map(str, target)))
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
            yield (*head, f"{seconds:.1f}", f"{len(built.plan) / 2**20:.1f}", differ, said)


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
    sys.exit(any(row[1] == "f16" and row[-1] != "none" for row in found))


if __name__ == "__main__":
    main()
