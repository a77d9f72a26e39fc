"""Tracks of real people: `scripts/prove tracking [--beside PYTHON] [--write]`.

MOTA and IDF1 on a surveillance video of pedestrians, with each detector that can be had, every frame and fewer, the
whole and its halves; and the time of a frame of 20 objects. Needs the folder that `$SIGHTWIRE_SHARED` names, with
`data/video/vtest.avi` and its truth `data/tracking/vtest_gt_frames_1-400.csv`, and `pip install motmetrics`, which no
test needs. `--beside`: a Python that has the package `trackers`, whose ByteTrack is measured on the same detections.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agent.sources import Intake
from agent.sources.file import Config as File
from agent.tracking.settings import TrackSection
from engines.backends import openvino
from engines.card import Card, Precision
from engines.model import open_model
from engines.pixels import Picture
from engines.pull import pull
from engines.results import Detections
from engines.store import ModelStore
from engines.tasks import Options
from tests.prove.record import section, table
from tests.support.cache import cache
from tests.support.clear_mot import read_truth, score
from tests.support.models import obtainable
from tests.support.walks import THRESHOLD, Walker, seen

MODELS: tuple[tuple[str, Precision], ...] = (
    ("yolox-nano", "fp32"), ("yolox-nano", "int8"), ("nanodet-m", "int8"), ("person-ssdlite", "int8"),
)  # fmt: skip
THRESHOLDS = (0.25, 0.4, 0.5)
STEPS = (1, 2, 3)
LEAST = 0.05
Film = list[tuple[int, Detections]]
"""When, ns, and what was found."""

_THEIRS = """
import sys, time
import numpy as np, supervision as sv
from trackers import ByteTrackTracker
film = np.load(sys.argv[1])
rows, times, tracker = [], [], ByteTrackTracker()
for frame in range(int(film["frames"])):
    of = film["frame"] == frame
    boxes, score = film["xyxy"][of].astype(float), film["score"][of].astype(float)
    found = sv.Detections(xyxy=boxes, confidence=score, class_id=np.zeros(len(score), int))
    begun = time.perf_counter()
    found = tracker.update(found)
    times.append(time.perf_counter() - begun)
    rows += [(frame, i, *box) for box, i in zip(found.xyxy, found.tracker_id) if i is not None and i >= 0]
np.savez(sys.argv[2], rows=np.array(rows, float).reshape(-1, 6), ms=np.median(times) * 1e3)
"""


def main() -> None:
    """Measure, print, and with `--write` record in docs/measurements.md."""
    parser = argparse.ArgumentParser(prog="scripts/prove tracking", description=__doc__)
    parser.add_argument("--write", action="store_true", help="record in docs/measurements.md")
    parser.add_argument("--beside", metavar="PYTHON", help="a Python that has the package `trackers`")
    options = parser.parse_args()
    shared = Path(os.environ.get("SIGHTWIRE_SHARED", "shared"))
    video, truth = shared / "data/video/vtest.avi", shared / "data/tracking/vtest_gt_frames_1-400.csv"
    for path in (video, truth):
        if not path.is_file():
            raise SystemExit(f"{path}: is not there; SIGHTWIRE_SHARED names the folder with the data")
    if importlib.util.find_spec("motmetrics") is None:
        raise SystemExit("motmetrics is not installed: pip install motmetrics")
    body = _quality(video, truth, options.beside) + "\n" + _speed(options.beside)
    print(body)
    if options.write:
        section("tracking", "Tracks", "scripts/prove tracking", body)


def _quality(video: Path, truth_file: Path, beside: str | None) -> str:
    truth, rows = read_truth(truth_file), []
    last = int(truth[:, 0].max()) + 1
    halves = [range(last // 2), range(last // 2, last)]
    for name, precision in MODELS:
        film = _detections(video, name, precision)
        if film is None:
            print(f"{name}: its weights cannot be had here")
            continue
        for threshold in THRESHOLDS:
            for step in STEPS:
                frames = range(0, last, step)
                found = _ours([film[frame] for frame in frames], frames, threshold)
                cells = [score(truth, found, frames)]
                cells += [score(truth, found, [frame for frame in half if frame % step == 0]) for half in halves]
                theirs = _theirs([film[frame] for frame in frames], threshold, beside)
                said = "-"
                if theirs is not None:
                    theirs[0][:, 0] = np.array(frames)[theirs[0][:, 0].astype(int)]
                    said = str(score(truth, theirs[0], frames))
                rows.append((f"{name}@{precision}", threshold, step, *map(str, cells), cells[0].switches, said))
                print("  ".join(map(str, rows[-1])), flush=True)
    header = ("detector", "threshold", "every", "MOTA / IDF1", "first half", "second half", "switches", "`trackers`")
    return (
        f"{last} frames of 768x576 at 10 frames/s, IoU .5; `track:` as it is by default. Halves are scored alone, of "
        "tracks that go through. `trackers`: ByteTrack of that package as it is by default, given what is over the "
        f"threshold.\n\n{table(header, rows)}"
    )


def _speed(beside: str | None, objects: int = 20, frames: int = 400, rate: int = 30) -> str:
    """Of a frame with 20 objects that walk about, 5 % of them unseen in each frame."""
    rng = np.random.default_rng(0)
    walkers = [
        Walker(
            tuple(rng.uniform((100, 100), (1180, 620))),
            tuple(rng.uniform(-30, 30, 2)),
            tuple(rng.uniform((20, 60), (40, 120))),
            score=lambda _: float(rng.choice([0, rng.uniform(0.3, 0.95)], p=[0.05, 0.95])),
        )
        for _ in range(objects)
    ]
    film: Film = []
    for frame in range(frames):
        film.append((frame * 1_000_000_000 // rate, seen(walkers, frame / rate, rng)[0]))
    times: list[float] = []
    theirs = []
    for _ in range(5):
        times.append(_timed(film))
        if (result := _theirs(film, 0.0, beside)) is not None:
            theirs.append(result[1])
    said = f"; `trackers` beside it {min(theirs):.2f} ms" if theirs else ""
    return f"A frame of {objects} objects takes {min(times):.2f} ms (median of {frames}, best of 5 runs{said}).\n"


def _timed(film: Film) -> float:
    tracker = TrackSection(use="people").build(("person",), np.array([THRESHOLD], np.float32))
    times = []
    for at_ns, found in film:
        begun = time.perf_counter()
        tracker.update(found, at_ns)
        times.append(time.perf_counter() - begun)
    return float(np.median(times) * 1e3)


def _ours(film: Film, frames: Sequence[int], threshold: float) -> np.ndarray:
    settings, labels, thresholds = TrackSection(use="people"), ("person",), np.array([threshold], np.float32)
    tracker, weakest = settings.build(labels, thresholds), settings.weakest(labels, thresholds)[0]
    rows = []
    for frame, (at_ns, found) in zip(frames, film, strict=True):
        tracked = tracker.update(found[found.score >= weakest], at_ns)
        for box, track in zip(tracked.found.xyxy.tolist(), tracked.track.tolist(), strict=True):
            if track:
                rows.append((frame, track, *box))
    return np.array(rows, float).reshape(-1, 6)


def _theirs(film: Film, threshold: float, python: str | None) -> tuple[np.ndarray, float] | None:
    if python is None:
        return None
    with tempfile.TemporaryDirectory(prefix="tracking-") as folder:
        given, made = Path(folder) / "given.npz", Path(folder) / "made.npz"
        kept = [found[found.score >= threshold] for _, found in film]
        frame = np.repeat(np.arange(len(kept)), [len(found) for found in kept])
        columns = {name: np.concatenate([getattr(found, name) for found in kept]) for name in ("xyxy", "score")}
        np.savez(given, frame=frame, frames=len(kept), **columns)
        subprocess.run([python, "-c", _THEIRS, str(given), str(made)], check=True)
        with np.load(made) as result:
            return result["rows"], float(result["ms"])


def _detections(video: Path, name: str, precision: Precision) -> Film | None:
    """Persons in every frame, kept between runs; None where the model cannot be had."""
    if name not in obtainable():
        return None
    with cache() as folder, tempfile.TemporaryDirectory(prefix="tracking-") as made:
        source = obtainable()[name]
        store = ModelStore(folder / "models" if source is None else Path(made))
        card, place = pull(name, store, source=source)
        kept = folder / "tracking" / f"{video.stem}-{name}-{card.files[precision].sha256[:12]}.npz"
        if not kept.exists():
            kept.parent.mkdir(exist_ok=True)
            print(f"{name}@{precision}: looking at {video.name}", flush=True)
            _look(video, card, place, precision, kept)
        with np.load(kept) as columns:
            label = np.zeros(len(columns["score"]), np.int32)
            rows = [columns["frame"] == frame for frame in range(len(columns["at_ns"]))]
            return [
                (int(at_ns), Detections(xyxy=columns["xyxy"][of], score=columns["score"][of], label=label[of]))
                for at_ns, of in zip(columns["at_ns"], rows, strict=True)
            ]


def _look(video: Path, card: Card, folder: Path, precision: Precision, kept: Path) -> None:
    model = open_model(card, folder, precision, openvino.Config(), Options(threshold=LEAST, only=("person",)))
    at_ns, found = [], []
    try:
        with File(path=video).open(threading.Event(), Intake()) as pictures:
            for captured, image in pictures:
                at_ns.append(captured.monotonic_ns)
                found.append(model([Picture(image, None)])[0])
    finally:
        model.close()
    frame = np.repeat(np.arange(len(found)), [len(result) for result in found])
    columns = {name: np.concatenate([getattr(result, name) for result in found]) for name in ("xyxy", "score")}
    np.savez(kept, at_ns=np.array(at_ns), frame=frame, **columns)


if __name__ == "__main__":
    main()
