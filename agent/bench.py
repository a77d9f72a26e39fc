"""Where the time goes: decode, preparation, engine and the whole, each measured by itself."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import cv2
import numpy as np
import psutil

from agent.config import Settings
from agent.models import open_models
from agent.outbox.outbox import Outbox
from agent.service import Service
from agent.sinks import Message, Sink
from agent.sources import Intake, SourceConfig
from agent.subscriber import Listener
from engines.base import Engine
from engines.model import Model
from engines.pixels import Image, Picture, TensorWriter
from engines.store import ModelStore

WARM_UP = 0.2
"""Share of a measurement that is not counted."""


@dataclass(frozen=True)
class Decode:
    """Reading one camera's source, nothing else."""

    frames: int
    per_second: float
    cpu_ms: float
    """CPU time of a frame."""
    size: tuple[int, int]
    pixels: str


@dataclass(frozen=True)
class Prepare:
    """Pixels to tensor, one thread."""

    ms: float


@dataclass(frozen=True)
class Network:
    """The engine with ready-made tensors: what nothing built on it can exceed."""

    per_second: float
    latency_ms: float
    """One picture, nothing else under way."""
    description: Mapping[str, str | int]


@dataclass(frozen=True)
class Latency:
    """Percentiles, ms."""

    p50: float
    p95: float
    p99: float
    most: float

    @classmethod
    def of(cls, values_ms: list[float]) -> Latency | None:
        """None of nothing."""
        if not values_ms:
            return None
        p50, p95, p99, most = np.percentile(np.array(values_ms), [50, 95, 99, 100])
        return cls(*(round(float(v), 1) for v in (p50, p95, p99, most)))


@dataclass(frozen=True)
class UseRate:
    """Pictures of one camera for one use, a second."""

    asks: float
    gets: float


@dataclass(frozen=True)
class CameraRate:
    """One camera of the whole."""

    frames: float
    """A second, decoded."""
    uses: dict[str, UseRate]


@dataclass(frozen=True)
class EndToEnd:
    """The whole agent on its configuration."""

    seconds: float
    results: int
    per_second: float
    latency: Latency | None
    """From the pixels reaching this machine to the message at `until`; None for recordings, which have no age."""
    until: str
    cpu_cores: float
    cpu_cores_per_camera: float
    rss_mb: float
    accounts: dict[str, Any]
    capture_cores: float
    """Of `cpu_cores`, those of the threads that read and decode."""
    other_cores: float
    """What other programs used meanwhile."""
    cameras: dict[str, CameraRate]


@dataclass
class Report:
    """Everything that was measured."""

    machine: dict[str, str | int]
    decode: dict[str, Decode] = field(default_factory=dict)
    prepare: dict[str, Prepare] = field(default_factory=dict)
    network: dict[str, Network] = field(default_factory=dict)
    whole: EndToEnd | None = None

    def to_json(self) -> str:
        """All of it, indented."""
        return json.dumps(asdict(self), indent=2)


Step = Callable[[str], None]
"""Told what is measured next."""


def measure(settings: Settings, store: ModelStore, seconds: float, step: Step) -> Report:
    """All stages, `seconds` each. Raises ConfigError, EngineError, SourceError."""
    cv2.setNumThreads(1)
    cores = len(os.sched_getaffinity(0))
    report = Report({"cores": cores, "cameras": len(settings.cameras)})
    pictures: dict[str, Image] = {}
    for name, camera in settings.cameras.items():
        step(f"decode {name}")
        report.decode[name], pictures[name] = decode(camera.source, seconds)
    models = open_models(settings, store)
    try:
        for name, model in models.items():
            step(f"prepare and infer {name}")
            image = next(pictures[c] for c, s in settings.cameras.items() if any(u.use == name for u in s.models))
            report.prepare[name] = prepare(model, image, seconds / 4)
            report.network[name] = network(model, image, seconds)
    finally:
        for model in models.values():
            model.close()
    step("everything together")
    report.whole = end_to_end(settings, store, seconds)
    return report


def decode(source: SourceConfig, seconds: float) -> tuple[Decode, Image]:
    """Read a source for so long, or to its end; also returns its last picture, copied."""
    stop = threading.Event()
    frames, started, cpu = 0, 0.0, 0.0
    last: Image | None = None
    with source.open(stop, Intake()) as images:
        for _, image in images:
            if last is None:  # the clock starts with the first picture: connecting is not decoding
                started, cpu = time.monotonic(), time.process_time()
            else:
                frames += 1
            last = image
            if time.monotonic() - started >= seconds:
                break
        took, used = time.monotonic() - started, time.process_time() - cpu
        if last is None:
            raise ValueError(f"{source.label}: gave no picture")
        kept = Image(tuple(p.copy() for p in last.planes), last.format, last.matrix, last.range, last.size)
    pixels = f"{last.format} BT.{last.matrix} {last.range}"
    return Decode(frames, round(frames / took, 1), round(used / max(1, frames) * 1e3, 3), last.size, pixels), kept


def prepare(model: Model, image: Image, seconds: float) -> Prepare:
    """Median of writing one picture into a tensor."""
    writer, geometry = TensorWriter(), model.geometry(image, None)
    out = np.empty((3, model.card.input.height, model.card.input.width), np.uint8)
    times = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        started_ns = time.perf_counter_ns()
        writer.write(Picture(image), geometry, out)
        times.append(time.perf_counter_ns() - started_ns)
    return Prepare(round(float(np.median(times)) / 1e6, 3))


def network(model: Model, image: Image, seconds: float) -> Network:
    """Throughput with every slot busy, then the latency of one at a time."""
    engine, picture = model.engine, Picture(image)
    geometry = model.geometry(image, None)
    batches = [engine.prepare([picture] * engine.max_batch, [geometry] * engine.max_batch) for _ in range(engine.depth)]
    done = 0
    started = time.monotonic()
    flights = [engine.submit(batch) for batch in batches]
    while (elapsed := time.monotonic() - started) < seconds:
        for slot, batch in enumerate(batches):
            flights[slot].result()
            flights[slot] = engine.submit(batch)
            done += engine.max_batch
    for flight in flights:
        flight.result()
    single = list(islice(_single_ms(engine, batches[0]), 50))
    for flight in flights:
        flight.release()
    return Network(round(done / elapsed, 1), round(float(np.median(single)), 3), dict(engine.description))


def _single_ms(engine: Engine, batch: Any) -> Iterator[float]:
    while True:
        started_ns = time.perf_counter_ns()
        engine.submit(batch).result()
        yield (time.perf_counter_ns() - started_ns) / 1e6


class Ledger(Sink):
    """Remembers when the pixels of each result reached this machine, and when it was handed over."""

    name = "ledger"

    def __init__(self) -> None:
        self.born_ns: dict[tuple[str, int], int] = {}
        self.handed_ns: dict[tuple[str, int], int] = {}

    def ready(self, timeout_s: float) -> bool:  # noqa: ARG002  # always is
        """Yes."""
        return True

    def send(self, message: Message) -> None:
        """Note when it was born and that it came by."""
        payload: Any = message.payload
        if hasattr(payload, "seq"):
            key = (message.topic, payload.seq)
            self.handed_ns[key] = time.monotonic_ns()
            if payload.age_ms is not None:
                self.born_ns[key] = message.born_ns

    def close(self, deadline_s: float) -> None:
        """Nothing to flush."""


class Arrivals:
    """A subscriber that notes when each result arrived, on `time.monotonic_ns`."""

    def __init__(self, settings: Settings) -> None:
        if settings.mqtt is None:
            raise ValueError("no broker")
        self._strip = f"{settings.mqtt.prefix}/{settings.agent.name}/"
        self._listener = Listener(settings.mqtt, f"{self._strip}+/+/+")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="arrivals")
        self.arrived_ns: dict[tuple[str, int], int] = {}

    def __enter__(self) -> Arrivals:
        self._listener.link.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._listener.link.close(1.0)

    def _listen(self) -> None:
        while not self._ended.is_set():
            for heard in self._listener.heard(0.1):
                seq = json.loads(heard.payload).get("seq")
                if seq is not None:
                    self.arrived_ns[heard.topic.removeprefix(self._strip), seq] = heard.arrived_ns


@dataclass(frozen=True)
class _Moment:
    """What is counted, at one time."""

    at_ns: int
    cpu_s: float
    capture_cpu_s: float
    machine_s: float
    """CPU time of all programs together."""
    counts: dict[str, dict[str, Any]]

    @classmethod
    def now(cls, service: Service, process: psutil.Process) -> _Moment:
        """Of an agent that runs in this process."""
        capturing = {t.native_id for t in threading.enumerate() if t.name.startswith("camera-")}
        capture_s = sum(t.user_time + t.system_time for t in process.threads() if t.id in capturing)
        counts = {name: camera.counts() for name, camera in service.cameras.items()}
        machine = psutil.cpu_times()
        machine_s = sum(machine) - machine.idle - getattr(machine, "iowait", 0.0)
        return cls(time.monotonic_ns(), sum(process.cpu_times()[:2]), capture_s, machine_s, counts)

    def rates(self, before: _Moment) -> dict[str, CameraRate]:
        """Since an earlier moment."""
        took_s = (self.at_ns - before.at_ns) / 1e9

        def since(camera: str, use: str, *kinds: str) -> float:
            after, at_first = (moment.counts[camera]["uses"][use] for moment in (self, before))
            many: int = sum(after[kind] - at_first[kind] for kind in kinds)
            return round(many / took_s, 2)

        return {
            name: CameraRate(
                round((counts["frames"] - before.counts[name]["frames"]) / took_s, 2),
                {
                    use: UseRate(
                        since(name, use, "inferred", "replaced", "stale", "failed"), since(name, use, "inferred")
                    )
                    for use in counts["uses"]
                },
            )
            for name, counts in self.counts.items()
        }


def end_to_end(settings: Settings, store: ModelStore, seconds: float, *, listen: bool = True) -> EndToEnd:
    """Run the agent for so long (or until its recordings end) and measure it from outside.

    `listen`: results count, and age, until a subscriber of the broker has them, if there is a broker.
    """
    ledger = Ledger()
    # In memory: what waits in the agent's own file is not ours to deliver.
    name = settings.agent.name
    without = settings.model_copy(update={"sinks": []})
    service = Service(without, store, [ledger], outbox=lambda sinks: Outbox.in_memory(name, sinks))
    arrivals = Arrivals(settings) if settings.mqtt and listen else None
    stop, process = threading.Event(), psutil.Process()
    if arrivals:
        arrivals.__enter__()
    try:
        service.start()
        while not _begun(service, ledger) and service.captures.alive:
            stop.wait(0.005)
        warm = WARM_UP * seconds if any(not c.source.lossless for c in settings.cameras.values()) else 0.0
        stop.wait(warm)
        first = _Moment.now(service, process)
        timer = threading.Timer(seconds, stop.set)
        timer.start()
        service.wait(stop)
        last = _Moment.now(service, process)
        timer.cancel()
        rss = process.memory_info().rss
    finally:
        service.stop()
        if arrivals:
            arrivals.__exit__()
    ends = arrivals.arrived_ns if arrivals else ledger.handed_ns
    within = {key: at for key, at in ends.items() if first.at_ns <= at <= last.at_ns}
    ages = [(at - ledger.born_ns[key]) / 1e6 for key, at in within.items() if key in ledger.born_ns]
    took, used = (last.at_ns - first.at_ns) / 1e9, last.cpu_s - first.cpu_s
    return EndToEnd(
        seconds=round(took, 2),
        results=len(within),
        per_second=round(len(within) / took, 1),
        latency=Latency.of(ages),
        until="the subscriber" if arrivals else "the hand-over to a sink",
        cpu_cores=round(used / took, 2),
        cpu_cores_per_camera=round(used / took / len(settings.cameras), 3),
        rss_mb=round(rss / 1e6, 1),
        accounts={name: camera.counts()["uses"] for name, camera in service.cameras.items()},
        capture_cores=round((last.capture_cpu_s - first.capture_cpu_s) / took, 2),
        other_cores=round(max(0.0, last.machine_s - first.machine_s - used) / took, 2),
        cameras=last.rates(first),
    )


def _begun(service: Service, ledger: Ledger) -> bool:
    """Whether results come, and every camera that can be reached has had a frame."""
    waiting = (camera for camera in service.cameras.values() if camera.state in ("connecting", "streaming"))
    return bool(ledger.handed_ns) and all(camera.frames for camera in waiting)
