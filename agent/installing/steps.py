"""One change of the machine each: said, shown, made, and unmade if a later one fails.

A step that finds its work done does nothing, and then undoes nothing: each can be made again at any time.
"""

from __future__ import annotations

import contextlib
import difflib
import grp
import os
import pwd
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agent.installing.errors import InstallError

Tell = Callable[[str], None]


class Step(Protocol):
    """One change of the machine."""

    @property
    def says(self) -> str:
        """What it does, in a line; empty for one that is for the way back only."""

    def shows(self) -> Iterator[str]:
        """The same for somebody who wants to know exactly: commands, or what changes in a file."""

    def is_done(self) -> bool:
        """Whether the machine is like that already."""

    def do(self) -> None:
        """Raises InstallError or OSError."""

    def undo(self) -> None:
        """The machine is as before `do`. Raises InstallError or OSError."""


def show(steps: Sequence[Step], tell: Tell) -> None:
    """What `carry_out` would do, and would not have to."""
    for step in steps:
        if not step.says:
            continue
        done = step.is_done()
        tell(f"{'=' if done else '+'} {step.says}{' (is so already)' if done else ''}")
        for line in () if done else step.shows():
            tell(f"    {line}")


def carry_out(steps: Sequence[Step], tell: Tell, *, back: bool = True) -> bool:
    """Make what is not so yet; whether there was anything to tell of.

    If a step fails or is interrupted, what was made is unmade, unless there is no way `back`, and what happened is
    raised.
    """
    made: list[Step] = []
    for step in steps:
        if step.is_done():
            continue
        if step.says:
            tell(step.says)
        made.append(step)  # before it begins: what is half made is unmade as well
        try:
            step.do()
        except BaseException as error:
            if back:
                _unmake(made, tell)
            else:
                tell("that failed; the same command again goes on from here")
            if isinstance(error, OSError):
                raise InstallError(f"{step.says}: {error.strerror}: {error.filename}") from None
            raise
    return any(step.says for step in made)


def _unmake(made: Sequence[Step], tell: Tell) -> None:
    tell("that failed; going back")
    for step in reversed(made):
        try:
            step.undo()
        except (InstallError, OSError) as error:
            tell(f"could not be undone: {step.says}: {error}")


def run(*argv: str | Path, why: str = "", ok: Sequence[int] = (0,)) -> str:
    """Run a command; its output. Raises InstallError with the last of what it said."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise InstallError(f"{words[0]}: is not installed") from None
    if done.returncode not in ok:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise InstallError("\n".join([f"{why or shlex.join(words)}: failed ({done.returncode})", *said[-15:]]))
    return done.stdout


def own(path: Path | int, owner: str) -> None:
    """`user:group`, by their names."""
    user, group = owner.split(":")
    os.chown(path, pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid)


def owner_of(path: Path) -> str:
    """`user:group`; numbers where there is no name."""
    status = path.lstat()
    user, group = str(status.st_uid), str(status.st_gid)
    with contextlib.suppress(KeyError):
        user = pwd.getpwuid(status.st_uid).pw_name
    with contextlib.suppress(KeyError):
        group = grp.getgrgid(status.st_gid).gr_name
    return f"{user}:{group}"


@dataclass
class Folder:
    """A folder, and those above it."""

    path: Path
    mode: int = 0o755
    owner: str = "root:root"
    _made: list[Path] = field(default_factory=list, init=False)
    _was: tuple[int, str] | None = field(default=None, init=False)

    @property
    def says(self) -> str:
        """See Step."""
        return f"folder {self.path} ({self.mode:o}, {self.owner})"

    def shows(self) -> Iterator[str]:
        """See Step."""
        user, group = self.owner.split(":")
        yield shlex.join(["install", "-d", "-m", f"{self.mode:o}", "-o", user, "-g", group, str(self.path)])

    def is_done(self) -> bool:
        """See Step."""
        return self.path.is_dir() and _mode(self.path) == self.mode and owner_of(self.path) == self.owner

    def do(self) -> None:
        """See Step."""
        if self.path.is_dir():
            self._was = _mode(self.path), owner_of(self.path)
        for folder in reversed([self.path, *self.path.parents]):
            if not folder.exists():
                folder.mkdir()
                folder.chmod(0o755)
                self._made.append(folder)
        own(self.path, self.owner)
        self.path.chmod(self.mode)

    def undo(self) -> None:
        """See Step."""
        if self._was:
            self.path.chmod(self._was[0])
            own(self.path, self._was[1])
        if self._made:  # and whatever has come into it since
            shutil.rmtree(self._made[0])


@dataclass
class File:
    """A file with this content. What was there comes back at `undo`."""

    path: Path
    content: bytes = field(repr=False)
    mode: int = 0o644
    owner: str = "root:root"
    secret: bool = False
    """Its content is never shown."""
    _was: bytes | None = field(default=None, init=False, repr=False)
    _was_like: tuple[int, str] = field(default=(0, ""), init=False)

    @property
    def says(self) -> str:
        """See Step."""
        return f"file {self.path} ({self.mode:o}, {self.owner})"

    def shows(self) -> Iterator[str]:
        """See Step."""
        if self.secret:
            yield f"({len(self.content)} bytes, not shown: they are or may hold passwords)"
            return
        try:
            before = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            before = []
        except PermissionError:
            yield "(what is there may not be read by this user)"
            return
        after = self.content.decode("utf-8", "replace").splitlines()
        yield from list(difflib.unified_diff(before, after, lineterm="", n=1))[2:]

    def is_done(self) -> bool:
        """See Step."""
        try:
            same = self.path.read_bytes() == self.content
        except (FileNotFoundError, PermissionError):
            return False
        return same and _mode(self.path) == self.mode and owner_of(self.path) == self.owner

    def do(self) -> None:
        """See Step."""
        if self.path.exists():
            self._was, self._was_like = self.path.read_bytes(), (_mode(self.path), owner_of(self.path))
        _write(self.path, self.content, self.mode, self.owner)

    def undo(self) -> None:
        """See Step."""
        if self._was is None:
            self.path.unlink(missing_ok=True)
        else:
            _write(self.path, self._was, *self._was_like)


@dataclass
class Link:
    """A symbolic link, turned in one instant."""

    path: Path
    target: Path | None
    """None: there is to be none."""
    _was: Path | None = field(default=None, init=False)

    @property
    def says(self) -> str:
        """See Step."""
        return f"link {self.path} -> {self.target}" if self.target else f"no link {self.path}"

    def shows(self) -> Iterator[str]:
        """See Step."""
        yield f"ln -sfn {self.target} {self.path}" if self.target else f"rm -f {self.path}"

    def is_done(self) -> bool:
        """See Step."""
        return _target(self.path) == self.target

    def do(self) -> None:
        """See Step."""
        self._was = _target(self.path)
        _point(self.path, self.target)

    def undo(self) -> None:
        """See Step."""
        _point(self.path, self._was)


@dataclass
class Command:
    """A command, and the one that takes it back."""

    says: str
    command: Sequence[str] = ()
    back: Sequence[str] = ()
    done: Callable[[], bool] = lambda: False

    def shows(self) -> Iterator[str]:
        """See Step."""
        if self.command:
            yield shlex.join(self.command)

    def is_done(self) -> bool:
        """See Step."""
        return self.done()

    def do(self) -> None:
        """See Step."""
        if self.command:
            run(*self.command, why=self.says)

    def undo(self) -> None:
        """See Step."""
        if self.back:
            run(*self.back)


@dataclass
class Gone:
    """What is at this path is removed, for good."""

    path: Path

    @property
    def says(self) -> str:
        """See Step."""
        return f"remove {self.path}"

    def shows(self) -> Iterator[str]:
        """See Step."""
        yield f"rm -rf {self.path}"

    def is_done(self) -> bool:
        """See Step."""
        return not os.path.lexists(self.path)

    def do(self) -> None:
        """See Step."""
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink()

    def undo(self) -> None:
        """Gone is gone; doing the rest again goes on."""


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def _write(path: Path, content: bytes, mode: int, owner: str) -> None:
    """All or nothing, and never readable by more than it should be."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
            own(descriptor, owner)
            os.fchmod(descriptor, mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _target(path: Path) -> Path | None:
    return path.readlink() if path.is_symlink() else None


def _point(path: Path, target: Path | None) -> None:
    if target is None:
        path.unlink(missing_ok=True)
        return
    new = path.with_name(f".{path.name}-new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(path)
