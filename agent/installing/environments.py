"""A virtual environment for each wheel, made where it stays, whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.installing import layout
from agent.installing.errors import InstallError
from agent.installing.steps import run
from agent.installing.wheels import Wheel

_STAMP = "sightwire-installed.json"
"""What it was made of. Written last: an environment without it is a ruin."""
_PROBE = "import ensurepip, sys, venv; print(*sys.version_info[:2])"
_HIDDEN = ("/root", "/home", "/run/user", "/tmp", "/var/tmp")  # noqa: S108  # what the unit's sandbox hides


@dataclass(frozen=True)
class Making:
    """How an environment is made, besides its wheel. An upgrade does as was done before."""

    python: str
    """The interpreter."""
    extras: tuple[str, ...] = ()
    system_packages: bool = False
    """It sees the packages of the system's Python: TensorRT on a Jetson."""


def made_of(folder: Path) -> dict[str, Any] | None:
    """`version`, `wheel` (its digest), and what `Making` holds; None if its making did not come to its end."""
    try:
        stamp: dict[str, Any] = json.loads((folder / _STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stamp


def shipped_files(folder: Path) -> Path:
    """The unit and its companions that the version in this environment brought. Raises InstallError."""
    found = list(folder.glob(layout.FILES_IN_ENVIRONMENT))
    if not found:
        raise InstallError(f"{folder}: brings no files for the service")
    return found[0]


def choose_python(wanted: Path | None) -> str:
    """An interpreter that the service's account can run. Raises InstallError.

    That of this command, unless it lies in somebody's home (pyenv, uv), which the sandbox hides; then the system's.
    """
    if wanted is not None:
        if reason := _unfit(wanted):
            raise InstallError(f"--python {wanted}: {reason}")
        return str(wanted)
    this = Path(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))
    reasons = []
    for candidate in (this, Path("/usr/bin/python3")):
        if (reason := _unfit(candidate)) is None:
            return str(candidate)
        reasons.append(f"{candidate} {reason}")
    raise InstallError(f"no Python for the service: {'; '.join(reasons)}. Get one, or say --python FILE")


def is_fit(python: Path) -> bool:
    """Whether it can be the service's interpreter."""
    return _unfit(python) is None


def _unfit(python: Path) -> str | None:
    """Why it cannot be the service's."""
    real = Path(os.path.realpath(python))
    for hidden in _HIDDEN:
        if real.is_relative_to(hidden):
            return f"lies in {hidden}, which is hidden from the service"
    if not real.is_file():
        return "is not there"
    for part in (real, *real.parents):
        if not part.stat().st_mode & 0o001:
            return f"is closed to others: {part}"
    # Isolated: neither the folder we are called in nor anybody's environment variables matter.
    asked = subprocess.run([str(python), "-I", "-c", _PROBE], capture_output=True, text=True, check=False)
    if asked.returncode:
        return "has no venv module (apt-get install python3-venv)"
    version = tuple(map(int, asked.stdout.split()))
    if not (3, 10) <= version < (3, 14):
        return f"is Python {'.'.join(map(str, version))}, and sightwire runs on 3.10 to 3.13"
    return None


@dataclass
class Environment:
    """The environment of a wheel, with what the wheel asks for."""

    wheel: Wheel
    making: Making
    find_links: tuple[Path, ...] = ()
    """Folders of wheels; if there are any, nothing is asked of an index."""

    @property
    def folder(self) -> Path:
        """Where it is or will be: another build or other extras make another environment."""
        digest = hashlib.sha256(json.dumps(self._stamp(), sort_keys=True).encode()).hexdigest()
        return layout.VERSIONS / f"{self.wheel.version}-{digest[:8]}"

    @property
    def says(self) -> str:
        """See Step."""
        return f"environment {self.folder}"

    def shows(self) -> Iterator[str]:
        """See Step."""
        yield from (shlex.join(command) for command in self._commands())

    def is_done(self) -> bool:
        """See Step."""
        return made_of(self.folder) is not None

    def do(self) -> None:
        """See Step."""
        shutil.rmtree(self.folder, ignore_errors=True)  # what an interrupted one left
        for command in self._commands():
            run(*command, why=f"making {self.folder}")
        (self.folder / _STAMP).write_text(json.dumps(self._stamp()) + "\n", encoding="utf-8")

    def undo(self) -> None:
        """See Step."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _commands(self) -> Sequence[Sequence[str]]:
        site = ["--system-site-packages"] if self.making.system_packages else []
        links = [word for folder in self.find_links for word in ("--find-links", str(folder))]
        pip = [str(self.folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        extras = f"[{','.join(self.making.extras)}]" if self.making.extras else ""
        return (
            [self.making.python, "-m", "venv", *site, str(self.folder)],
            [
                *pip,
                "--root-user-action=ignore",
                *(["--no-index"] if links else []),
                *links,
                f"{self.wheel.path}{extras}",
            ],
        )

    def _stamp(self) -> dict[str, Any]:
        return {"version": self.wheel.version, "wheel": self.wheel.digest, **asdict(self.making)}
