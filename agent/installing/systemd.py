"""What is asked of systemd, and what it says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from agent.installing import layout
from agent.installing.errors import InstallError
from agent.installing.steps import run

BOOTED = Path("/run/systemd/system")
"""Is there if systemd is this machine's first process: sd_booted(3)."""
DAEMON_RELOAD = ("systemctl", "daemon-reload")


def must_run_here() -> None:
    """Raises InstallError unless this machine was booted by systemd."""
    if not BOOTED.is_dir():
        raise InstallError(
            "this machine was not booted with systemd, as in a container: 'sightwire run CONFIG' is what to start there"
        )


def must_be_root(command: str) -> None:
    """Raises InstallError for anybody else."""
    if os.geteuid() != 0:
        raise InstallError(
            f"this needs root: sudo sightwire service {command} ... ('sudo $(command -v sightwire)' finds it)"
        )


def properties(*names: str) -> dict[str, str]:
    """What systemd knows of the service; empty values where it knows nothing. Raises InstallError."""
    said = run("systemctl", "show", layout.UNIT_NAME, f"--property={','.join(names)}")
    return dict(line.partition("=")[::2] for line in said.splitlines() if "=" in line)


def _succeeds(*argv: str) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def state() -> str:
    """`active`, `activating`, `reloading`, `deactivating`, `failed`, `inactive`; the last also without systemd."""
    try:
        return properties("ActiveState").get("ActiveState") or "inactive"
    except InstallError:
        return "inactive"


def is_up() -> bool:
    """It runs or is about to."""
    return state() in ("active", "activating", "reloading")


def is_enabled() -> bool:
    """It starts when the machine does."""
    return _succeeds("systemctl", "is-enabled", "--quiet", layout.UNIT_NAME)


def last_lines(count: int = 15) -> list[str]:
    """What the service said last."""
    said = run("journalctl", "--unit", layout.UNIT_NAME, "--lines", str(count), "--output=cat", "--no-pager")
    return said.splitlines()
