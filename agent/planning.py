"""How many cameras a machine carries, found by letting it carry more and more of them.

Each step runs the whole agent with so many stand-ins of the cameras (`agent.replayed`) in real time: what reading and
decoding a camera costs is in it, and what publishing costs, to a broker that nobody listens to (`agent.unheard`).
A number of cameras fits if every one of them delivers its frames and gets results of what it asks for, soon enough.
Every figure is one of a run; nothing is extrapolated.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2

from agent.bench import EndToEnd, end_to_end
from agent.config import CameraSection, Settings
from agent.replayed import Recorded, Replayed, record
from agent.sinks.mqtt import Config as Mqtt
from agent.sources import SourceConfig
from agent.unheard import unheard
from engines.store import ModelStore

NEARLY = 0.95
"""Share of the frames that must be decoded, and looked at."""
BUSY = 0.9
"""Share of the machine's cores from which on they are what there is too little of."""
HICCUP = 0.8
"""A run that got so much of what it asked for is done once more if it does not fit: something may have come between."""
OTHERS = 0.1
"""Share of the cores: other programs that use more are part of the answer."""
NEAR = 8
"""Up to so many cameras the answer is exact, beyond to one in so many."""

Limit = Literal["other programs", "decoding", "inference", "inference on its device", "age"]


@dataclass(frozen=True)
class Row:
    """One run."""

    cameras: int
    frames: float
    """Decoded, of the slowest camera, a second."""
    results: float
    """A second, of the slowest camera: of the use it asks most often."""
    met: float
    """Share of what was asked for, of the camera and use that got least; cascades left out."""
    age_p50_ms: float | None
    age_p95_ms: float | None
    cpu_cores: float
    capture_cores: float
    """Of these, reading and decoding."""
    other_cores: float
    """Other programs'."""
    rss_mb: float
    fits: bool
    short_of: tuple[str, ...]
    """Why it does not fit."""


@dataclass
class Plan:
    """What came of it."""

    machine: dict[str, Any]
    cameras: dict[str, dict[str, Any]]
    """Camera of the configuration -> size, rate, codec, and whether its stand-ins decode."""
    seconds: float
    """Each run was measured for."""
    until: str
    """What ages are counted to."""
    rows: list[Row] = field(default_factory=list)
    fits: int = 0
    """Cameras."""
    limit: Limit | None = None
    """None: there was none up to the most that were tried."""
    sentence: str = ""

    def to_json(self) -> str:
        """All of it, indented."""
        return json.dumps(dataclasses.asdict(self), indent=2)


Told = Callable[[str], None]
"""Told what is being measured."""


def plan(
    settings: Settings,
    store: ModelStore,
    seconds: float,
    *,
    rate: float | None = None,
    age_ms: float | None = None,
    most: int = 64,
    heard: bool = False,
    told: Told = lambda _: None,
) -> Plan:
    """Find how many fit. `rate`: frames a second of every camera, instead of its own; `age_ms`: 95 % are younger.

    `heard`: publish to the configuration's own broker, and count up to a subscriber of it.

    Raises ConfigError, EngineError, SourceError.
    """
    cv2.setNumThreads(1)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sightwire-"))
        if settings.mqtt and not heard:
            settings = _published_to(stack.enter_context(unheard()), settings, settings.mqtt)
        recorded = {}
        for names in settings.connections():
            told(f"looking at {', '.join(names)}")
            room = Path(folder) / names[0]
            room.mkdir()
            recorded.update(dict.fromkeys(names, record(settings.cameras[names[0]].source, min(5.0, seconds), room)))
        limit_ms = age_ms or min(use.max_age for c in settings.cameras.values() for use in c.models) * 1000
        found = Plan(
            {"cores": len(os.sched_getaffinity(0)), "age_limit_ms": limit_ms},
            {name: _said(kept, rate) for name, kept in recorded.items()},
            seconds,
            "the subscriber" if settings.mqtt and heard else "the hand-over to a sink",
        )

        def run(cameras: int, again: str = "") -> Row:
            told(f"{cameras} camera{'s' * (cameras > 1)}{again}")
            crowd = _crowd(settings, recorded, cameras, rate)
            return _row(end_to_end(crowd, store, seconds, listen=heard), crowd, limit_ms)

        def twice(cameras: int) -> Row:
            row = run(cameras)
            if not row.fits and row.met >= HICCUP:
                row = max(row, run(cameras, " once more"), key=_worth)
            found.rows.append(row)
            return row

        _search(twice, found, most)
    found.rows.sort(key=lambda row: row.cameras)
    found.sentence = _sentence(found, most) + _others(found)
    return found


def _published_to(url: str, settings: Settings, mqtt: Mqtt) -> Settings:
    """The same, but to another broker, which asks for nothing."""
    plain: dict[str, Any] = dict.fromkeys(("username", "password", "password_file", "ca", "cert", "key", "proxy"))
    broker = mqtt.model_copy(update={**plain, "url": url, "alpn": (), "headers": {}})
    return settings.model_copy(update={"mqtt": broker})


def _worth(row: Row) -> tuple[bool, float]:
    return row.fits, row.met


def _said(recorded: Recorded, rate: float | None) -> dict[str, Any]:
    width, height = recorded.size
    return {
        "size": f"{width}x{height}",
        "rate": rate or recorded.rate,
        "codec": recorded.codec,
        "stand_ins": recorded.said,
        "held_ms": round(recorded.held_s * 1000, 1),
        "reading_ms": round(recorded.reading_s * 1000, 2),
    }


def _search(run: Callable[[int], Row], found: Plan, most: int) -> None:
    """Try numbers until the largest that fits and the smallest that does not are neighbours, or nearly."""
    cores = found.machine["cores"]
    row = run(1)
    fits, too_many = (1, None) if row.fits else (0, row)
    trying = min(most, max(2, int(cores / max(row.cpu_cores, 0.01))))
    while fits < most and (too_many is None or too_many.cameras - fits > max(1, fits // NEAR)):
        if too_many is not None:
            trying = (fits + too_many.cameras) // 2
        row = run(trying)
        if row.fits:
            fits = row.cameras
        else:
            too_many = row
        trying = min(most, fits + max(1, fits // 2))
    found.fits = fits
    found.limit = None if too_many is None else _limit(too_many, cores)


def _limit(row: Row, cores: int) -> Limit:
    """What there was too little of."""
    busy = row.cpu_cores + row.other_cores >= BUSY * cores
    if busy and row.other_cores > row.cpu_cores:
        return "other programs"
    if busy or "frames" in row.short_of:
        return "decoding" if row.capture_cores > row.cpu_cores / 2 else "inference"
    return "inference on its device" if "results" in row.short_of else "age"


def _crowd(settings: Settings, recorded: dict[str, Recorded], count: int, rate: float | None) -> Settings:
    """So many stand-ins: of the first camera, the second, ..., and of the first again. They keep nothing on disk."""
    cameras: dict[str, CameraSection] = {}
    names = list(settings.cameras)
    numbers = itertools.count()
    sources: dict[tuple[int, int], SourceConfig] = {}
    for index in range(count):
        turn, name = index // len(names), names[index % len(names)]
        kept = recorded[name]
        # Cameras that look at one stream share its stand-in.
        key = turn, id(kept)
        if key not in sources:
            sources[key] = Replayed(recorded=kept, rate=rate or kept.rate, copy_number=next(numbers))
        section = settings.cameras[name]
        cameras[f"{name}-{turn + 1}"] = section.model_copy(
            update={"source": sources[key], "snapshots": None, "clips": None}
        )
    calibration = settings.calibration.model_copy(update={"collect": None})
    commands = settings.commands.model_copy(update={"allow": []})
    return settings.model_copy(update={"cameras": cameras, "calibration": calibration, "commands": commands})


def _row(whole: EndToEnd, crowd: Settings, limit_ms: float) -> Row:
    met, results = 1.0, []
    delivered = 1.0
    for name, seen in whole.cameras.items():
        section = crowd.cameras[name]
        uses = [seen.uses[use.use] for use in section.models if use.on is None]
        met = min([met, *(use.gets / use.asks if use.asks else 0.0 for use in uses)])
        results.append(max(uses, key=lambda use: use.asks).gets)
        delivered = min(delivered, seen.frames / section.source.rate)  # type: ignore[attr-defined]  # a Replayed
    age = whole.latency
    short = tuple(_short(delivered, met, age.p95 if age else None, limit_ms))
    return Row(
        cameras=len(whole.cameras),
        frames=round(min(seen.frames for seen in whole.cameras.values()), 1),
        results=round(min(results), 1),
        met=round(met, 2),
        age_p50_ms=age.p50 if age else None,
        age_p95_ms=age.p95 if age else None,
        cpu_cores=whole.cpu_cores,
        capture_cores=whole.capture_cores,
        other_cores=whole.other_cores,
        rss_mb=whole.rss_mb,
        fits=not short,
        short_of=short,
    )


def _short(delivered: float, met: float, age_p95_ms: float | None, limit_ms: float) -> Iterator[str]:
    if delivered < NEARLY:
        yield "frames"
    if met < NEARLY:
        yield "results"
    if age_p95_ms is None or age_p95_ms > limit_ms:
        yield "age"


def _others(found: Plan) -> str:
    """What other programs took of the machine, where that is much."""
    used = max(row.other_cores for row in found.rows)
    cores = found.machine["cores"]
    if used <= OTHERS * cores:
        return ""
    return f" Other programs used up to {used:.1f} of {cores} cores meanwhile: without them more may fit."


def _sentence(found: Plan, most: int) -> str:
    """The answer."""
    kinds = {f"{c['size']} at {c['rate']:g} frames/s" for c in found.cameras.values()}
    what = kinds.pop() if len(kinds) == 1 else "these kinds in turn"
    if not found.fits:
        first = found.rows[0]
        return (
            f"Not one camera of {what}: {first.results:g} results/s, of {first.met:.0%} of the pictures asked for; "
            f"the limit is {found.limit}."
        )
    row = next(row for row in found.rows if row.cameras == found.fits)
    many = f"{found.fits} camera{'s' * (found.fits > 1)} of {what}, {row.results:g} results/s each"
    many += f", median age {row.age_p50_ms:.0f} ms (95 %: {row.age_p95_ms:.0f} ms)"
    if found.limit is None:
        return f"{many}; more than {most} were not tried."
    more = min(row.cameras for row in found.rows if row.cameras > found.fits)
    return f"{many}; {more} are too many: the limit is {found.limit}."
