"""`scripts/prove ways [--write] [--every N]`: what the way of a picture to a network does to tensors and to accuracy.

Needs `$SIGHTWIRE_SHARED` with `data/imagenet-sample`, `data/coco-mini` and `data/video`; gets efficientnet-lite0 and
person-ssdlite. Ends with 1 where another pixel format than bgr costs more than half a point, or moves a photo's tensor
by more than two levels on average.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from agent.commands._fetch import pull_with_bar
from agent.commands._pictures import video_frames
from calibration.measures.choose import measure_for, reading
from calibration.pictures import Sample, distinct, from_folder, from_frames, in_way, tensor
from calibration.pictures.duplicates import APART, apart
from calibration.truth.read import read_truth
from engines.backends.openvino import Config as OpenVINO
from engines.model import open_model, task_config
from engines.pixels import Image, Picture
from engines.results import Result
from engines.store import ModelStore, default_root
from tests.prove.record import section, table
from tests.support.pictures import image_from

MOST_LOST = 0.5
"""Points."""
MOST_APART = 2.0
"""Levels."""


def _nv12(image: Image) -> Image:
    luma, u, v = in_way(image, "i420").planes
    return Image((luma, np.dstack([u, v])), "nv12", "601", "limited", image.size)


WAYS: dict[str, Callable[[Image], Image]] = {
    "bgr": lambda image: image,
    "i420, as `--as i420` makes it (601, limited)": lambda image: in_way(image, "i420"),
    "i420, 601, full": lambda image: image_from(image.planes[0], "i420", "601", "full"),
    "i420, 709, limited": lambda image: image_from(image.planes[0], "i420", "709", "limited"),
    "nv12, 601, limited": _nv12,
}


@dataclass(frozen=True)
class Case:
    """A model and labelled pictures."""

    model: str
    pictures: Path
    labels: Path


def through(sample: Sample, way: Callable[[Image], Image]) -> Sample:
    """The photo in another pixel format."""
    return replace(sample, read=lambda: way(sample.read()))


def accuracy(case: Case, store: ModelStore, every: int) -> tuple[list[tuple[str, ...]], bool]:
    """Rows of the table, and whether all is within the limits."""
    pull_with_bar(case.model, store)
    card, folder = store.find(case.model)
    samples = from_folder(case.pictures, "bgr")[::every]
    truth = read_truth(case.labels, samples, card.labels, task_config(card).finds_boxes, partial=True)
    samples = [sample for sample in samples if sample.name in truth.of]
    measure = measure_for(card, samples, truth)
    model = open_model(card, folder, "fp32", OpenVINO(), reading(task_config(card)))
    rows, fine = [], True
    try:
        found: dict[str, list[Result]] = {}
        for name, way in WAYS.items():
            found[name], levels = [], []
            for sample in track(samples, f"{case.model} {name}", console=Console(stderr=True), transient=True):
                found[name] += model([Picture(way(sample.read()))])
                one, other = (tensor(each, card.input)[0] for each in (sample, through(sample, way)))
                levels.append(float(np.abs(one.astype(int) - other).mean()))
            told = measure.compare(found["bgr"], found[name])
            rows.append(
                (
                    case.model,
                    name,
                    f"{told.b:.2f}",
                    f"{told.loss:.2f} ({told.interval[0]:.2f} to {told.interval[1]:.2f})",
                    f"{np.mean(levels):.2f}",
                    f"{max(levels):.2f}",
                    str(len(samples)),
                )
            )
            fine = fine and told.loss <= MOST_LOST and max(levels) <= MOST_APART
    finally:
        model.close()
    return rows, fine


COPIES: dict[str, Callable[[Image], Image]] = {
    "JPEG of quality 30": lambda image: _bgr(cv2.imdecode(cv2.imencode(".jpg", image.planes[0], [1, 30])[1], 1)),
    "half the size": lambda image: _bgr(
        cv2.resize(image.planes[0], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    ),
    "10 levels brighter": lambda image: _bgr(cv2.add(image.planes[0], (10, 10, 10, 0))),
    "noise, sigma 15": lambda image: _bgr(
        np.clip(image.planes[0] + np.random.default_rng(0).normal(0, 15, image.planes[0].shape), 0, 255).astype(
            np.uint8
        )
    ),
    "2 % cut off at two sides": lambda image: _bgr(image.planes[0][image.size[1] // 50 :, image.size[0] // 50 :]),
}


def _bgr(plane: np.ndarray) -> Image:
    return Image((plane,), "bgr", "601", "full", (plane.shape[1], plane.shape[0]))


def copies(samples: Sequence[Sample]) -> list[tuple[str, ...]]:
    """How far copies of photos are from them, and other photos."""
    images = [sample.read() for sample in samples]
    rows = []
    for name, made in COPIES.items():
        levels = [apart(image, made(image)) for image in images]
        rows.append((name, f"{np.median(levels):.0f}", f"{np.percentile(levels, 95):.0f}", f"{max(levels):.0f}"))
    others = [apart(a, b) for index, a in enumerate(images) for b in images[:index]]
    return [*rows, ("another photo", f"{np.median(others):.0f}", "", f"least {min(others):.0f}")]


def repeated(data: Path) -> list[tuple[str, ...]]:
    """What is left of folders and videos without their near duplicates."""
    folders = [name for name in ("imagenet-sample", "coco-mini", "magnetic-tile/good") if (data / name).is_dir()]
    rows = [_left(name, from_folder(data / name, "bgr")) for name in folders]
    for video in sorted((data / "video").glob("*.[am][vp][i4]")):
        for count in (100, 400):
            with tempfile.TemporaryDirectory() as folder, video_frames(video, count) as frames:
                samples = from_frames(frames, Path(folder), "i420", count)
                rows.append(_left(f"{video.name}, {count} frames", samples))
    return rows


def _left(name: str, samples: Sequence[Sample]) -> tuple[str, ...]:
    started = time.perf_counter()
    kept = len(distinct(samples).kept)
    return name, str(len(samples)), str(kept), f"{(time.perf_counter() - started) * 1e3 / len(samples):.1f}"


def main() -> int:
    """Measure, print and with `--write` record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th photo")
    options = parser.parse_args()
    data = Path(os.environ.get("SIGHTWIRE_SHARED", "")) / "data"
    coco = data / "coco-mini"
    if not coco.is_dir() or not (data / "imagenet-sample").is_dir():
        print("Not measured: $SIGHTWIRE_SHARED has no data/coco-mini and data/imagenet-sample.", file=sys.stderr)
        return 1
    cases = [
        Case("efficientnet-lite0", data / "imagenet-sample", data / "imagenet-sample" / "labels.csv"),
        Case("person-ssdlite", coco / "val2017", coco / "instances_val2017.json"),
        Case("person-ssdlite", coco / "train2017", coco / "instances_train2017.json"),
    ]
    store = ModelStore(default_root())
    measured = [accuracy(case, store, options.every) for case in cases]
    ways = table(
        (
            "model, FP32",
            "pixel format",
            "top-1 or AP",
            "lost against bgr (95 %)",
            "levels apart, mean",
            "most",
            "photos",
        ),
        [row for rows, _ in measured for row in rows],
    )
    near = table(
        ("copy of a photo", "median", "95 %", "most"), copies(from_folder(data / "imagenet-sample", "bgr")[::4])
    )
    sets = table(("pictures", "found", "kept", "ms each"), repeated(data))
    body = (
        f"{ways}\nNear duplicates: levels that two pictures are apart; up to {APART} they are one.\n\n{near}\n"
        f"What is left of real sets:\n\n{sets}"
    )
    print(body)
    if options.write:
        section("ways", "Pixel formats and near duplicates", "scripts/prove ways", body)
    return 0 if all(fine for _, fine in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
