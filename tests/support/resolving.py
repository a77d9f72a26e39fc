"""Which versions pip would install on another machine, as ready-made wheels."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.support.needs import missing

Key = TypeVar("Key", bound=Hashable)

_GLIBC_MINORS = (17, 24, 26, 27, 28, 31, 34, 35, 38, 39)
"""Those that wheels are built for: pip compares each file of an index with all that it is told."""


@dataclass(frozen=True)
class Platform:
    """What pip is asked for, as if it ran there. Markers it judges by the Python it runs under itself."""

    python: str
    architecture: str
    glibc: int
    """2.x: 35 is Ubuntu 22.04's, 39 is 24.04's."""

    @property
    def names(self) -> list[str]:
        """As wheels call it."""
        minors = [minor for minor in _GLIBC_MINORS if minor <= self.glibc]
        return [f"manylinux2014_{self.architecture}", *(f"manylinux_2_{it}_{self.architecture}" for it in minors)]


def resolved(
    wanted: Mapping[Key, tuple[Platform, list[str]]], new_folder: Callable[[str], Path]
) -> dict[Key, dict[str, str]]:
    """For each: the version of each package, by name, that its requirements bring there. All are looked for at once.

    Fails the test with pip's errors where they do not go together.
    """
    folders = {key: new_folder("resolved") for key in wanted}
    running = {key: _asked(*wanted[key], folders[key]) for key in wanted}
    said = {key: pip.communicate(timeout=240)[1] for key, pip in running.items()}
    for key, pip in running.items():
        if pip.returncode and "Retrying" in said[key]:
            missing("a package index that answers")
        errors = "\n".join(line for line in said[key].splitlines() if line.startswith("ERROR"))
        assert pip.returncode == 0, f"{key}: {errors}"
    return {key: _versions(folder / "report.json") for key, folder in folders.items()}


def _asked(platform: Platform, lines: list[str], folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={platform.python}"]
    command += [f"--platform={name}" for name in platform.names]
    command += [f"--target={folder}", f"--report={folder / 'report.json'}", *lines]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _versions(report: Path) -> dict[str, str]:
    found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    return {package["name"].lower().replace("_", "-"): package["version"] for package in found}
