"""Inputs that do what others must not, to see that it is noticed."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path


class Traps:
    """0 and 5 are harmless; a crash, a hang, a lot of memory, an exception between them."""

    most_s = 5.0
    most_mb = 100.0

    def __init__(self, folder: Path) -> None:
        """Needs no folder."""

    def make(self, number: int) -> bytes:
        """The number itself."""
        return str(number).encode()

    def feed(self, data: bytes) -> str:
        """By the number."""
        match int(data):
            case 1:
                os.kill(os.getpid(), signal.SIGSEGV)
            case 2:
                threading.Event().wait()
            case 3:
                bytearray(150 << 20)
            case 4:
                raise RuntimeError("what no part may raise")
        return "fine"
