"""Zones and lines on real people: `scripts/prove rules [--model NAME] [--write]`.

What rules say of the tracks that people have drawn by hand, against what they say of ours, at each rate: how many
crossings and visits are the same within a second, missing, or invented. Needs the folder that `$SIGHTWIRE_SHARED`
names, with `data/video/vtest.avi` and its truth `data/tracking/vtest_gt_frames_1-400.csv`.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from agent.config import Settings
from agent.replay.baseline import differences
from agent.replay.replaying import Replay
from agent.rules import Seen
from engines.results import Detections
from engines.store import ModelStore, default_root
from tests.prove.record import section, table
from tests.support.agents import settings_of

SIZE, RATE, FRAMES = (768, 576), 10, 400
LINES = {
    **{f"x{share}": {"points": [[share / 100, 0], [share / 100, 1]]} for share in (20, 35, 50, 65, 80)},
    **{f"y{share}": {"points": [[0, share / 100], [1, share / 100]]} for share in (45, 55)},
    "door": {"points": [[0.45, 0.35], [0.65, 0.6]]},
}
ZONES = {
    "left": {"polygon": [[0.05, 0.3], [0.4, 0.3], [0.4, 0.6], [0.05, 0.6]]},
    "plaza": {"polygon": [[0.45, 0.3], [0.8, 0.3], [0.8, 0.65], [0.45, 0.65]]},
    "small": {"polygon": [[0.6, 0.4], [0.75, 0.4], [0.75, 0.55], [0.6, 0.55]]},
}
WITHIN_S = 1.0


def site(model: str, every_s: float) -> Settings:
    """The camera, with all lines and zones."""
    camera = {"source": "x.avi", "models": [{"use": "people", "every": every_s}], "zones": ZONES, "lines": LINES}
    return settings_of(
        models={"people": {"model": model}},
        cameras={"dock": {**camera, "track": {"use": "people", "labels": ["person"]}}},
    )


def truth(path: Path) -> Iterator[Seen]:
    """The frames of a MOT file (frame, id, left, top, width, height, ...) as rules see them."""
    rows = np.loadtxt(path, delimiter=",")
    spans = {track: rows[rows[:, 1] == track][:, 0] for track in np.unique(rows[:, 1])}
    for frame in range(1, FRAMES + 1):
        now = rows[rows[:, 0] == frame]
        present = tuple(int(track) for track, at in spans.items() if at.min() <= frame <= at.max())
        xyxy = np.concatenate([now[:, 2:4], now[:, 2:4] + now[:, 4:6]], axis=1)
        found = Detections(xyxy, np.ones(len(now)), np.zeros(len(now)))
        at_ns = round((frame - 1) / RATE * 1e9)
        yield Seen("people", at_ns, SIZE, ("person",), found, now[:, 1].astype(np.int64), present)


def expected(settings: Settings, path: Path) -> list[dict[str, Any]]:
    """What the rules say of the truth, as a replay would."""
    rules = [config.build(name, "people") for _, name, config in settings.cameras["dock"].all_rules()]
    said = []
    for seen in truth(path):
        for rule in rules:
            for finding in rule.see(seen):
                event = {"at_s": seen.at_ns / 1e9, "rule": rule.name, "kind": rule.kind, "phase": finding.phase}
                said.append({**event, "label": "person", "data": finding.data})
    return said


def _compared(event: dict[str, Any]) -> bool:
    """Crossings, and that somebody came; when somebody was given up is the tracker's patience."""
    return event["phase"] in ("moment", "start") and event["at_s"] < FRAMES / RATE


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="yolox-nano")
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    data = Path(os.environ.get("SIGHTWIRE_SHARED", "")) / "data"
    film, drawn = data / "video/vtest.avi", data / "tracking/vtest_gt_frames_1-400.csv"
    if not film.is_file() or not drawn.is_file():
        sys.exit(f"not measured: $SIGHTWIRE_SHARED has no {film.relative_to(data)} and {drawn.relative_to(data)}")
    rows: list[tuple[object, ...]] = []
    for every_s in (0.0, 0.3, 0.5):
        settings = site(chosen.model, every_s)
        begun = time.perf_counter()
        replay = Replay(settings, None, str(film), ModelStore(default_root()))
        now = [event for event in replay.run(threading.Event()) if _compared(event)]
        seconds = time.perf_counter() - begun
        right = [event for event in expected(settings, drawn) if _compared(event)]
        for kind in ("line", "zone"):
            was, are = ([event for event in events if event["kind"] == kind] for events in (right, now))
            what = Counter(difference.what for difference in differences(was, are, WITHIN_S))
            same = len(was) - what["missing"] - what["moved"]
            rate = f"{1 / every_s:.1f}" if every_s else f"{RATE}"
            rows.append((kind, rate, len(was), same, what["moved"], what["missing"], what["new"], f"{seconds:.1f}"))
    head = ("kind", "frames/s", "in truth", "same within 1 s", "moved", "missing", "new", "replay of 79.5 s, s")
    body = f"{chosen.model}, vtest.avi, {len(LINES)} lines and {len(ZONES)} zones.\n\n" + table(head, rows)
    print(body)
    if chosen.write:
        section("rules", "Zones and lines on real people", "scripts/prove rules", body)


if __name__ == "__main__":
    main()
