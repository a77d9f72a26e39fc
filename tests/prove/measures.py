"""`scripts/prove measures [--write] [--pictures N]…`: what a comparison of two detectors costs, and its parts.

Made-up pictures of up to 14 objects and 100 detections of 80 labels; needs nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from calibration.measures.average import AveragePrecision
from engines.results import Detections
from tests.prove.record import section, table
from tests.support.scenes import scenes

LABELS = tuple(str(index) for index in range(80))


def filled(found: Detections, rng: np.random.Generator) -> Detections:
    """With noise of low score up to 100 boxes."""
    missing = 100 - len(found)
    corner = rng.uniform(0, 200, (missing, 2))
    order = np.argsort(-(score := np.concatenate([found.score, rng.uniform(0.01, 0.5, missing)])), kind="stable")
    xyxy = np.concatenate([found.xyxy, np.hstack([corner, corner + rng.uniform(10, 200, (missing, 2))])])
    label = np.concatenate([found.label, rng.integers(len(LABELS), size=missing)])
    return Detections(xyxy=xyxy[order], score=score[order], label=label[order])


def timed(run: Callable[[], Any]) -> str:
    started = time.perf_counter()
    run()
    return f"{time.perf_counter() - started:.1f}"


def row(pictures: int) -> tuple[str, ...]:
    made, rng = (
        scenes(pictures, objects=14, guesses=0, crowds=0.02, seed=1, kinds=len(LABELS)),
        np.random.default_rng(0),
    )
    a, b = ([filled(found, rng) for found in results] for results in (made.found, made.other))
    measure = AveragePrecision("AP", 1.5, made.objects, LABELS, 0.25)
    return (
        str(pictures),
        timed(lambda: measure.score(a)),
        timed(lambda: measure.compare(a, b)),
        timed(lambda: measure.compare(a, b[::-1])),
        timed(lambda: measure.badness(a, b)),
    )


def main() -> None:
    """Measure, print and with `--write` record."""
    parser = argparse.ArgumentParser(prog="scripts/prove measures", description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    parser.add_argument("--pictures", type=int, action="append", help="so many; may be repeated (80 and 5000)")
    options = parser.parse_args()
    header = ("pictures", "score (pycocotools), s", "first comparison, s", "with the same FP32 again, s", "badness, s")
    body = table(header, [row(pictures) for pictures in options.pictures or (80, 5000)])
    print(body)
    if options.write:
        section("measures", "Comparing detectors", "scripts/prove measures", body)


if __name__ == "__main__":
    main()
