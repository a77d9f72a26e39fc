"""How soon each fault of each kind of camera is found and over: `scripts/prove supervision [--write] [--cycles N]`."""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from tests.prove.record import section, table
from tests.support.cable import FAULTS
from tests.support.changing import BEFORE, CHANGES, Changed, changed
from tests.support.faulty import FPS, KEY_FRAME_S, KINDS, LIMIT_S, OVER_RTSP, Fared, Kind, Lag, Site, faults_of
from tests.support.reopening import Reopening

PATIENCE_S = 12.0
EACH_ROUND = 5
"""Parts in which the cycles are run, so that one sees whether memory still grows at the end."""


def main() -> None:
    """Measure, print, and with --write record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    parser.add_argument("--rounds", type=int, default=3, help="how often every fault happens")
    parser.add_argument("--cycles", type=int, default=1000, help="connections of each kind of camera; 0: none")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only these kinds of camera")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    body = faults(options.rounds, options.kind or KINDS)
    if over_rtsp := [kind for kind in options.kind or KINDS if kind in OVER_RTSP]:
        body += "\n" + changes(over_rtsp)
    if options.cycles:
        body += "\n" + reopening(options.cycles)
    print(body)
    if options.write:
        command = "scripts/prove supervision"
        section("supervision", "Cameras that break and come back", command, body)


def faults(rounds: int, kinds: Sequence[Kind]) -> str:
    """The table of each kind of source and each fault: the slowest of all rounds."""
    every: list[Fared] = []
    gaps: dict[str, float] = {}
    lag_s = 0.0
    for number, kind in product(range(rounds), kinds):
        cells = [(kind, fault) for fault in faults_of(kind)]
        with tempfile.TemporaryDirectory() as folder, Lag() as lag, Site(Path(folder), cells) as site:
            away = site.await_all(20)
            assert not away, away
            # A little later in the camera's second each time: a key frame is farther away, or nearer.
            time.sleep(number * KEY_FRAME_S / max(1, rounds))
            began = site.spoil_all(LIMIT_S + 3 + number * 0.7)
            ended = site.mend_all(PATIENCE_S)
            every += site.fared
            gaps = {name: max(gaps.get(name, 0.0), gap.worst_s(began, ended)) for name, gap in site.gaps.items()}
            lag_s = max(lag_s, lag.worst_s)
            print(f"round {number + 1}, {kind}", flush=True)
    by_cell: dict[str, list[Fared]] = {}
    for one in every:
        by_cell.setdefault(one.name, []).append(one)
    rows: list[tuple[object, ...]] = [
        (fault, *(_cell(by_cell.get(f"{kind}-{fault}", [])) for kind in kinds)) for fault in FAULTS
    ]
    backs = [one.back_s for one in every]
    worst = max(back if back is not None else float("inf") for back in backs)
    founds = [one.found_s for one in every if one.found_s is not None]
    return (
        "The cameras of a kind, all of one agent, break at the same moment and are mended at the same moment, each "
        f"with its own fault, {rounds} times; {FPS} pictures a second, a key frame each second, all settings the "
        "defaults. In a cell: seconds from the fault (or from the last picture after it: decoders make pictures of "
        "some noise) until the loss is told / seconds from the mending until it streams, the slowest of all times; a "
        "dash: it streamed on, in its own way.\n\n"
        + table(("fault", *kinds), rows)
        + f"\nSlowest: found {max(founds):.1f} s, back {worst:.1f} s (limits: {LIMIT_S:g} and "
        f"{LIMIT_S + KEY_FRAME_S:g}). Meanwhile the frames of cameras that nothing happened to, {1 / FPS:g} s apart by "
        "themselves, came at most "
        + ", ".join(f"{gap:.2f} s ({name.removeprefix('good-')})" for name, gap in sorted(gaps.items()))
        + f" apart; a thread that does nothing but sleep was up to {lag_s:.2f} s late.\n"
    )


def changes(kinds: Sequence[Kind]) -> str:
    """The table of changes within a session."""
    by_cell = {(one.change, one.kind): one for one in changed()}
    rows = [(change, *(_changed(by_cell[change, kind]) for kind in kinds)) for change in CHANGES]
    return (
        "Cameras that go on in the same RTSP session with another size or codec, all settings the defaults, a key "
        f"frame each {BEFORE.gop / BEFORE.fps:g} s. In a cell: seconds from the last picture until the loss is told, "
        "or a dash where it streamed on / the longest time between two pictures / what the pictures are in the end:\n\n"
        + table(("change", *kinds), rows)
    )


def _changed(fared: Changed) -> str:
    found = "-" if fared.found_s is None else f"{fared.found_s:.1f}"
    return f"{found} / {fared.away_s:.1f} / {fared.codec}, {fared.size[0]}x{fared.size[1]}"


def _cell(fared: list[Fared]) -> str:
    if not fared:
        return ""
    found = [one.found_s for one in fared if one.found_s is not None]
    back = [one.back_s for one in fared]
    told = f"{max(found):.1f}" if found else "-"
    return f"{told} / {'never' if None in back else f'{max(b for b in back if b is not None):.1f}'}"


def reopening(cycles: int) -> str:
    """What is held after so many connections of each kind."""
    rows: list[tuple[object, ...]] = []
    with Reopening() as opened:
        opened.round(5)
        before = opened.settled()
        rows.append(("before", before.threads, before.descriptors, f"{before.rss_mb:.1f}"))
        made: dict[str, int] = {}
        for part in range(EACH_ROUND):
            began = time.monotonic()
            more = opened.round(cycles // EACH_ROUND, 6 * 3600)
            made = {kind: made.get(kind, 0) + count for kind, count in more.items()}
            held = opened.settled(before)
            rows.append((min(made.values()), held.threads, held.descriptors, f"{held.rss_mb:.1f}"))
            print(f"{part + 1}/{EACH_ROUND}: {held}, {time.monotonic() - began:.0f} s")
    counts = ", ".join(f"{kind} {count}" for kind, count in made.items())
    return (
        "Connections that break off in the middle of a picture, again and again, besides sources that are never there "
        f"({counts}); what the process holds when all readers have ended (servers of the HTTP cameras included):\n\n"
        + table(("connections of each at least", "threads", "descriptors", "RSS, MB"), rows)
    )


if __name__ == "__main__":
    main()
