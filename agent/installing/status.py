"""How the service is, for people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent.installing import layout, systemd
from agent.installing.environments import made_of
from agent.installing.steps import run

_ERRORS = 5
_WANTED = (
    "ActiveState", "SubState", "Result", "StateChangeTimestamp", "UnitFileState", "MainPID", "NRestarts",
    "ExecMainStatus", "StartLimitBurst", "MemoryCurrent", "StatusText", "WatchdogUSec", "WatchdogTimestamp",
    "NeedDaemonReload",
)  # fmt: skip
_TOO_OFTEN = "it failed too often"
_REASONS = {
    "exit-code": "it failed",
    "signal": "a signal ended it",
    "core-dump": "it crashed",
    "watchdog": "it hung",
    "timeout": "it did not get ready or did not end in time",
    "oom-kill": "the machine was out of memory",
    "start-limit-hit": _TOO_OFTEN,
}
_EX_CONFIG = "78"


def is_active() -> bool:
    """It runs."""
    return systemd.state() in ("active", "reloading")


def describe() -> Iterator[tuple[str, str]]:
    """What it is about, and what is to be said. Raises InstallError."""
    known = systemd.properties(*_WANTED)
    yield "version", _version(layout.CURRENT)
    if layout.PREVIOUS.is_symlink():
        yield "before it", f"{_version(layout.PREVIOUS)} (sightwire service rollback)"
    yield "state", _state(known)
    yield (
        "at boot",
        "starts" if known["UnitFileState"] == "enabled" else f"does not start ({known['UnitFileState'] or 'no unit'})",
    )
    if known["MainPID"] not in ("", "0"):
        memory = known["MemoryCurrent"]
        used = f", {int(memory) / 1e6:.0f} MB" if memory.isdigit() else ""
        yield "process", f"{known['MainPID']}{used}, {known['NRestarts']} restarts"
        yield "watchdog", _watchdog(known)
    if known["StatusText"]:
        yield "says", known["StatusText"]
    if known["NeedDaemonReload"] == "yes":
        yield "beware", "its unit was changed since systemd read it: systemctl daemon-reload"
    for line in _errors():
        yield "error", line


def _version(link: Path) -> str:
    if not link.is_symlink():
        return "none installed"
    stamp = made_of(link)
    return link.readlink().name if stamp else f"{link.readlink().name}, which is not whole"


def _state(known: dict[str, str]) -> str:
    said = f"{known['ActiveState']} ({known['SubState']})"
    if known["ExecMainStatus"] == _EX_CONFIG and known["ActiveState"] == "failed":
        said += f": its configuration is wrong, {layout.CONFIG}"
    elif known["Result"] not in ("", "success"):
        reason = _REASONS.get(known["Result"], known["Result"])
        said += f": {_TOO_OFTEN}; the last time: {reason}" if _has_given_up(known) else f": {reason}"
    return f"{said} since {known['StateChangeTimestamp']}" if known["StateChangeTimestamp"] else said


def _has_given_up(known: dict[str, str]) -> bool:
    """It has used up its starts; systemd's own `start-limit-hit` gives way to how the last one ended."""
    restarts, most = known["NRestarts"], known["StartLimitBurst"]
    ended = known["ActiveState"] == "failed" and known["Result"] != "start-limit-hit"
    return ended and restarts.isdigit() and most.isdigit() and int(restarts) >= int(most) > 0


def _watchdog(known: dict[str, str]) -> str:
    """Both times come as systemd writes them for people."""
    if known["WatchdogUSec"] in ("", "0", "infinity"):
        return "none"
    return f"within {known['WatchdogUSec']}, fed {known['WatchdogTimestamp'] or 'not yet'}"


def _errors() -> Iterator[str]:
    """The newest lines of priority error or worse; those of systemd about it as well."""
    command = ("journalctl", "--unit", layout.UNIT_NAME, "--priority=err", "--lines", str(_ERRORS))
    said = run(*command, "--output=short-iso", "--no-pager", "--quiet", ok=(0, 1))
    yield from (line for line in said.splitlines() if not line.startswith("-- "))
