"""What a process of its own costs a source: `scripts/prove isolated [--write] [--seconds N] [--kills N]`."""

from __future__ import annotations

import argparse
import gc
import logging
import statistics
import threading
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import psutil

from agent.camera import Camera
from agent.publishing import Outlets
from agent.sources import Intake, SourceConfig, network
from agent.sources._isolated import as_read
from agent.supervision.captures import Captures
from tests.prove.record import section, table
from tests.support import crashing
from tests.support.clips import HD
from tests.support.rtsp import RtspServer

WARM_UP = 30
"""Pictures that are not measured."""


@dataclass
class Cost:
    """Of one way to read a stream, over all rounds."""

    cpu_ms: list[float] = field(default_factory=list)
    """Of each round: processor time a picture, of all processes that read."""
    ages_ms: list[float] = field(default_factory=list)
    """Of each picture, when it is in the agent's hands."""
    first_s: list[float] = field(default_factory=list)
    """Of each round: from `open` to the first picture."""


def main() -> None:
    """Measure, print, and with --write record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    parser.add_argument("--seconds", type=float, default=10, help="of each round")
    parser.add_argument("--rounds", type=int, default=3, help="of each way, in turns")
    parser.add_argument("--kills", type=int, default=50, help="of one camera's process")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    body = costs(options.seconds, options.rounds) + "\n" + kills(options.kills)
    print(body)
    if options.write:
        section("isolated", "Sources in processes of their own", "scripts/prove isolated", body)


def costs(seconds: float, rounds: int) -> str:
    """The same stream, read in the agent and beside it, in turns."""
    ways: dict[str, Cost] = {"in the agent": Cost(), "`isolated: true`": Cost()}
    with RtspServer(HD) as server:
        plain: SourceConfig = network.Config(url=server.urls[0])
        for _ in range(rounds):
            for source, cost in zip(
                (plain, as_read(plain.model_copy(update={"isolated": True}))), ways.values(), strict=True
            ):
                _measure(source, seconds, cost)
    rows: list[tuple[object, ...]] = []
    for name, cost in ways.items():
        ages = statistics.quantiles(cost.ages_ms, n=100)
        rows.append(
            (
                name,
                f"{statistics.median(cost.cpu_ms):.2f}",
                f"{ages[49]:.2f}",
                f"{ages[94]:.2f}",
                f"{statistics.median(cost.first_s):.2f}",
            )
        )
    header = ("read", "CPU ms a picture", "age ms, median", "95 %", "s to the first picture")
    return f"H.264 1280x720 at 30 a second over RTSP, {rounds} x {seconds:g} s each, in turns.\n\n" + table(
        header, rows
    )


def _measure(source: SourceConfig, seconds: float, cost: Cost) -> None:
    intake, began = Intake(), time.monotonic()
    with source.open(threading.Event(), intake) as pictures:
        next(pictures)
        cost.first_s.append(time.monotonic() - began)
        for _ in islice(pictures, WARM_UP):
            pass
        child = psutil.Process(int(intake.facts["process"])) if "process" in intake.facts else None
        used, count, until = _used(child), 0, time.monotonic() + seconds
        for captured, _image in pictures:
            cost.ages_ms.append((time.monotonic_ns() - captured.monotonic_ns) / 1e6)
            count += 1
            if time.monotonic() > until:
                break
        cost.cpu_ms.append((_used(child) - used) * 1e3 / max(1, count))


def _used(child: psutil.Process | None) -> float:
    """Seconds of processor time up to now, of this process and the child."""
    theirs = child.cpu_times() if child else None
    return time.process_time() + (theirs.user + theirs.system if theirs else 0.0)


class _Streaming(Camera):
    """Knows by which process it streams."""

    process: str | None = None

    def say(self, state: object, reason: str | None = None, facts: dict[str, str] | None = None) -> None:
        super().say(state, reason, facts)  # type: ignore[arg-type]
        self.process = (facts or {}).get("process") if state == "streaming" else None


def kills(count: int) -> str:
    """One camera's process is killed again and again."""
    _kill(1)  # what libraries keep for good is there now
    before = _held()
    taken = _kill(count)
    names = ("descriptors", "threads", "processes", "names in /dev/shm", "MB resident")
    rows: list[tuple[object, ...]] = list(zip(names, before, _held(), strict=True))
    return (
        f"Killed {count} times while it streamed; it streamed again after {statistics.median(taken):.1f} s (median), "
        f"{max(taken):.1f} s at most.\n\n" + table(("what the agent holds", "before", "after"), rows)
    )


def _kill(count: int) -> list[float]:
    """Seconds until it streamed again, each time."""
    camera, captures = _Streaming("test", "dock", "killed", [], Outlets([])), Captures()
    captures.add(crashing.Config(isolated=True), [camera], None)
    captures.start()
    taken: list[float] = []
    try:
        for _ in range(count):
            pid = _await_process(camera, None)
            began = time.monotonic()
            psutil.Process(int(pid)).kill()
            _await_process(camera, pid)
            taken.append(time.monotonic() - began)
    finally:
        captures.stop({}, time.monotonic() + 10)
    return taken


def _await_process(camera: _Streaming, before: str | None) -> str:
    """By which it streams now, another one than `before`."""
    deadline = time.monotonic() + 30
    while (now := camera.process) is None or now == before:
        if time.monotonic() > deadline:
            raise TimeoutError("it does not stream again")
        time.sleep(0.005)
    return now


def _held() -> tuple[int, int, int, int, int]:
    gc.collect()
    this = psutil.Process()
    shared = len(list(Path("/dev/shm").iterdir()))
    return this.num_fds(), this.num_threads(), len(this.children()), shared, round(this.memory_info().rss / 1e6)


if __name__ == "__main__":
    main()
