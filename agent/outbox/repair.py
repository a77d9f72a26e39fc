"""What becomes of a file that cannot be used."""

from __future__ import annotations

import contextlib
from pathlib import Path

from agent.outbox.store import Store


def machine() -> str:
    """The kernel's own boot_id: another one each time the machine starts; empty where there is none."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def open_or_replace(path: Path | None) -> tuple[Store, bool]:
    """Open the file, or another one in its place; whether something may be lost."""
    return Store(path), False
