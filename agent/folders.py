"""Where the agent keeps what it must still have after a restart: events, pictures, clips."""

from __future__ import annotations

import os
from pathlib import Path


def state_folder() -> Path:
    """$STATE_DIRECTORY of the service (systemd), else the user's state folder (XDG Base Directory Specification)."""
    if state := os.environ.get("STATE_DIRECTORY"):
        return Path(state.split(":")[0])
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "sightwire"
