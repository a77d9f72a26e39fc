"""Feeding hostile inputs from outside: survives the children that do not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, Any

from tests.support.broker import die_with_parent
from tests.support.hostile.child import inputs

ROOT = Path(__file__).parents[3]
START_S = 60.0
"""A child that imports and makes its first input takes no longer."""
_TOLD = 1500
"""Letters of what a child that died said last."""


@dataclass
class Fed:
    """What became of inputs."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: dict[int, str] = field(default_factory=dict)
    """Number of the input -> what happened."""
    longest: tuple[float, int] = (0.0, -1)
    """Seconds, and the number of the input that took them."""
    largest: tuple[float, int] = (0.0, -1)
    """Likewise megabytes."""

    @property
    def count(self) -> int:
        """Of inputs."""
        return self.outcomes.total() + len(self.wrong)

    def note(self, said: list[Any]) -> None:
        """One line of a child."""
        if said[0] == "wrong":
            self.wrong[said[1]] = said[2]
        elif said[0] == "was":
            _, number, outcome, took_s, took_mb = said
            self.outcomes[outcome] += 1
            self.longest, self.largest = max(self.longest, (took_s, number)), max(self.largest, (took_mb, number))


def feed(
    kind: str,
    folder: Path,
    first: int,
    count: int,
    *,
    keep: Path | None = None,
    progress: Callable[[Fed], None] = lambda _: None,
) -> Fed:
    """Feed inputs `first` and following. `keep`: those that go wrong are written there."""
    folder.mkdir(parents=True, exist_ok=True)
    made, fed, at = inputs(kind, folder), Fed(), first
    while at < first + count:
        at = _feed_some(kind, folder, at, first + count - at, made.most_s, fed, progress)
    if keep is not None and fed.wrong:
        keep.mkdir(parents=True, exist_ok=True)
        for number, what in fed.wrong.items():
            (keep / f"{kind}-{number}").write_bytes(made.make(number))
            (keep / f"{kind}-{number}.txt").write_text(what, encoding="utf-8")
    return fed


def _feed_some(
    kind: str, folder: Path, first: int, count: int, most_s: float, fed: Fed, progress: Callable[[Fed], None]
) -> int:
    """Until one child ends, however. Returns the number to go on with."""
    command = [sys.executable, "-m", "tests.support.hostile.child", kind, str(folder), str(first), str(count)]
    lines: SimpleQueue[str | None] = SimpleQueue()
    at, patience_s = first, START_S
    with tempfile.TemporaryFile() as cries:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=cries,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            preexec_fn=die_with_parent,
        )
        assert child.stdout is not None
        reader = Thread(target=_read, args=(child.stdout, lines))
        reader.start()
        try:
            while (line := lines.get(timeout=patience_s)) is not None:
                said = json.loads(line)
                at, patience_s = said[1], most_s
                if said[0] != "at":
                    fed.note(said)
                    at += 1
                    progress(fed)
            if status := child.wait():
                fed.wrong[at] = f"{_death(status)}: {_last_words(cries)}"
                at += 1
        except Empty:
            fed.wrong[at] = f"hangs: nothing for {patience_s:g} s"
            at += 1
        finally:
            child.kill()
            child.wait()
            reader.join()
            child.stdout.close()
    progress(fed)
    return at


def _read(pipe: IO[str], lines: SimpleQueue[str | None]) -> None:
    for line in pipe:
        lines.put(line)
    lines.put(None)


def _death(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"


def _last_words(cries: IO[bytes]) -> str:
    size = cries.seek(0, os.SEEK_END)
    cries.seek(max(0, size - _TOLD))
    return cries.read().decode("utf-8", "replace").strip()
