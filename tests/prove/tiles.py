"""`scripts/prove tiles [--write]`: what tiles find of small objects, and what they cost.

Needs `$SIGHTWIRE_SHARED` with `data/coco-mini`; gets person-ssdlite.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import track

from agent.commands._fetch import pull_with_bar
from calibration.measures.coco import precision_by_size
from calibration.pictures.folder import read_picture
from engines.backends.openvino import Config as OpenVINO
from engines.model import open_model
from engines.pixels import Image, Picture
from engines.results import Detections
from engines.store import ModelStore, default_root
from engines.tasks import Options
from engines.tiles import Tiles, merge
from tests.prove.record import section, table
from tests.support.datasets import pictures_of_coco

MODEL = "person-ssdlite"
THRESHOLD = 0.01
WAYS: dict[str, Tiles | None] = {
    "the whole picture": None,
    "2 x 2 and the whole": Tiles(grid=(2, 2)),
    "2 x 2 alone": Tiles(grid=(2, 2), whole=False),
    "3 x 3 and the whole": Tiles(grid=(3, 3)),
}


def main() -> int:
    """Measure, print and with `--write` record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    options = parser.parse_args()
    data = Path(os.environ.get("SIGHTWIRE_SHARED", "")) / "data" / "coco-mini"
    if not data.is_dir():
        print("Not measured: $SIGHTWIRE_SHARED has no data/coco-mini.", file=sys.stderr)
        return 1
    store = ModelStore(default_root())
    pull_with_bar(MODEL, store)
    card, folder = store.find(MODEL)
    model = open_model(card, folder, "int8", OpenVINO(), Options(threshold=THRESHOLD))
    annotations = data / "instances_train2017.json"
    pictures = pictures_of_coco(annotations, data / "train2017")

    def look(image: Image, tiles: Tiles | None) -> Detections:
        regions = (None,) if tiles is None else tiles.regions(image.whole)
        found = [result for region in regions for result in model([Picture(image, region)])]
        parts = [part for part in found if isinstance(part, Detections)]
        return parts[0] if tiles is None else merge(parts, [region for region in regions if region is not None])

    rows = []
    try:
        for name, tiles in WAYS.items():
            found, taken = [], []
            for path in track(pictures, name, console=Console(stderr=True), transient=True):
                image = read_picture(path)
                started = time.perf_counter()
                found.append(look(image, tiles))
                taken.append((time.perf_counter() - started) * 1e3)
            ap = precision_by_size(annotations, card.labels, list(pictures.values()), found)
            rows.append(
                (name, *(f"{ap[size]:.3f}" for size in ("all", "small", "medium", "large")), f"{median(taken):.0f}")
            )
    finally:
        model.close()
    body = f"{MODEL} INT8 on {len(pictures)} photos of COCO train2017, people.\n\n" + table(
        ("looked at", "AP", "small", "medium", "large", "ms a picture"), rows
    )
    print(body)
    if options.write:
        section("tiles", "Tiles", "scripts/prove tiles", body)
    return 0


if __name__ == "__main__":
    sys.exit(main())
