"""The service's own sandbox for one command: what goes wrong in there is found before anything is switched over.

And by people afterwards, who see with their own rights, models and passwords what the service does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.installing import layout
from agent.installing.environments import made_of, shipped_files
from agent.installing.errors import InstallError
from agent.installing.steps import run

_NOT_OF_A_COMMAND = (
    "Exec", "KillMode", "NotifyAccess", "OOMPolicy", "Restart", "Timeout", "Type", "WatchdogSec"
)  # fmt: skip


def properties(unit: str) -> Iterator[str]:
    """The lines of a unit's [Service] that say who and where a process is, not when it runs."""
    section = ""
    for line in unit.splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith(("#", ";", *_NOT_OF_A_COMMAND)):
            yield line


@dataclass
class Trial:
    """`sightwire check` of a configuration by the service's account, in its sandbox."""

    environment: Path
    credentials: Sequence[str] = ()
    config: Path = layout.CONFIG

    @property
    def says(self) -> str:
        """See Step."""
        return f"check {self.config} as the service will see it"

    def shows(self) -> Iterator[str]:
        """See Step."""
        yield f"systemd-run --wait --pipe (all of the unit's sandbox) {' '.join(self._command())}"

    def is_done(self) -> bool:
        """See Step."""
        return False

    def do(self) -> None:
        """See Step."""
        unit = (shipped_files(self.environment) / layout.UNIT_NAME).read_text(encoding="utf-8")
        lines = [*properties(unit), *(f"LoadCredential={c}:{layout.CREDENTIALS / c}" for c in self.credentials)]
        run(
            *_within(lines, "--pipe", self._command()),
            why="the service could not start with this configuration: its check",
        )

    def undo(self) -> None:
        """It changed nothing."""

    def _command(self) -> list[str]:
        return [str(self.environment / "bin" / "sightwire"), "check", str(self.config)]


def as_the_service(command: str, options: Sequence[str], *, terminal: bool) -> list[str]:
    """The command line of `sightwire COMMAND` with the service's configuration, in all that its unit and drop-ins say.

    Raises InstallError where there is no service.
    """
    if made_of(layout.CURRENT) is None or not layout.UNIT.exists():
        raise InstallError("there is no service yet: sudo sightwire service install site.yaml")
    files = [layout.UNIT, *sorted(layout.DROP_INS.glob("*.conf"))]
    lines = [line for file in files for line in properties(file.read_text(encoding="utf-8"))]
    words = [str(layout.CURRENT / "bin" / "sightwire"), command, str(layout.CONFIG), *options]
    return _within(lines, "--pty" if terminal else "--pipe", words)


def _within(lines: Sequence[str], how: str, words: Sequence[str]) -> list[str]:
    properties = [word for line in lines for word in ("--property", line)]
    return ["systemd-run", "--wait", how, "--collect", "--quiet", *properties, *words]
