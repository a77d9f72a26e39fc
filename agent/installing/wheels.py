"""The wheel that the service is made of: a file, what pip fetches, or the sightwire that runs this command."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import importlib.util
import io
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

import agent
from agent.installing.errors import InstallError
from agent.installing.steps import run

_NAME = "sightwire"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The least that a zip can say: a wheel made twice of the same files is the same."""


@dataclass(frozen=True)
class Wheel:
    """A file of sightwire's."""

    path: Path
    version: str
    digest: str
    """SHA-256 of what it installs: the same whoever packed it."""


def wheel_from(wanted: str | None, into: Path, pip_options: Sequence[str] = ()) -> Wheel:
    """`wanted`: a file, something for pip (`sightwire==0.8`), or None: what runs this. Raises InstallError."""
    if wanted is None:
        path = _of_this(into)
    elif wanted.endswith(".whl"):
        path = Path(wanted)
    elif re.match(rf"{_NAME}\s*([=<>!~]=?.+)?$", wanted):
        only = ("--no-deps", "--only-binary=:all:")
        path = _by_pip(into, "download", "--quiet", *only, "--dest", into, *pip_options, wanted)
    else:
        raise InstallError(f"{wanted}: is neither a wheel (FILE.whl) nor a version for pip (sightwire==0.8)")
    return read_wheel(path)


def read_wheel(path: Path) -> Wheel:
    """Which version it is. Raises InstallError if it is no wheel of sightwire."""
    try:
        with zipfile.ZipFile(path) as opened:
            (name,) = [entry for entry in opened.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", entry)]
            metadata = HeaderParser().parsestr(opened.read(name).decode("utf-8"))
            held = {entry: opened.read(entry) for entry in sorted(opened.namelist())}
    except OSError as error:
        raise InstallError(f"{path}: cannot be read: {error.strerror}") from None
    except (zipfile.BadZipFile, ValueError, KeyError):
        raise InstallError(f"{path}: is not a whole wheel") from None
    if metadata["Name"] != _NAME:
        raise InstallError(f"{path}: is a wheel of {metadata['Name']}, not of {_NAME}")
    version = metadata["Version"] or ""
    if not re.fullmatch(r"[0-9][0-9A-Za-z.+!]*", version):
        raise InstallError(f"{path}: has no version that can name a folder: {version!r}")
    if "agent/installing/files/sightwire.service" not in held:
        raise InstallError(f"{path}: version {version} is older than the service; install a newer one")
    installs = [(entry, _digest(content)) for entry, content in held.items() if not entry.endswith("/RECORD")]
    return Wheel(path, version, hashlib.sha256(repr(installs).encode()).hexdigest())


def _of_this(into: Path) -> Path:
    """A wheel of what runs: built from its source tree, or packed again from where pip has put it."""
    root = Path(agent.__file__).parents[1]
    if (root / "pyproject.toml").is_file():
        # With the build backend that is here, if it is: then no index is needed.
        here = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
        return _by_pip(into, "wheel", "--quiet", "--no-deps", *here, "--wheel-dir", into, root)
    return _packed(into)


def _by_pip(into: Path, *arguments: str | Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise InstallError(f"{sys.executable} has no pip to get a wheel with: give --wheel FILE")
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, why="getting a wheel with pip")
    wheels = list(into.glob(f"{_NAME}-*.whl"))
    if len(wheels) != 1:
        raise InstallError(f"pip left {len(wheels)} wheels of {_NAME} instead of one: give --wheel FILE")
    return wheels[0]


def _packed(into: Path) -> Path:
    """The installed distribution as a wheel, as pip once got it: pure Python, so nothing in it depends on where it is.

    Binary distribution format: https://packaging.python.org/specifications/binary-distribution-format/.
    """
    try:
        distribution = importlib.metadata.distribution(_NAME)
    except importlib.metadata.PackageNotFoundError:
        raise InstallError("this sightwire was not installed by pip: give --wheel FILE") from None
    files = dict(_shipped(distribution))
    if "agent/cli.py" not in files:
        raise InstallError("what pip says it installed is not all there: give --wheel FILE")
    info = next(name.split("/")[0] for name in files if name.endswith(".dist-info/METADATA"))
    rows = [(name, _digest(content), len(content)) for name, content in files.items()]
    record = io.StringIO()
    csv.writer(record, lineterminator="\n").writerows([*rows, (f"{info}/RECORD", "", "")])
    files[f"{info}/RECORD"] = record.getvalue().encode()
    path = into / f"{info.removesuffix('.dist-info')}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.external_attr = 0o100644 << 16
            wheel.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return path


def _shipped(distribution: importlib.metadata.Distribution) -> Iterator[tuple[str, bytes]]:
    """What was in the wheel, less what pip has added to it."""
    added = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
    for path in sorted(distribution.files or ()):
        inside = ".." not in path.parts and "__pycache__" not in path.parts
        if inside and not (path.parts[0].endswith(".dist-info") and path.name in added and len(path.parts) == 2):
            yield path.as_posix(), path.read_binary()


def _digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
