"""The steps that only this service has."""

from __future__ import annotations

import pwd
import shlex
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from agent.installing import layout, systemd
from agent.installing.errors import InstallError
from agent.installing.steps import File, Folder, Step, run


def account_exists() -> bool:
    """The service's account."""
    try:
        pwd.getpwnam(layout.ACCOUNT)
    except KeyError:
        return False
    return True


class Account:
    """The static account, by sysusers.d(5)."""

    def __init__(self, content: bytes) -> None:
        self._parts = _Parts([Folder(layout.SYSUSERS.parent), File(layout.SYSUSERS, content)])
        self._new = False

    @property
    def says(self) -> str:
        """See Step."""
        return f"account {layout.ACCOUNT}, which may use cameras and GPUs"

    def shows(self) -> Iterator[str]:
        """See Step."""
        yield from self._parts.shows()
        yield shlex.join(self._command)

    def is_done(self) -> bool:
        """See Step."""
        return account_exists() and self._parts.is_done()

    def do(self) -> None:
        """See Step."""
        self._new = not account_exists()
        self._parts.do()
        run(*self._command)

    def undo(self) -> None:
        """See Step."""
        if self._new and account_exists():
            run("userdel", layout.ACCOUNT)
        self._parts.undo()

    _command = ("systemd-sysusers", str(layout.SYSUSERS))


class Units:
    """Unit files, and systemd told of them, on the way forth and on the way back."""

    def __init__(self, parts: Sequence[Step], *, forget: bool = False) -> None:
        """`forget`: the service is gone, not even its failures are remembered."""
        self._parts = _Parts(parts)
        self._forget = forget

    @property
    def says(self) -> str:
        """See Step."""
        return f"systemd's files of {layout.UNIT_NAME}{' away' if self._forget else ''}"

    def shows(self) -> Iterator[str]:
        """See Step."""
        yield from self._parts.shows()
        yield shlex.join(systemd.DAEMON_RELOAD)

    def is_done(self) -> bool:
        """See Step."""
        return self._parts.is_done()

    def do(self) -> None:
        """See Step."""
        self._parts.do()
        run(*systemd.DAEMON_RELOAD)
        if self._forget:
            _forget_failures()

    def undo(self) -> None:
        """See Step."""
        self._parts.undo()
        run(*systemd.DAEMON_RELOAD)


@dataclass
class Started:
    """The service started, or started anew, and ready."""

    how: Literal["start", "restart"]
    tried: bool = field(default=False, init=False)

    @property
    def says(self) -> str:
        """See Step."""
        return f"{self.how} the service and wait until it is ready"

    def shows(self) -> Iterator[str]:
        """See Step."""
        yield f"systemctl {self.how} {layout.UNIT_NAME}"

    def is_done(self) -> bool:
        """See Step."""
        return self.how == "start" and systemd.is_up()

    def do(self) -> None:
        """See Step."""
        self.tried = True
        _forget_failures()
        try:
            run("systemctl", self.how, layout.UNIT_NAME, why="it did not get ready")
        except InstallError as error:
            raise InstallError("\n".join([str(error), "what it said last:", *systemd.last_lines()])) from None

    def undo(self) -> None:
        """It stops; that what ran before runs again is `GoesOn`."""
        run("systemctl", "stop", layout.UNIT_NAME)


@dataclass
class GoesOn:
    """For the way back only: what ran before runs again, if it was stopped for what came after."""

    after: Started

    @property
    def says(self) -> str:
        """See Step."""
        return ""

    def shows(self) -> Iterator[str]:
        """See Step."""
        yield from ()

    def is_done(self) -> bool:
        """See Step."""
        return False

    def do(self) -> None:
        """See Step."""

    def undo(self) -> None:
        """See Step."""
        if self.after.tried:
            _forget_failures()
            run("systemctl", "start", layout.UNIT_NAME, why="starting again what ran before")


def _forget_failures() -> None:
    """One that has used up its starts may try again."""
    run("systemctl", "reset-failed", layout.UNIT_NAME, ok=(0, 1))


@dataclass
class Swept:
    """Versions that are neither current nor the one before go."""

    keep: Collection[Path | None]

    @property
    def says(self) -> str:
        """See Step."""
        old = self._old()
        return f"remove older versions: {', '.join(path.name for path in old)}" if old else ""

    def shows(self) -> Iterator[str]:
        """See Step."""
        for path in self._old():
            yield f"rm -rf {path}"

    def is_done(self) -> bool:
        """See Step."""
        return not self._old()

    def do(self) -> None:
        """See Step."""
        for path in self._old():
            shutil.rmtree(path)

    def undo(self) -> None:
        """Nothing comes after it."""

    def _old(self) -> list[Path]:
        return sorted(set(layout.VERSIONS.glob("*")) - set(self.keep))


class _Parts:
    """Steps that are one to those who look on; only what was made is unmade."""

    def __init__(self, parts: Sequence[Step]) -> None:
        self._parts = parts
        self._made: list[Step] = []

    def shows(self) -> Iterator[str]:
        for part in self._parts:
            if not part.is_done():
                yield part.says
                yield from (f"  {line}" for line in part.shows())

    def is_done(self) -> bool:
        return all(part.is_done() for part in self._parts)

    def do(self) -> None:
        for part in self._parts:
            if not part.is_done():
                self._made.append(part)
                part.do()

    def undo(self) -> None:
        for part in reversed(self._made):
            part.undo()
