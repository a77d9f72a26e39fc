"""`python -m tests.support.hostile.child KIND FOLDER FIRST COUNT`: feeds inputs, a JSON line for each.

["at", 7] before it, then ["was", 7, "refused", seconds, megabytes], or ["wrong", 7, "what happened"].
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path

from tests.support.hostile import Inputs, Wrong


def inputs(kind: str, folder: Path) -> Inputs:
    """Those of that name; imports what they need, and nothing else."""
    made: Inputs = getattr(import_module(f"tests.support.hostile.{kind}"), kind.title())(folder)
    return made


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _megabytes(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def main() -> None:
    """Feed them."""
    kind, folder, first, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    faulthandler.enable()  # names the native call that crashed
    # What parts print is not what we say.
    say = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    logging.disable()
    fed = inputs(kind, folder)
    for number in range(first, first + count):
        data = fed.make(number)
        print(json.dumps(["at", number]), file=say)
        _forget_peak()
        before_mb, began_s = _megabytes("VmRSS"), time.monotonic()
        try:
            outcome = fed.feed(data)
        except Wrong as wrong:
            print(json.dumps(["wrong", number, str(wrong)]), file=say)
            continue
        except Exception:  # noqa: BLE001  # that is what we look for
            print(json.dumps(["wrong", number, traceback.format_exc(limit=-6)]), file=say)
            continue
        took_s, took_mb = time.monotonic() - began_s, _megabytes("VmHWM") - before_mb
        if took_mb > fed.most_mb:
            what = f"{took_mb:.0f} MB for a moment, at most {fed.most_mb:.0f} are right ({outcome})"
            print(json.dumps(["wrong", number, what]), file=say)
            continue
        print(json.dumps(["was", number, outcome, round(took_s, 3), round(took_mb, 1)]), file=say)


if __name__ == "__main__":
    main()
