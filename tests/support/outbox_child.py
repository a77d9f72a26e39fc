"""An agent's outbox in a process that is going to be killed: `python -m tests.support.outbox_child PATH RATE SEED`.

Says what it does, a line each, so that whoever kills it knows what must have survived:
`c SEQ N`: event N was handed out under this number, so it was committed · `a SEQ`: it is being acknowledged. First
`r`: the file is open.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from pathlib import Path

from agent.outbox.outbox import Outbox
from agent.outbox.settings import EventsSection
from tests.support.outbox import event


def say(*words: object) -> None:
    """One write, so that a kill leaves no half of a line behind a whole one."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def run(path: Path, rate: float, seed: int) -> None:
    """Until killed."""
    chance = random.Random(seed)
    outbox = Outbox(EventsSection(path=path, keep=1_000_000), "gatehouse", ["mqtt"])
    outbox.start()
    say("r")
    threading.Thread(target=read, args=(outbox, chance), daemon=True).start()
    begun, n = time.monotonic(), 0
    while True:
        n += 1
        outbox.put(event(n % 5, chance.choice(["start", "update", "end", "moment"]), score=float(seed * 1_000_000 + n)))
        time.sleep(max(0.0, begun + n / rate - time.monotonic()))


def read(outbox: Outbox, chance: random.Random) -> None:
    """Take what comes, and acknowledge some of it."""
    after = 0
    while True:
        for stored in outbox.next("mqtt", after, 100, 1.0):
            after = stored.seq
            say("c", stored.seq, f"{stored.event.score or 0:.0f}")
            if chance.random() < 0.7:
                say("a", stored.seq)
                outbox.settle("mqtt", stored.seq, "acknowledged")


if __name__ == "__main__":
    run(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
