"""Files in which the kernel and the system say things."""

from __future__ import annotations

from pathlib import Path


def read(path: Path) -> str:
    """What is in it; empty where it is not there or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
