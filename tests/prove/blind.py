"""Blind cameras: `scripts/prove blind [--scenes N] [--hours H] [--shared FOLDER] [--write]`.

Made scenes, most of them through a real H.264 encoder: how soon each kind of blindness is told and taken back, what is
told where nothing is wrong, and what looking costs. Thresholds were chosen on scenes of other seeds (below `FIRST`).
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from agent.frame import Frame, Timestamp
from agent.sight.motion import Gate
from agent.sight.settings import BlindSection, MotionSection
from agent.sight.sight import LOOK_NS, Sight
from engines.pixels import Image
from tests.prove.record import section, table
from tests.support import views
from tests.support.views import Place, Shot, between, judged, judged_by, only

FIRST = 5000
"""Seeds from here on were not looked at when thresholds were chosen."""
BEGIN, END, ALL = 130.0, 150.0, 158.0
"""Seconds: when a camera goes blind, when it sees again, when the scene is over. It learns until the first."""
COSTS = ("picture", "a look, ms of CPU", "of a core, two looks a second", "motion gate, ms of CPU a frame")
SIZES = ((320, 180), (320, 240), (480, 270))


def usual(seed: int, seconds: float = ALL) -> Shot:
    """Some camera somewhere by day or by lamps, with people, noise and an encoder of its own."""
    rng = np.random.default_rng(seed)
    size = SIZES[rng.integers(len(SIZES))]
    brightness = rng.uniform(110, 240)
    encoders: list[dict[str, Any] | None] = [None]
    encoders += [{"crf": crf, "gop": gop} for crf in (23, 28, 33) for gop in (4, 8, 16)]
    encoders += [{"bit_rate": size[0] * size[1] // 4, "gop": 8}]
    return Shot(
        Place(seed, size, rng.uniform(0.6, 1)),
        seconds,
        light=lambda t: brightness * (1 + 0.02 * np.sin(t / 40)),
        noise=rng.uniform(1, 5),
        changes=[views.walkers(seed, size, rng.integers(0, 5))],
        encoder=encoders[rng.integers(len(encoders))],
    )


def then(shot: Shot, change: views.Change) -> Shot:
    """The shot with that for a while."""
    return shot.but(changes=[*shot.changes, only(change, BEGIN, END)])


def _blurred(shot: Shot, width: float) -> Shot:
    """By that share of the picture's width, standard deviation."""
    return then(shot, views.out_of_focus(shot.place.size[0] * width))


def _turned(by: float, takes_s: float) -> Callable[[float], float]:
    return lambda t: by * min(1.0, (t - BEGIN) / takes_s) if BEGIN <= t < END else 0.0


WRONG: dict[str, tuple[str, Callable[[int, Any], Shot]]] = {
    "frozen sensor, encoder at work": ("frozen", lambda s, _: usual(s).but(frozen=between(BEGIN, END))),
    "frozen sensor, clock in the picture": (
        "frozen",
        lambda s, _: usual(s).but(frozen=between(BEGIN, END), after=[views.clock]),
    ),
    "stream repeats a picture": ("frozen", lambda s, _: usual(s).but(stuck=between(BEGIN, END))),
    "black": ("black", lambda s, r: then(usual(s), views.level(r.uniform(0, 8)))),
    "white": ("white", lambda s, r: then(usual(s), views.level(r.uniform(248, 255)))),
    "defocused": (
        "defocused",
        lambda s, r: then(usual(s), views.out_of_focus(usual(s).place.size[0] * r.uniform(0.01, 0.04))),
    ),
    "covered": ("covered", lambda s, _: then(usual(s), views.covered(s))),
    "covered, 5 to 15 % shine through": (
        "covered",
        lambda s, r: then(usual(s), views.covered(s, r.uniform(0.85, 0.95))),
    ),
    "turned by 10 to 100 %": (
        "moved",
        lambda s, r: usual(s).but(turned=_turned(r.choice([-1, 1]) * r.uniform(0.1, 0.95), r.uniform(0.3, 2))),
    ),
}
"""What happens -> the reason that is expected, and the scene."""


def _infrared(seed: int, seconds: float) -> Shot:
    half = seconds / 2
    return usual(seed, seconds).but(grey=between(half, seconds), infrared=True)


def _dusk(seed: int, seconds: float) -> Shot:
    """Half the light each two to four minutes, to a hundredth or the end: faster than any real one."""
    rng = np.random.default_rng(seed)
    halved_s, noise = rng.uniform(120, 240), rng.uniform(2, 5)
    lamps = views.lamp([seconds / 2], seed, 120)
    return usual(seed, seconds).but(
        light=lambda t: max(8.0, 220 * 0.5 ** (t / halved_s)), noise=noise, changes=[lamps] if seed % 2 else []
    )


def _street(seed: int, seconds: float) -> Shot:
    """Nearly no noise, an encoder that passes it over, key frames each 4 to 30 s, and quiet between passers-by."""
    rng = np.random.default_rng(seed)
    gop = int(rng.choice([16, 40, 120]))
    return usual(seed, seconds).but(
        noise=rng.choice([0.0, 0.3, 0.8]),
        light=lambda _: 200.0,
        changes=[views.traffic(seed, float(rng.choice([5, 20, 60])))],
        encoder={"crf": rng.choice([28, 35]), "gop": gop},
    )


HARMLESS: dict[str, Callable[[int, float], Shot]] = {
    "people, noise, any encoder": usual,
    "nobody, only noise": lambda s, t: usual(s, t).but(changes=[]),
    "a still scene without noise": lambda s, t: usual(s, t).but(changes=[], noise=0.0, light=lambda _: 180.0),
    "a quiet street, an encoder that saves": _street,
    "infrared at half time": _infrared,
    "dusk": _dusk,
    "a lamp each minute": lambda s, t: usual(s, t).but(
        light=lambda _: 90.0, changes=[*usual(s).changes, views.lamp(np.arange(60, t, 60), s, 40 + s % 160)]
    ),
    "rain": lambda s, t: usual(s, t).but(changes=[*usual(s).changes, only(views.rain(s), t / 4, t)]),
    "a lorry in front, 5 s, each 40 s": lambda s, t: usual(s, t).but(
        changes=[*usual(s).changes, *(views.passing(at, 5, s) for at in np.arange(80, t - 10, 40))]
    ),
    "somebody at the lens, 20 s of 60": lambda s, t: usual(s, t).but(
        changes=[*usual(s).changes, *(views.passing(at, 20, s, 0.7) for at in np.arange(80, t - 30, 60))]
    ),
}
"""What happens -> the scene, in which nothing is wrong."""


@dataclass
class Delays:
    """What was told of one kind of blindness."""

    told_s: list[float] = field(default_factory=list)
    back_s: list[float] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)

    def row(self, name: str, scenes: int) -> tuple[object, ...]:
        """Of the table: told as expected, how soon, taken back how soon, what else was told."""
        others = ", ".join(f"{count} {kind}" for kind, count in self.other.items()) or "-"
        told = f"{len(self.told_s)} of {scenes}"
        return name, WRONG[name][0], told, _spread(self.told_s), _spread(self.back_s), others


def delays(names: list[str], seeds: range) -> list[tuple[object, ...]]:
    """A row for each kind; each camera is watched up to `BEGIN` once, and what happens to it then is tried apart."""
    found = {name: Delays() for name in names}
    for seed in seeds:
        learned = Sight(BlindSection())
        for t, change in judged_by(learned, usual(seed, BEGIN - 2)):
            print(f"  seed {seed}: {change.reason} at {t}", file=sys.stderr)
        for name in names:
            reason, make = WRONG[name]
            shot = make(seed, np.random.default_rng(seed + 7)).but(begins=BEGIN - 2, seconds=ALL - BEGIN + 2)
            told = judged_by(copy.deepcopy(learned), shot)
            right = [(t, change) for t, change in told if change.reason == reason and t >= BEGIN]
            found[name].told_s += [t - BEGIN for t, change in right if change.ended is None][:1]
            found[name].back_s += [t - END for t, change in right if change.ended and t >= END][:1]
            found[name].other.update(
                change.reason for t, change in told if change.ended is None and change.reason != reason
            )
            if not right:
                print(f"  seed {seed}: {name}: not told; {told}", file=sys.stderr)
    return [said(one.row(name, len(seeds))) for name, one in found.items()]


def _spread(values: list[float]) -> str:
    return f"{median(values):.1f} / {max(values):.1f}" if values else "-"


def alarms(name: str, hours: float, first: int) -> tuple[object, ...]:
    """A row: so many hours of scenes, and what was told."""
    each_s = 600.0
    count = max(1, round(hours * 3600 / each_s))
    told: Counter[str] = Counter()
    for seed in range(first, first + count):
        for t, change in judged(HARMLESS[name](seed, each_s)):
            if change.ended is None:
                told[change.reason] += 1
                print(f"  seed {seed}: {name}: {change.reason} at {t}", file=sys.stderr)
    alarmed = ", ".join(f"{number} {kind}" for kind, number in told.items()) or "none"
    return name, f"{count * each_s / 3600:.1f}", alarmed, f"{sum(told.values()) * 3600 / (count * each_s):.2g}"


def cost(size: tuple[int, int], looks: int = 300) -> tuple[object, ...]:
    """A row: CPU time of a look, the share of a core that all looks of a camera take, and CPU time of the motion gate.

    Each look is paired with one of the same work without any judgement: the loop and its clock are not counted.
    """
    width, height = size
    rng = np.random.default_rng(0)
    scene = cv2.resize(Place(0).seen() * 200, size)
    images = []
    for _ in range(6):  # more than fit into the caches
        luma = np.clip(scene + rng.normal(0, 3, scene.shape), 0, 255).astype(np.uint8)
        chroma = np.full((height // 2, width // 2), 118, np.uint8)
        images.append(Image((luma, chroma, chroma), "i420", "709", "limited", size))
    sight, gate, took = Sight(BlindSection()), Gate(MotionSection()), defaultdict[str, list[float]](list)
    for n in range(looks):
        at_ns = n * LOOK_NS
        for which, at in (("look", at_ns), ("nothing", at_ns + 1)):  # what comes at once after a look is not due
            before = time.thread_time()
            sight.look(images[n % 6], Timestamp(at, at, "file", None))
            took[which].append(time.thread_time() - before)
        frame = Frame("dock", n, Timestamp(at_ns, at_ns, "file", None), images[n % 6])
        before = time.thread_time()
        gate.still("people", frame)
        took["gate"].append(time.thread_time() - before)
    each_ms = (median(took["look"]) - median(took["nothing"])) * 1e3
    gate_ms = median(took["gate"]) * 1e3
    return f"{width}x{height}", f"{each_ms:.2f}", f"{each_ms * 2 / 10:.2f} %", f"{gate_ms:.2f}"


def films(folder: Path) -> tuple[object, ...]:
    """A row: real recordings, and what was told of them."""
    import av

    from agent.sources import Intake
    from agent.sources._decoded import image_of

    seconds, told = 0.0, Counter[str]()
    names = ("vtest.avi", "intel_one-by-one-person-detection.mp4")
    for name in names:
        sight = Sight(BlindSection())
        with av.open(str(folder / name)) as container:
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 25)
            for n, frame in enumerate(container.decode(stream)):
                at_ns = round(n / rate * 1e9)
                for change in sight.look(image_of(frame, Intake()), Timestamp(at_ns, at_ns, "file", None)):
                    told[change.reason] += change.ended is None
            seconds += n / rate
    alarmed = ", ".join(f"{number} {kind}" for kind, number in told.items()) or "none"
    return " and ".join(names), f"{seconds / 3600:.2f}", alarmed, "-"


def said(row: tuple[object, ...]) -> tuple[object, ...]:
    """The row, as soon as it is known."""
    print(*row, sep=" | ", flush=True)
    return row


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=30, help="of each kind of blindness")
    parser.add_argument("--hours", type=float, default=2.0, help="of each kind of scene in which nothing is wrong")
    parser.add_argument("--first", type=int, default=FIRST, help="the first scene's seed")
    parser.add_argument("--only", default="", help="kinds whose name has that in it")
    parser.add_argument("--shared", type=Path, help="folder with data/video: real recordings too")
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    seeds = range(asked.first, asked.first + asked.scenes)
    costs = [cost(size) for size in ((640, 360), (1280, 720), (1920, 1080), (3840, 2160))]
    print(table(COSTS, costs), flush=True)
    wrong = delays([name for name in WRONG if asked.only in name], seeds)
    fine = [said(alarms(name, asked.hours, asked.first)) for name in HARMLESS if asked.only in name]
    if asked.shared:
        fine.append(films(asked.shared / "data" / "video"))
    body = (
        table(("what happens", "told as", "told", "after, s (median / most)", "over after, s", "told besides"), wrong)
        + "\n"
        + table(("nothing wrong", "hours", "told", "false alarms an hour"), fine)
        + "\n"
        + table(COSTS, costs)
    )
    print(body)
    if asked.write:
        shared = " --shared FOLDER" * bool(asked.shared)
        command = f"scripts/prove blind --scenes {asked.scenes} --hours {asked.hours:g} --first {asked.first}{shared}"
        section("blind", "Blind cameras", command, body)


if __name__ == "__main__":
    main()
