"""`scripts/prove heads [--write] [--only FIGURE]`: detection heads on real weights against known AP, and their time.

AP needs `$SIGHTWIRE_SHARED` with `models/` and `data/coco-mini`; the time of reading needs nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from calibration.measures.coco import average_precision
from calibration.pictures.folder import read_picture
from engines import graph
from engines.backends.openvino import Config as OpenVINO
from engines.card import Card, Input, ModelFile, Origin, sha256_of
from engines.catalogue import entry
from engines.graph import Normalisation
from engines.model import Model, open_model, task_config
from engines.pixels import Picture, fit
from engines.results import Detections
from engines.tasks import Options
from tests.prove.record import section, table
from tests.support.datasets import pictures_of_coco
from tests.support.heads import HEADS, Head, crowd

THRESHOLD = 0.01
"""Least score that counts for average precision."""
TOLERANCE = 0.01
REPEATS = 300
_IMAGENET: dict[str, Any] = {"mean": (103.53, 116.28, 123.675), "std": (57.375, 57.12, 58.395), "channels": "bgr"}


@dataclass(frozen=True)
class Known:
    """A file, how it is fed and read, and its AP as others measured it."""

    file: str
    input: Input
    normalisation: Normalisation
    task: dict[str, Any]
    known: dict[str, float]
    nearest: dict[str, Any] = field(default_factory=dict)
    """Options that come nearest to how the known figures were measured, where those are not the defaults."""


KNOWN = {
    "yolox": Known(
        "yolox_nano_416.onnx",
        Input(width=416, height=416, fit="letterbox", align="top-left", fill=114, resize="linear"),
        Normalisation(channels="bgr"),
        {"type": "yolox", "output": "output"},
        {"val": 0.300, "train": 0.294},
    ),
    "nanodet": Known(
        "nanodet_m_416.onnx",
        Input(width=416, height=416, fit="letterbox", resize="linear"),
        Normalisation(**_IMAGENET),
        {"type": "nanodet", "scores": ["792", "814", "836"], "boxes": ["795", "817", "839"], "cell": "middle"},
        {"val": 0.248, "train": 0.258},
    ),
    "fastestdet": Known(
        "fastestdet_352.onnx",
        Input(width=352, height=352, fit="stretch", resize="linear"),
        Normalisation(channels="bgr", std=(255.0,)),
        {"type": "fastestdet", "output": "758"},
        {"val": 0.160, "train": 0.196},
        # How they were measured is not known. The project's own ONNX example suppresses so, and it explains them.
        {"iou": 0.35, "agnostic": True},
    ),
}


def opened(name: str, known: Known, shared: Path, folder: Path) -> Model:
    """The file with its normalisation baked in, as a pulled model would be, on OpenVINO."""
    path, source = folder / known.file, shared / "models" / known.file
    network = graph.canonical(graph.upgrade(graph.load(source), known.file))
    path.write_bytes(graph.serialise(graph.bake(network, known.normalisation, known.file)))
    card = Card(
        schema="sightwire.card/1",
        name=name,
        summary="known weights",
        input=known.input,
        task=known.task,
        labels=entry("yolox-nano").label_names(),
        files={"fp32": ModelFile(path=path.name, sha256=sha256_of(path))},
        origin=Origin(source=known.file, sha256=sha256_of(source), licence="NOASSERTION"),
    )
    return open_model(card, folder, "fp32", OpenVINO())


def precision(name: str, data: Path, model: Model) -> Iterator[tuple[str, ...]]:
    """Rows of the table: AP of each split, with the options nearest to the known figure's and with defaults."""
    known = KNOWN[name]
    for split, expected in known.known.items():
        annotations = data / f"instances_{split}2017.json"
        pictures = pictures_of_coco(annotations, data / f"{split}2017")
        said = []
        for path in track(pictures, f"{name} {split}", console=Console(stderr=True), transient=True):
            picture = Picture(read_picture(path))
            geometry = model.geometry(picture.image, None)
            said.append((model.engine([picture], [geometry]), geometry))
        measured = []
        for options in (known.nearest, {}):
            task = task_config(model.card).open(model.card.labels, Options(threshold=THRESHOLD, **options))
            found = [task.read(raw, [geometry])[0] for raw, geometry in said]
            measured.append(average_precision(annotations, model.card.labels, list(pictures.values()), found))
        verdict = "yes" if abs(measured[0] - expected) <= TOLERANCE else "NO"
        yield (known.file, split, str(len(said)), *(f"{ap:.3f}" for ap in (expected, *measured)), verdict)


def ap(name: str) -> str:
    """AP of one file on both splits."""
    shared = Path(os.environ.get("SIGHTWIRE_SHARED", ""))
    if not (shared / "models" / KNOWN[name].file).is_file():
        return f"Not measured: $SIGHTWIRE_SHARED has no models/{KNOWN[name].file}.\n"
    with tempfile.TemporaryDirectory(prefix="heads-") as folder:
        model = opened(name, KNOWN[name], shared, Path(folder))
        try:
            rows = list(precision(name, shared / "data" / "coco-mini", model))
        finally:
            model.close()
    header = ("file", "split", "pictures", "known AP", "AP", "AP with defaults", "within .01")
    how = f"AP: options {KNOWN[name].nearest or 'as by default'}, threshold {THRESHOLD}.\n"
    return f"{table(header, rows)}\n{how}"


def speed() -> str:
    """Milliseconds of one `read` on one thread: 200 boxes of 40 objects over the threshold, 80 labels."""
    lines = []
    for name, head in HEADS.items():
        rows = 300 if head.task["type"] in ("nms", "detr") else 8400
        task = head.task | ({"grids": [40, 20, 10, 5, 3, 1]} if name == "ssd" else {})  # about as many anchors
        times, shapes = _read_times(replace(head, rows=rows, task=task))
        lines.append((name, shapes, f"{median(times):.3f}", f"{min(times):.3f}", f"{np.percentile(times, 95):.3f}"))
    return table(("head", "outputs", "ms, median (wanted: 0.5)", "least", "p95"), lines)


def _read_times(head: Head) -> tuple[list[float], str]:
    """Milliseconds of reading one picture's outputs, which were just written, as an engine does; and their shapes."""
    labels, size = [str(i) for i in range(80)], (640, 640)
    rng = np.random.default_rng(0)
    objects = crowd(40, len(labels), size, 0)[np.repeat(np.arange(40), 5)]
    shaken = objects.xyxy + rng.normal(0, 4, objects.xyxy.shape)
    row = head.row(Detections(xyxy=shaken, score=objects.score, label=objects.label), len(labels), size)
    said = {n: (v + rng.uniform(0, 0.02, v.shape)).astype(np.float32)[None] for n, v in row.items()}
    raw = {n: np.empty_like(v) for n, v in said.items()}
    task = head.config.open(labels, Options())
    geometry = fit((1280, 720), None, Input(width=640, height=640, fit="letterbox"))
    taken = []
    for _ in range(REPEATS):
        for n, values in said.items():
            np.copyto(raw[n], values)
        started = time.perf_counter()
        task.read(raw, [geometry])
        taken.append((time.perf_counter() - started) * 1e3)
    return taken, ", ".join(str(array.shape[1:]) for array in raw.values())


FIGURES: dict[str, Callable[[], str]] = {name: partial(ap, name) for name in KNOWN} | {"speed": speed}


def main() -> None:
    """Measure, print, and with `--write` record in docs/measurements.md."""
    parser = argparse.ArgumentParser(prog="scripts/prove heads", description=__doc__)
    parser.add_argument("--write", action="store_true", help="record in docs/measurements.md")
    parser.add_argument("--only", choices=FIGURES, action="append", help="only this figure; may be repeated")
    options = parser.parse_args()
    missed = False
    for name in options.only or FIGURES:
        body = FIGURES[name]()
        missed |= "| NO |" in body
        print(f"## {name}\n\n{body}", flush=True)
        if options.write:
            section(f"heads-{name}", f"Detection heads: {name}", f"scripts/prove heads --only {name}", body)
    sys.exit(missed)


if __name__ == "__main__":
    main()
