"""`scripts/prove soak HOURS [--seed N] [--folder DIR] [--write]`: an agent among random faults, for hours.

Four real RTSP cameras with people in them, a real mosquitto, INT8 models, tracks, zones and rules; cameras lose power,
stall and freeze, the broker is killed, stopped and frozen, the configuration is read again, at times that a seed
decides. Samples the agent each 10 s. Ends with 1 where something did not hold; Ctrl-C ends it early, with its result.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from tests.prove.record import DOCUMENT, section, table
from tests.support.soak.faults import GIVEN_UP_S, Fault, Mischief
from tests.support.soak.heard import Heard, Notes
from tests.support.soak.plot import Line, Panel, svg
from tests.support.soak.samples import Growth, Log, Sample, growth, sample, share
from tests.support.soak.site import AGENT, CAMERAS, KEY_FRAME_S, RATE, Site, account_of

SAMPLE_S = 10.0
WARM_S = 600.0
"""An allocator and a decoder pool need so long to reach their size; of a short soak, a quarter."""
MOST_GROWTH = 1.0
"""Percent, after the warm-up."""
CALM_S = 40.0
"""So long may everything take to be well again at the end."""
BROKER_MEMORY_S = 2.0
"""What a killed mosquitto may not have written yet."""
FOUND_S = 5.0
BACK_S = 5.0 + KEY_FRAME_S
PAUSE_S = 30.0
"""See `agent.sinks._link.pause_s`."""
IDLE = 0.1
"""With less of the processors idle, times say how busy the machine was."""


HELD, NOT_HELD, NOT_JUDGED = "held", "NOT HELD", "not judged"


@dataclass(frozen=True)
class Missing:
    """Events that never came: numbers, and when the ones around them happened, Unix time."""

    first: int
    last: int
    after_s: float
    before_s: float


@dataclass
class Soak:
    """All that is known at the end."""

    seed: int
    lasted_s: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)
    ages_ms: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    began_s: float = 0.0
    status: int | None = None
    """The agent's exit status."""
    restarts: int = 0
    """Threads that a fault of ours ended, by the log."""
    waiting: int | None = None
    """Events left in the outbox's file; None: it cannot be read."""

    @property
    def warm_s(self) -> float:
        """End of the warm-up."""
        return min(WARM_S, self.lasted_s / 4)

    def warm(self) -> list[Sample]:
        """The samples after it."""
        return [seen for seen in self.samples if seen.at_s >= self.warm_s]

    def growth(self, figure: str) -> Growth:
        """Of one of the samples' figures."""
        warm = self.warm()
        return growth([seen.at_s for seen in warm], [float(getattr(seen, figure)) for seen in warm])

    def missing(self) -> list[Missing]:
        """Runs of event numbers that never came."""
        times, runs = self.notes.event_times, list[Missing]()
        came = sorted(times)
        for before, after in zip([0, *came], came, strict=False):
            if after > before + 1:
                runs.append(Missing(before + 1, after - 1, times.get(before, self.began_s), times[after]))
        return runs

    def broker_lost(self) -> int:
        """Events that never came and were made just before the broker was killed, which loses what it acknowledged."""
        kills = [fault.began_s for fault in self.faults if fault.kind == "broker killed"]
        return sum(
            run.last - run.first + 1
            for run in self.missing()
            if any(run.after_s - 1 <= kill and kill - BROKER_MEMORY_S <= run.before_s for kill in kills)
        )


def soak(hours: float, seed: int, folder: Path) -> Soak:
    """Do it."""
    result = Soak(seed)
    # Files of a soak before this one would give the agent its events.
    with (
        tempfile.TemporaryDirectory(prefix=f"{AGENT}-") as scratch,
        Site(Path(scratch)) as site,
        _listening(site) as heard,
        _first_interrupt_ends() as ended,
    ):
        log = Log(folder / "samples.jsonl")
        process = psutil.Process(site.agent.pid)
        _wait(lambda: len(heard.newest_s()) == len(CAMERAS), 60, "no results from all cameras")
        begun_s, result.began_s = time.monotonic(), time.time()

        def say(what: str) -> None:
            print(f"{time.monotonic() - begun_s:8.1f} s  {what}", flush=True)

        mischief = Mischief(site, heard, seed, say)
        due_s = begun_s
        while (now_s := time.monotonic()) < begun_s + hours * 3600 and not ended and site.agent.running:
            mischief.tick()
            if now_s >= due_s:
                due_s += SAMPLE_S
                ages = heard.ages()
                for kept, new in zip(result.ages_ms, ages, strict=True):
                    kept.extend(new)
                log.add(sample(process, now_s - begun_s, ages))
                if len(log.samples) % 30 == 1:
                    say(_line(log.samples[-1]))
            time.sleep(0.05)
        result.lasted_s = time.monotonic() - begun_s
        mischief.end()
        say("faults are over")
        with contextlib.suppress(TimeoutError):
            _wait(lambda: _calm(heard), CALM_S, "")
        if not site.agent.running:
            say("THE AGENT HAS ENDED")
        result.status = site.end_agent() if site.agent.running else site.agent.wait()
        with contextlib.suppress(TimeoutError):
            _wait(lambda: not heard.notes.online, 5, "")
        (folder / "agent.log").write_text(site.agent.err)
        result.restarts = site.agent.err.count("a fault of ours")
        result.waiting = _waiting(site.events)
        log.close()
        result.samples, result.faults, result.notes = log.samples, mischief.faults, heard.notes
        what = {"faults": mischief.faults, "missing": result.missing()}
        said = {name: [{**asdict(entry)} for entry in entries] for name, entries in what.items()}
        (folder / "faults.json").write_text(json.dumps(said, indent=1))
    return result


@contextlib.contextmanager
def _listening(site: Site) -> Iterator[Heard]:
    heard = Heard(site.broker.observer_url)
    try:
        yield heard
    finally:
        heard.close()


@contextlib.contextmanager
def _first_interrupt_ends() -> Iterator[list[bool]]:
    """Not empty after Ctrl-C or SIGTERM."""
    asked: list[bool] = []
    before = {
        number: signal.signal(number, lambda *_: asked.append(True)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(wanted: Callable[[], bool], seconds: float, otherwise: str) -> None:
    end_s = time.monotonic() + seconds
    while not wanted():
        if time.monotonic() > end_s:
            raise TimeoutError(otherwise)
        time.sleep(0.05)


def _calm(heard: Heard) -> bool:
    """Results of now from all cameras, nothing waits in the outbox, and the metrics are of now."""
    now_s = time.time()
    newest = heard.newest_s()
    metrics = heard.notes.metrics
    return all(newest[camera] > now_s - 3 for camera in CAMERAS) and all(
        account["waiting"] <= 1 for account in metrics.get("events", {}).values()
    )


def _waiting(events: Path) -> int | None:
    """Events in the file that somebody has not acknowledged."""
    try:
        with contextlib.closing(sqlite3.connect(events, timeout=5)) as file:
            if file.execute("PRAGMA quick_check").fetchone() != ("ok",):
                return None
            return int(file.execute("SELECT count(*) FROM events WHERE owed != 0").fetchone()[0])
    except sqlite3.DatabaseError:
        return None


def _line(seen: Sample) -> str:
    age = f"{seen.age_p50_ms:.0f}/{seen.age_p95_ms:.0f} ms" if seen.age_p50_ms is not None else "no results"
    memory = f"RSS {seen.rss_mb:.1f} MB, anonymous {seen.anonymous_mb:.1f} MB"
    return f"{memory}, {seen.fds} fds, {seen.threads} threads, ages {age}"


def judged(result: Soak) -> list[tuple[str, str, str]]:
    """What must hold, what was measured, and how it stands: `held`, `NOT HELD`, or `not judged`."""
    names = ("rss_mb", "anonymous_mb", "fds", "threads")
    rss, anonymous, fds, threads = (result.growth(name) for name in names)
    notes = result.notes
    missing, theirs = notes.events.missing, result.broker_lost()
    accounts = dict(account_of(notes.metrics)) if notes.metrics else {}
    left = {name: account["waiting"] for name, account in accounts.items() if account["waiting"]}
    delivered = {sink: account["waiting"] for sink, account in notes.metrics.get("events", {}).items()}
    rows: list[tuple[str, str, bool]] = [
        (
            f"RSS grows by at most {MOST_GROWTH:g} % after the warm-up of {result.warm_s / 60:.1f} min",
            f"{rss.percent:+.2f} % ({rss.first:.1f} to {rss.last:.1f} MB, medians of the first and last tenth of "
            f"{rss.span_h:.2f} h); slope {rss.percent_per_hour:+.2f} %/h (Theil-Sen); without "
            f"mapped files {anonymous.percent:+.2f} % ({anonymous.first:.1f} to {anonymous.last:.1f} MB)",
            rss.percent <= MOST_GROWTH,
        ),
        ("no descriptors are lost", f"{fds.first:g} to {fds.last:g}", fds.last <= fds.first + 2),
        ("no threads are lost", f"{threads.first:g} to {threads.last:g}", threads.last <= threads.first + 2),
        (
            "no event is lost (event_seq without gaps at the subscriber), order per camera",
            f"{len(notes.events.numbers)} events, {missing - theirs} lost, {theirs} that a killed mosquitto had "
            f"acknowledged and not written, {notes.events.duplicates} delivered twice",
            missing == theirs and not notes.events.faults,
        ),
        (
            "law 7, events: made == acknowledged + expired + dropped + waiting in all metrics; none waits at the end",
            f"{len(notes.unbalanced)} unbalanced; left: {delivered}, in the file: {result.waiting}",
            not notes.unbalanced and bool(delivered) and not any(delivered.values()) and result.waiting == 0,
        ),
        (
            "law 7, frames: offered == all outcomes after the stop",
            f"{sum(account['offered'] for account in accounts.values())} offered since the last reload in "
            f"{len(accounts)} accounts, without outcome: {left or 'none'}; at most "
            f"{max(notes.most_waiting.values(), default=0)} at once while it ran",
            bool(accounts) and not left,
        ),
        (
            "no result is handed over older than max_age (1 s)",
            f"oldest {notes.oldest_ms:.0f} ms of {notes.results}",
            notes.oldest_ms <= 1000,
        ),
        ("no thread of ours fails, and the agent ends as told", f"{result.restarts}, exit {result.status}",
         result.restarts == 0 and result.status == 0),
    ]  # fmt: skip
    return [(must, was, HELD if holds else NOT_HELD) for must, was, holds in rows] + list(judged_times(result.faults))


def judged_times(faults: Sequence[Fault]) -> Iterator[tuple[str, str, str]]:
    """As `judged`: whether losses are found in time, and whether all is back in time."""
    over = [fault for fault in faults if fault.over]
    never = [f"{fault.kind}, {fault.where}" for fault in over if fault.back_s is None]
    yield (
        f"all is well again after each fault, within {GIVEN_UP_S:g} s whatever else happens",
        f"{len(over) - len(never)} of {len(over)}{': not ' * bool(never)}{'; '.join(never)}",
        _stands(over, not never),
    )
    alone = [fault for fault in over if fault.alone]
    fair = [fault for fault in alone if fault.idle >= IDLE]
    left_out = f"{len(alone) - len(fair)} left out: less than {IDLE:.0%} of the machine was idle"
    for words, may_s, how_long in (
        (f"found within {FOUND_S:g} s", lambda _: FOUND_S, _found_s),
        (
            f"back within {FOUND_S:g} s and a key frame ({BACK_S:g} s); a broker within the longest pause between two "
            f"tries ({PAUSE_S:g} s)",
            lambda fault: PAUSE_S if fault.where == "broker" else BACK_S,
            lambda fault: fault.back_s,
        ),
    ):
        took = [(took_s, fault) for fault in fair if (took_s := how_long(fault)) is not None]
        late = [f"{fault.kind}, {fault.where}: {took_s:.1f} s" for took_s, fault in took if took_s > may_s(fault)]
        measured = f"{len(took) - len(late)} of {len(took)}{': not ' * bool(late)}{'; '.join(late)} ({left_out})"
        yield f"{words}, of faults that no other overlaps", measured, _stands(took, not late)


def _found_s(fault: Fault) -> float | None:
    """None: there was nothing to find, or too little time; infinite: a camera was away, and that was never said."""
    if fault.found_s is None and fault.where in CAMERAS and fault.undone_s - fault.began_s > FOUND_S:
        return float("inf")
    return fault.found_s


def _stands(seen: Sequence[object], holds: bool) -> str:
    return (HELD if holds else NOT_HELD) if seen else NOT_JUDGED


def recoveries(result: Soak) -> list[tuple[object, ...]]:
    """A row for each kind of fault."""
    rows: list[tuple[object, ...]] = []
    for kind in sorted({fault.kind for fault in result.faults if fault.over}):
        ended = [fault for fault in result.faults if fault.kind == kind and fault.over]
        over = [fault for fault in ended if fault.back_s is not None]
        alone = [fault for fault in over if fault.alone]
        found = [fault.found_s for fault in alone if fault.found_s is not None]
        back = [fault.back_s for fault in alone if fault.back_s is not None]
        lost = len(ended) - len(over)
        rows.append((kind, len(ended), len(alone), _spread(found), _spread(back), lost or ""))
    return rows


def _spread(values: list[float]) -> str:
    return f"{share(values, 50):.1f} / {max(values):.1f}" if values else ""


def picture(result: Soak) -> str:
    """The SVG."""
    samples = result.samples
    marks = [(fault.began_s - result.began_s, fault.kind) for fault in result.faults]

    def line(name: str, colour: str, figure: str) -> Line:
        return Line(name, colour, [getattr(seen, figure) for seen in samples])

    panels = [
        Panel(
            "memory, MB",
            [line("RSS", "#111", "rss_mb"), line("without mapped files", "#7c3aed", "anonymous_mb")],
            from_zero=False,
        ),
        Panel("descriptors", [line("", "#111", "fds")], from_zero=False),
        Panel("threads", [line("", "#111", "threads")], from_zero=False),
        Panel(
            "age of results, ms",
            [line("median", "#111", "age_p50_ms"), line("95 %", "#dc2626", "age_p95_ms")],
        ),
    ]
    return svg([seen.at_s for seen in samples], panels, marks, result.warm_s)


def report(result: Soak) -> str:
    """The section of docs/measurements.md."""
    handed, arrived = result.ages_ms
    ages = ", ".join(
        f"{what} median {share(values, 50):.0f}, 95 % {share(values, 95):.0f}, 99 % {share(values, 99):.0f}"
        for what, values in (("handed over", handed), ("arrived", arrived))
        if values
    )
    cpu_s = result.samples[-1].cpu_s - result.samples[0].cpu_s
    say = (
        f"{result.lasted_s / 3600:.2f} h, {len(CAMERAS)} RTSP cameras of {RATE} pictures a second (480x204, people "
        f"looked for 4 times a second each, the scene every 2 s), {len(result.faults)} faults (seed {result.seed}), "
        f"{cpu_s / (result.samples[-1].at_s or 1) * 100:.0f} % of a core, sampled each {SAMPLE_S:g} s. "
        f"Ages of results, ms: {ages}."
    )
    head = ("fault", "times", "alone", "found after, s", "back after, s", "not back")
    return "\n".join([
        say,
        "",
        table(("must hold", "measured", ""), [(*row,) for row in judged(result)]),
        "Seconds, median / longest, of the faults that no other fault overlapped. Back: from the moment the cause is "
        "gone to the arrival of a result of a newer picture, from all cameras after a reload; wanted: "
        f"found within {FOUND_S:g} of the last picture, back within {BACK_S:g} (a key frame each {KEY_FRAME_S:g} s); a "
        "broker that is away is tried again after pauses that double. A burst is a camera "
        "that stops for 2 s and then sends all at once.",
        "",
        table(head, recoveries(result)),
    ])  # fmt: skip


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(prog="scripts/prove soak", description=__doc__)
    parser.add_argument("hours", type=float)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where samples.jsonl, agent.log and soak.svg stay")
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md and docs/soak.svg")
    asked = parser.parse_args()
    if asked.folder:
        asked.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{AGENT}-") as scratch:
        folder = asked.folder or Path(scratch)
        result = soak(asked.hours, asked.seed, folder)
        if len(result.warm()) < 3:
            sys.exit("too short: at least three samples after the warm-up are needed")
        body = report(result)
        print(body)
        (folder / "soak.svg").write_text(picture(result))
    if asked.write:
        (DOCUMENT.parent / "soak.svg").write_text(picture(result))
        section("soak", "Soak", f"scripts/prove soak {asked.hours:g}", f"{body}\n![](soak.svg)\n")
    return int(any(row[2] == NOT_HELD for row in judged(result)))


if __name__ == "__main__":
    sys.exit(main())
