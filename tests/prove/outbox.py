"""What the outbox costs and survives: `scripts/prove outbox [--write] [--kills N] [--seconds S] [--folder DIR]`."""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import psutil

from agent.messages import EventPayload, Size
from agent.outbox.outbox import Outbox
from agent.outbox.settings import EventsSection
from agent.outbox.store import PAGE_BYTES
from tests.prove.record import section, table
from tests.support.outbox import committed, event
from tests.support.outbox_kills import Kills, kill_at_random

AT = "2026-11-22T08:00:00.123456Z"


def typical(n: int) -> EventPayload:
    """One of the three events of an incident: about 560 bytes as it is kept, 700 as it is sent."""
    return event(
        n // 3,
        ("start", "update", "end")[n % 3],
        use="people",
        model="person-ssdlite@int8",
        rule="gate",
        first_seen=AT,
        last_seen=AT,
        clock="rtcp",
        frame=Size.model_construct(width=1280, height=720),
        label="person",
        score=0.91,
        track=17,
        box=[412.0, 88.5, 503.2, 371.0],
        zones=["gate", "yard"],
        path=[(0.5 * i, 100.0 + i, 200.0) for i in range(4 * (n % 3))],
        seq=4711,
    )


class Courier:
    """Acknowledges everything at once, in a thread."""

    def __init__(self, outbox: Outbox) -> None:
        self.delays_s: list[float] = []
        """From put to being handed out, where `put_at` says when that was."""
        self.put_at: dict[int, float] = {}
        self._outbox, self._stop = outbox, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Courier:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        after = 0
        while not self._stop.is_set():
            for stored in self._outbox.next("mqtt", after, 200, 0.2):
                after = stored.seq
                if put_at := self.put_at.pop(after, 0.0):
                    self.delays_s.append(time.perf_counter() - put_at)
                self._outbox.settle("mqtt", after, "acknowledged")


def opened(folder: Path, **settings: object) -> Outbox:
    """A new outbox."""
    outbox = Outbox(EventsSection(path=Path(tempfile.mkdtemp(dir=folder)) / "events.db", **settings), "a", ["mqtt"])
    outbox.start()
    return outbox


def offer(put: Callable[[int], object], rate: float, seconds: float) -> int:
    """Call `put` at that rate; how often."""
    begun, n = time.monotonic(), 0
    while (now := time.monotonic()) < begun + seconds:
        for _ in range(int((now - begun) * rate) + 1 - n):
            put(n)
            n += 1
        time.sleep(max(0.0, begun + n / rate - time.monotonic()))
    return n


def bytes_per_event(folder: Path, rate: float, seconds: float, *, acknowledged: bool) -> tuple[float, float]:
    """Bytes an event that are handed to the kernel, and that the kernel has to write (what it has dirtied)."""
    outbox = opened(folder)
    time.sleep(0.3)
    before = _io()
    if acknowledged:
        with Courier(outbox):
            count = offer(lambda n: outbox.put(typical(n)), rate, seconds)
            time.sleep(2.5)
    else:
        count = offer(lambda n: outbox.put(typical(n)), rate, seconds)
        committed(outbox)
    after = _io()
    outbox.close(5)
    return (after["wchar"] - before["wchar"]) / count, (after["write_bytes"] - before["write_bytes"]) / count


def _io() -> dict[str, int]:
    pairs = (line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return {name: int(value) for name, value in pairs}


def put_us(folder: Path, count: int) -> float:
    """Median time of one `put` at a rate that an agent may have, µs."""
    outbox = opened(folder)
    took: list[float] = []

    def put(n: int) -> None:
        event, begun = typical(n), time.perf_counter()
        outbox.put(event)
        took.append(time.perf_counter() - begun)

    offer(put, 1000, count / 1000)
    outbox.close(5)
    return median(took) * 1e6


def delays_ms(folder: Path, rate: float, seconds: float) -> tuple[float, float]:
    """From put to being handed out, after the commit: median and the slowest of a hundred, ms."""
    outbox = opened(folder)
    with Courier(outbox) as courier:
        chance = random.Random(1)

        def put(n: int) -> None:
            time.sleep(chance.uniform(0, 0.5 / rate))
            now = time.perf_counter()
            courier.put_at[outbox.put(typical(n))] = now

        offer(put, rate, seconds)
        time.sleep(0.5)
    outbox.close(5)
    delays = sorted(courier.delays_s)
    return median(delays) * 1e3, delays[int(len(delays) * 0.99)] * 1e3


def drain_per_s(folder: Path, count: int) -> float:
    """Events a second that are read from the file and acknowledged, after an outage."""
    outbox = opened(folder)
    for n in range(count):
        outbox.put(typical(n))
        if n % 5000 == 4999:
            committed(outbox)
    committed(outbox)
    begun, after = time.perf_counter(), 0
    while found := outbox.next("mqtt", after, 200, 0.0):
        for stored in found:
            outbox.settle("mqtt", stored.seq, "acknowledged")
        after = found[-1].seq
    took = time.perf_counter() - begun
    outbox.close(10)
    return count / took


def flood(folder: Path, rate: float, seconds: float, keep: int) -> dict[str, float]:
    """Offer more than anything takes: what became of it, and how much memory that took, MB."""
    outbox = opened(folder, keep=keep)
    process = psutil.Process()
    before = process.memory_info().rss
    most = before

    def put(n: int) -> None:
        nonlocal most
        outbox.put(typical(n))
        if n % 2000 == 0:
            most = max(most, process.memory_info().rss)

    count = offer(put, rate, seconds)
    committed(outbox)
    told = 0
    while found := outbox.next("mqtt", 0, 500, 0.7):
        for stored in found:
            if stored.event.kind == "gap":
                told += stored.event.data["count"]
            outbox.settle("mqtt", stored.seq, "acknowledged")
    account = outbox.counts()["mqtt"]
    size = outbox.path.stat().st_size if outbox.path else 0
    outbox.close(10)
    return {**account, "offered": count, "told": told, "memory_mb": (most - before) / 1e6, "file_mb": size / 1e6}


def kills(folder: Path, count: int) -> Kills:
    """SIGKILL at random moments."""
    return kill_at_random(Path(tempfile.mkdtemp(dir=folder)) / "events.db", count, rate=1000, seed=count)


def main() -> None:
    """Measure, print, perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--folder", type=Path, help="on the disk that is to be measured")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=wanted.folder) as name:
        folder = Path(name)
        rows: list[list[str]] = []

        def found(what: str, figure: str) -> None:
            rows.append([what, figure])
            print(f"{what}: {figure}", flush=True)

        for rate in 1, 10, 100:
            for acknowledged in True, False:
                seconds = max(wanted.seconds, 20.0) if rate == 1 else wanted.seconds
                asked, dirtied = bytes_per_event(folder, rate, seconds, acknowledged=acknowledged)
                how = "acknowledged at once" if acknowledged else "nobody acknowledges"
                found(f"{rate} events/s, {how}: bytes an event", f"{asked:.0f} written, {dirtied:.0f} for the disk")
        found("`put`, median", f"{put_us(folder, 3000):.0f} µs")
        middle, slow = delays_ms(folder, 5, wanted.seconds)
        found("put to courier at 5 events/s, median / 99 %", f"{middle:.1f} / {slow:.1f} ms")
        middle, slow = delays_ms(folder, 100, wanted.seconds)
        found("put to courier at 100 events/s, median / 99 %", f"{middle:.1f} / {slow:.1f} ms")
        found("drained from the file", f"{drain_per_s(folder, 50_000):.0f} events/s")
        result = flood(folder, 10_000, wanted.seconds, keep=20_000)
        said = ", ".join(f"{key} {value:.0f}" for key, value in result.items())
        found(f"10,000 events/s for {wanted.seconds:g} s, `keep: 20000`, no broker", said)
        survived = kills(folder, wanted.kills)
        found(
            f"{survived.kills} SIGKILLs at random, 1,000 events/s",
            f"{survived.committed} committed, {len(survived.lost)} lost, {len(survived.missing)} numbers missing, "
            f"{len(survived.changed)} used twice, {survived.damaged} files damaged",
        )
    if wanted.write:
        command = f"scripts/prove outbox --kills {wanted.kills} --seconds {wanted.seconds:g}"
        section("outbox", f"Outbox (pages of {PAGE_BYTES} bytes)", command, table(["what", "figure"], rows))


if __name__ == "__main__":
    os.nice(5)
    main()
