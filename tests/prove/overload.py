"""More cameras than the machine carries: `scripts/prove overload [--write] [--only NAME] [--seconds S] [--rounds N]`.

What a take costs, shares and ages at 2, 5 and 10 times what engines can do, and what `bench --plan` foretells against
a real run. Comparisons are made in turns: ratios hold on a machine whose speed drifts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import psutil

from agent.bench import Ledger, end_to_end
from agent.commands._fetch import pull_with_bar
from agent.config import Settings
from agent.flow import Mailbox, Request, Share
from agent.frame import Frame, Timestamp
from agent.planning import _crowd, plan
from agent.replayed import record
from agent.service import Service
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


def foretold(options: argparse.Namespace) -> str:
    """`bench --plan` of an RTSP camera of 1280x720 at 30 frames/s, against `sightwire run` with as many of them."""
    store = ModelStore(default_root())
    document = {"models": {"m": {"model": SCENE, "backend": {"type": "openvino"}}}}
    rows, ratios = [], []
    with tempfile.TemporaryDirectory(prefix="prove-") as name, RtspServer(HD, mounts=MOUNTS) as server:
        folder = Path(name)
        broker = Mosquitto(folder)
        setting = Setting(folder, broker, folder, folder, options.seconds, options.rounds)
        try:
            settings = settings_of(**document, cameras={"c": {"source": server.urls[0], "models": ["m"]}})
            found = plan(settings, store, options.seconds, most=MOUNTS * 2 // 3 - 1)
            kept = record(settings.cameras["c"].source, 3.0, folder)
            for count in sorted({1, max(1, found.fits), found.fits + 1, found.fits * 3 // 2 + 1}):
                for _ in range(options.rounds):
                    foreseen = end_to_end(_crowd(settings, {"c": kept}, count, None), store, options.seconds)
                    real, age, real_cpu_ms, real_others = _real_run(setting, document, server.urls[:count])
                    rate = foreseen.results / foreseen.seconds / count
                    ratios.append((count, rate / real))
                    latency = foreseen.latency.p50 if foreseen.latency else float("nan")
                    cpu_ms = foreseen.cpu_cores / foreseen.per_second * 1000
                    values = (rate, real, rate / real, cpu_ms, real_cpu_ms, foreseen.other_cores, real_others)
                    rows.append((count, *(f"{value:.2f}" for value in values), f"{latency:.0f}", f"{age:.0f}"))
        finally:
            broker.kill()
    each = {n: median(r for count, r in ratios if count == n) for n, _ in ratios}
    fitting, beyond = (
        max(abs(ratio - 1) for count, ratio in each.items() if (count <= found.fits) == fits) for fits in (True, False)
    )
    header = (
        "cameras", "foretold, results/s each", "real", "ratio", "CPU ms a result", "real", "others' cores", "real",
        "foretold median age, ms", "real",
    )  # fmt: skip
    return (
        f"{found.sentence}\n\n{table(header, rows)}\n"
        f"Medians of {options.rounds} rounds in turns: of as many cameras as fit, which is what is foretold, within "
        f"{fitting:.0%} (wanted: 20 %); of more than fit within {beyond:.0%}.\n"
        "The cores of others: in the real runs the camera server's, the broker's and the subscriber's, and in both "
        "whatever else this machine did.\n"
    )


def _real_run(setting: Setting, document: dict, urls: list[str]) -> tuple[float, float, float, float]:
    """Of `sightwire run` in its own process: results a second of each camera, their median age and CPU time, ms.

    Besides, how many cores others used meanwhile.
    """
    whole = {
        "agent": {"name": "real"},
        "mqtt": {"url": setting.broker.url},
        **document,
        "cameras": {f"c{i}": {"source": url, "models": ["m"]} for i, url in enumerate(urls)},
    }
    with (
        Subscriber(setting.broker.observer_url, "sightwire/real/+/+/classification") as heard,
        agent(setting, whole) as process,
    ):
        topics = {f"sightwire/real/c{i}/m/classification" for i in range(len(urls))}
        heard.wait_for(lambda ms: topics <= {m.topic for m in ms}, 60)
        warm = time.monotonic() + setting.seconds * 0.2
        heard.wait_for(lambda _: time.monotonic() > warm, 60)
        begun, started = len(heard.messages), time.monotonic()
        cpu, machine_s = sum(process.cpu_times()[:2]), _machine_s()
        heard.wait_for(lambda _: time.monotonic() - started > setting.seconds, setting.seconds + 30)
        took, messages = time.monotonic() - started, heard.messages[begun:]
        used = sum(process.cpu_times()[:2]) - cpu
        others = max(0.0, _machine_s() - machine_s - used) / took
    age = median(json.loads(m.payload)["age_ms"] for m in messages)
    return len(messages) / took / len(urls), age, used / len(messages) * 1000, others


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
    options = parser.parse_args()
    pull_with_bar(SCENE, ModelStore(default_root()))
    for name in options.only or FIGURES:
        body = FIGURES[name](options)
        print(f"## {name}\n\n{body}", flush=True)
        if options.write:
            chosen = f" --only {name} --seconds {options.seconds:g} --rounds {options.rounds}"
            section(f"overload-{name}", f"Overload: {name}", f"scripts/prove overload{chosen}", body)


if __name__ == "__main__":
    main()
