"""`scripts/prove gpu_pixels [--write] [--count N]`: the kernel that prepares pictures against the way of the CPU.

The kernel's source runs as C++ on the CPU: what is shown is its arithmetic, not a GPU. Ends with 1 where a difference
is more than a level.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from dataclasses import dataclass

import cv2
from hypothesis import HealthCheck, Phase, given, settings

from engines.card import Input
from tests.prove.record import section, table
from tests.support.gpu_cases import RULES, Case, apart, by_cpu, cases
from tests.support.host_kernels import prepared
from tests.support.pictures import FORMATS

MOST_APART = 1
"""Levels."""


@dataclass
class Found:
    """What the cases of one format and rule came to."""

    cases: int = 0
    pixels: int = 0
    halved: int = 0
    parts: int = 0
    odd: int = 0
    worst: int = 0


def compared(count: int) -> dict[tuple[str, str], Found]:
    """So many cases, drawn as the tests draw theirs."""
    found: dict[tuple[str, str], Found] = defaultdict(Found)

    @settings(max_examples=count, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))
    @given(cases())
    def compare(drawn: tuple[Input, Case]) -> None:
        into, (picture, geometry) = drawn
        one = found[picture.image.format, into.resize]
        one.cases += 1
        one.pixels += geometry.tensor[0] * geometry.tensor[1]
        one.halved += geometry.halvings > 0
        one.parts += picture.region is not None
        one.odd += any(side % 2 for side in picture.image.size)
        one.worst = max(one.worst, apart(prepared([picture], [geometry])[0], by_cpu((picture, geometry))))

    compare()
    return found


def main() -> int:
    """Compare, print and with `--write` record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    parser.add_argument("--count", type=int, default=20_000, metavar="N", help="pictures")
    options = parser.parse_args()
    found = compared(options.count)
    body = table(
        ("format", "resize", "pictures", "pixels", "halved", "of regions", "odd sizes", "worst difference, levels"),
        [
            (pixels, rule, one.cases, one.pixels, one.halved, one.parts, one.odd, one.worst)
            for pixels in FORMATS
            for rule in RULES
            for one in [found[pixels, rule]]
        ],
    )
    body = f"Source of the kernel compiled as C++, against OpenCV {cv2.__version__}; no GPU took part.\n\n{body}"
    print(body)
    if options.write:
        section("gpu_pixels", "Preparation on the GPU: numerics", "scripts/prove gpu_pixels", body)
    return 0 if max(one.worst for one in found.values()) <= MOST_APART else 1


if __name__ == "__main__":
    sys.exit(main())
