"""More cameras than the machine carries: `scripts/prove overload [--write] [--only NAME] [--seconds S] [--rounds N]`.

What a take costs, shares and ages at 2, 5 and 10 times what engines can do, and what `bench --plan` foretells against
a real run. Comparisons are made in turns: ratios hold on a machine whose speed drifts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

from agent.bench import EndToEnd, Ledger, end_to_end
from agent.commands._fetch import pull_with_bar
from agent.config import Settings
from agent.flow import Mailbox, Request, Share
from agent.frame import Frame, Timestamp
from agent.planning import _crowd, _published_to, plan
from agent.replayed import record
from agent.service import Service
from agent.unheard import unheard
from engines.store import ModelStore, default_root
from tests.prove.record import section, table
from tests.prove.speed import Setting, agent
from tests.support.agents import fake_model, fake_store, settings_of
from tests.support.broker import Mosquitto, Subscriber
from tests.support.clips import HD
from tests.support.rtsp import RtspServer
from tests.support.sharing import IMAGE

SCENE = "efficientnet-lite0"
STAMP = Timestamp(0, 0, "receive", 0)
MOUNTS = 32
"""Cameras that there are to compare a plan with."""
BEHIND_S = 1.0
"""A picture that was sent longer ago had been waiting for somebody to read it."""


class PlainLine:
    """What a mailbox without shares costs: the oldest first, newest wins."""

    def __init__(self) -> None:
        self._slots: OrderedDict[tuple[str, str], Request] = OrderedDict()
        self._changed = threading.Condition()

    def offer(self, request: Request) -> None:
        with self._changed:
            loser = self._slots.get(request.key)
            self._slots[request.key] = request
            self._changed.notify()
        if loser:
            loser.ended(loser, "replaced")

    def take(self, limit: int, timeout_s: float) -> list[Request]:
        with self._changed:
            self._changed.wait_for(lambda: self._slots, timeout_s)
            return [self._slots.popitem(last=False)[1] for _ in range(min(limit, len(self._slots)))]


def cost(options: argparse.Namespace) -> str:
    """Microseconds of one picture through the mailbox, offered once in vain and once for good."""
    kinds: dict[str, tuple[Callable[[], Mailbox | PlainLine], Share]] = {
        "plain line": (PlainLine, Share()),
        "shares": (Mailbox, Share()),
        "shares and floors": (Mailbox, Share(2.0, 1.0)),
    }
    rows = []
    for slots in (1, 8, 64, 256):
        taken: dict[str, list[float]] = defaultdict(list)
        for _ in range(options.rounds):
            for name, (make, share) in kinds.items():
                taken[name].append(_cost_us(make(), share, slots))
        rows.append((slots, *(f"{median(values):.1f}" for values in taken.values())))
    return table(("cameras waiting", *(f"{name}, µs" for name in kinds)), rows)


def _cost_us(mailbox: Mailbox | PlainLine, share: Share, slots: int, pictures: int = 3000) -> float:
    frames = [Frame(str(i), 0, STAMP, IMAGE) for i in range(slots)]
    requests = [Request((f.camera, "u"), f, (None,), False, 10**9, lambda *_: None, share) for f in frames]
    for request in requests:
        mailbox.offer(request)
    started = time.process_time()
    for _ in range(pictures):
        (one,) = mailbox.take(1, 0)
        mailbox.offer(one)
        mailbox.offer(one)
    return (time.process_time() - started) / pictures * 1e6


def ages(options: argparse.Namespace) -> str:
    """Ages and shares at 2, 5 and 10 times what an engine of a fixed speed can do, and a real one."""
    header = (
        "engine",
        "asked / can",
        "cameras",
        "can/s",
        "asked/s",
        "results/s",
        "slowest, fastest/s",
        "age p50 ms",
        "p95",
    )
    rows = [("50 runs/s", times, *_overloaded(options, _fake, times, 50)) for times in (2, 5, 10)]
    capacity = _capacity(options)
    real = f"{SCENE}, OpenVINO"
    rows += [(real, times, *_overloaded(options, _real, times, capacity)) for times in (2, 5, 10)]
    return table(header, rows) + "\n" + _weighted(options)


Make = Callable[[list[dict]], tuple[Settings, ModelStore]]


@contextlib.contextmanager
def _fake(cameras: list[dict]) -> Iterator[tuple[Settings, ModelStore]]:
    with tempfile.TemporaryDirectory() as folder:
        named = {f"c{i}": camera for i, camera in enumerate(cameras)}
        yield (
            settings_of(models={"m": fake_model("classes", delay_ms=20, depth=1)}, cameras=named),
            fake_store(Path(folder)),
        )


@contextlib.contextmanager
def _real(cameras: list[dict]) -> Iterator[tuple[Settings, ModelStore]]:
    named = {f"c{i}": camera for i, camera in enumerate(cameras)}
    model = {"model": SCENE, "backend": {"type": "openvino"}}
    yield settings_of(models={"m": model}, cameras=named), ModelStore(default_root())


def _camera(rate: float, **more: float) -> dict:
    # Sources that are equal share a connection: a camera each.
    return {"source": {"type": "synthetic", "rate": round(rate, 3)}, "models": ["m"], **more}


def _capacity(options: argparse.Namespace) -> float:
    with _real([_camera(500 + i) for i in range(2)]) as site:
        return float(_run(*site, options.seconds)[1]["can"])


def _overloaded(options: argparse.Namespace, make, times: float, capacity: float) -> tuple[object, ...]:
    count = 4 * times  # as many more cameras, each at the same rate
    with make([_camera(capacity / 4 + i * 0.001) for i in range(int(count))]) as site:
        ledger, figures, seconds = _run(*site, options.seconds)
    taken = [(at - ledger.born_ns[key]) / 1e6 for key, at in ledger.handed_ns.items()]
    each = [camera["gets"] for camera in figures["cameras"].values()]
    p50, p95 = np.percentile(taken, [50, 95])
    results = len(taken) / seconds
    return (
        int(count), f"{figures['can']:g}", f"{figures['asked']:g}", f"{results:.1f}", f"{min(each):g}, {max(each):g}",
        f"{p50:.0f}", f"{p95:.0f}",
    )  # fmt: skip


def _run(settings: Settings, store: ModelStore, seconds: float) -> tuple[Ledger, dict, float]:
    """Run an agent for so long after it has begun; what came, and what it says of itself."""
    ledger, stop = Ledger(), threading.Event()
    service = Service(settings, store, [ledger])
    try:
        service.start()
        begun = time.monotonic()
        timer = threading.Timer(max(seconds, 12.0), stop.set)
        timer.start()
        service.wait(stop)
        took = time.monotonic() - begun
        figures = service.load.figures()["m"]
    finally:
        service.stop()
    return ledger, figures, took


def _weighted(options: argparse.Namespace) -> str:
    wanted = {"weight 4": (4.0, 0.0), "weight 2": (2.0, 0.0), "weight 1, floor 10": (1.0, 10.0), "weight 1": (1.0, 0.0)}
    cameras = [_camera(40 + i * 0.001, weight=w, floor=f) for i, (w, f) in enumerate(wanted.values())]
    rows = []
    for name, make in (("50 runs/s", _fake), (f"{SCENE}, OpenVINO", _real)):
        with make(cameras) as site:
            _, figures, _ = _run(*site, options.seconds)
        each = [figures["cameras"][f"c{i}"]["gets"] for i in range(len(wanted))]
        rows.append((name, f"{figures['can']:g}", *(f"{got:g}" for got in each)))
    return table(("engine, four cameras of 40 frames/s", "can/s", *wanted), rows)


@dataclass(frozen=True)
class _Got:
    """What came of a run."""

    rate: float
    """Results a second of each camera."""
    age_ms: float
    """Median."""
    cpu_ms: float
    """Of the agent, for each result."""
    surroundings: float
    """Cores that the cameras, the broker and the subscriber used; in a field they are elsewhere."""
    others: float
    """Cores that the rest of the machine used."""


def foretold(options: argparse.Namespace) -> str:
    """`bench --plan` of an RTSP camera of 1280x720 at 30 frames/s, against `sightwire run` with as many of them."""
    store = ModelStore(default_root())
    document = {"models": {"m": {"model": SCENE, "backend": {"type": "openvino"}}}}
    rows, ratios = [], defaultdict(list)
    # `apart`: a camera that is opened late has sent nothing before, else it sends for seconds what has piled up.
    with tempfile.TemporaryDirectory(prefix="prove-") as name, RtspServer(HD, mounts=MOUNTS, apart=True) as server:
        folder = Path(name)
        broker = Mosquitto(folder)
        setting = Setting(folder, broker, folder, folder, options.seconds, options.rounds)
        camera = {"source": server.urls[0], "models": ["m"]}
        settings = settings_of(**document, mqtt={"url": broker.url}, cameras={"c": camera})
        assert settings.mqtt is not None
        try:
            found = plan(settings, store, options.seconds, most=MOUNTS // 2)
            kept = record(settings.cameras["c"].source, 3.0, folder)
            fitting = {1, *(max(1, round(found.fits * times)) for times in (1, 1.5, 2))}
            for count in sorted(options.cameras or fitting):
                for _ in range(options.rounds):
                    real = _real_run(setting, document, server, count)
                    with unheard() as url, _beside(real.surroundings), _still(server):
                        crowd = _crowd(_published_to(url, settings, settings.mqtt), {"c": kept}, count, None)
                        foreseen = _foreseen(end_to_end(crowd, store, options.seconds, listen=False), real.surroundings)
                    ratios[count].append(foreseen.rate / real.rate)
                    cells = (foreseen.rate, real.rate, foreseen.rate / real.rate, foreseen.cpu_ms, real.cpu_ms)
                    cells += (real.surroundings, foreseen.others, real.others)
                    ages = (f"{foreseen.age_ms:.0f}", f"{real.age_ms:.0f}")
                    rows.append((count, *(f"{cell:.2f}" for cell in cells), *ages))
                    print(*rows[-1], file=sys.stderr, flush=True)
        finally:
            broker.kill()
    header = (
        "cameras", "foretold, results/s each", "real", "ratio", "CPU ms a result", "real", "surroundings' cores",
        "others' cores", "real", "foretold median age, ms", "real",
    )  # fmt: skip
    medians = ", ".join(f"{median(each):.2f} of {count}" for count, each in ratios.items())
    return (
        f"{found.sentence}\n\n{table(header, rows)}\n"
        f"Medians of the ratios of {options.rounds} pairs: {medians} cameras (wanted: 0.85 to 1.15).\n"
        "The surroundings: in the real runs the camera server, the broker and the subscriber; the others were made "
        "beside a program that uses as much. Where `others` differ, so did what was left to the two runs.\n"
    )


def _foreseen(whole: EndToEnd, surroundings: float) -> _Got:
    return _Got(
        whole.results / whole.seconds / len(whole.cameras),
        whole.latency.p50 if whole.latency else float("nan"),
        whole.cpu_cores / whole.per_second * 1000,
        surroundings,
        max(0.0, whole.other_cores - surroundings),
    )


@contextlib.contextmanager
def _still(server: RtspServer) -> Iterator[None]:
    """Cameras that nobody looks at use CPU time too."""
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


@contextlib.contextmanager
def _beside(cores: float) -> Iterator[None]:
    """A program that uses so much of a core."""
    burn = (
        "import sys, time\n"
        "while True:\n"
        "    began, until = time.monotonic(), time.process_time() + float(sys.argv[1]) / 100\n"
        "    while time.process_time() < until: pass\n"
        "    time.sleep(max(0, began + 0.01 - time.monotonic()))\n"
    )
    with subprocess.Popen([sys.executable, "-c", burn, str(cores)]) as child:
        try:
            yield
        finally:
            child.kill()


def _real_run(setting: Setting, document: dict, server: RtspServer, count: int) -> _Got:
    """Of `sightwire run` in its own process, once each camera is in real time."""
    whole = {
        "agent": {"name": "real"},
        "mqtt": {"url": setting.broker.url},
        **document,
        "cameras": {f"c{i}": {"source": url, "models": ["m"]} for i, url in enumerate(server.urls[:count])},
    }
    with (
        Subscriber(setting.broker.observer_url, "sightwire/real/+/+/classification") as heard,
        agent(setting, whole) as process,
    ):
        heard.wait_for(lambda ms: _in_real_time(ms, count), 60)
        warm = time.monotonic() + setting.seconds * 0.2
        heard.wait_for(lambda _: time.monotonic() > warm, 60)
        begun, started = len(heard.messages), time.monotonic()
        around = [psutil.Process(pid) for pid in (server.pid, setting.broker.pid, os.getpid())]
        before, around_s, machine_s = _cpu_s(process), sum(map(_cpu_s, around)), _machine_s()
        heard.wait_for(lambda _: time.monotonic() - started > setting.seconds, setting.seconds + 30)
        took, messages = time.monotonic() - started, heard.messages[begun:]
        used, around_s = _cpu_s(process) - before, sum(map(_cpu_s, around)) - around_s
        others = max(0.0, _machine_s() - machine_s - used - around_s) / took
    age = median(json.loads(m.payload)["age_ms"] for m in messages)
    return _Got(len(messages) / took / count, age, used / len(messages) * 1000, around_s / took, others)


def _in_real_time(messages: Sequence[Any], count: int) -> bool:
    """Whether the newest picture of each camera left it a moment ago, by the camera's clock, which is ours."""
    newest = {message.topic: message.payload for message in messages[-20 * count :]}
    said = [json.loads(payload) for payload in newest.values()]
    return len(said) == count and all(
        each["clock"] == "rtcp" and _at_s(each["received_at"]) - _at_s(each["captured_at"]) < BEHIND_S for each in said
    )


def _at_s(said: str) -> float:
    return datetime.fromisoformat(said.replace("Z", "+00:00")).timestamp()


def _cpu_s(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))


def _machine_s() -> float:
    """CPU time of all programs together."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


FIGURES: dict[str, Callable[[argparse.Namespace], str]] = {"cost": cost, "ages": ages, "plan": foretold}


def main() -> None:
    """Measure, print, and with `--write` record in docs/measurements.md."""
    parser = argparse.ArgumentParser(prog="scripts/prove overload", description=__doc__)
    parser.add_argument("--write", action="store_true", help="record in docs/measurements.md")
    parser.add_argument("--only", choices=FIGURES, action="append", help="only this figure; may be repeated")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cameras", type=int, action="append", help="plan: so many, not 1, 1.5, 2 times what fits")
    options = parser.parse_args()
    pull_with_bar(SCENE, ModelStore(default_root()))
    for name in options.only or FIGURES:
        body = FIGURES[name](options)
        print(f"## {name}\n\n{body}", flush=True)
        if options.write:
            chosen = f" --only {name} --seconds {options.seconds:g} --rounds {options.rounds}"
            chosen += "".join(f" --cameras {count}" for count in options.cameras or () if name == "plan")
            section(f"overload-{name}", f"Overload: {name}", f"scripts/prove overload{chosen}", body)


if __name__ == "__main__":
    main()
