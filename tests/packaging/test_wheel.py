"""What users install: the wheel and the sdist hold what they should, and work on their own."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.needs import missing

ROOT = Path(__file__).parents[2]
PACKAGES = ("agent", "engines", "calibration")
MOST_BYTES = 5_000_000

pytestmark = pytest.mark.timeout(400)


def build(source: Path, folder: Path, *kinds: str) -> None:
    """Build from a source tree with the build backend that is installed here: nothing is downloaded."""
    command = [sys.executable, "-m", "build", "--no-isolation", *kinds, "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def contents(wheel: Path) -> dict[str, bytes]:
    """Every file of a wheel."""
    with zipfile.ZipFile(wheel) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


@dataclass(frozen=True)
class Built:
    """Both, built from the working tree."""

    wheel: Path
    sdist: Path

    @property
    def info(self) -> str:
        """The wheel's folder of metadata."""
        return f"{'-'.join(self.wheel.name.split('-')[:2])}.dist-info"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The wheel and the sdist of the working tree."""
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, folder, "--wheel", "--sdist")
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Built(wheel, sdist)


def test_the_wheel_holds_the_three_packages_with_their_data_and_nothing_else(built: Built) -> None:
    """Cards, tables, labels and py files, the licence, no tests."""
    names = set(contents(built.wheel))
    ours = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"agent/cli.py", "engines/catalogue/person-ssdlite.yaml", "engines/catalogue/labels/coco.txt"} <= ours
    assert {name for name in names if not name.startswith(f"{built.info}/")} == ours
    assert f"{built.info}/licenses/LICENSE" in names


def test_both_are_small(built: Built) -> None:
    """No model, picture or video slipped in."""
    assert max(built.wheel.stat().st_size, built.sdist.stat().st_size) < MOST_BYTES


def test_the_metadata_says_what_pip_and_people_need(built: Built) -> None:
    """Licence, Python versions and the command."""
    files = contents(built.wheel)
    metadata = files[f"{built.info}/METADATA"].decode()
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "\nRequires-Python: <3.14,>=3.10\n" in metadata
    assert files[f"{built.info}/entry_points.txt"].decode() == "[console_scripts]\nsightwire = agent.cli:main\n"


def test_the_sdist_builds_the_same_wheel(built: Built, tmp_path: Path) -> None:
    """Byte for byte, from nothing but what the sdist holds."""
    build(ROOT, tmp_path)  # by default the wheel is made from the unpacked sdist
    (wheel,) = tmp_path.glob("*.whl")
    assert contents(wheel) == contents(built.wheel)


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a clean virtual environment into which pip has put the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder)
    # A pip of its own is not what is tested. To compile all of what is installed takes longer than to install it.
    pip = [sys.executable, "-m", "pip", f"--python={folder}", "install", "--quiet", "--no-compile"]
    command = [*pip, str(built.wheel)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode and "Retrying" in done.stderr:
        missing("a package index that answers")
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def from_root(home: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it from `/`, with an empty home and nothing of this checkout in its environment."""
    environment = {"PATH": os.defpath, "HOME": str(home), "LANG": "C.UTF-8"}
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=60)


def test_an_installed_wheel_works_from_anywhere(built: Built, installed: Path, tmp_path: Path) -> None:
    """The command, its data files, its exit statuses, and that they are the wheel's and not the checkout's."""
    sightwire = installed / "sightwire"
    version = from_root(tmp_path, sightwire, "--version")
    assert version.stdout == f"sightwire {built.wheel.name.split('-')[1]}\n", version.stderr

    where = "import agent, engines, calibration; print(agent.__file__, engines.__file__, calibration.__file__)"
    paths = from_root(tmp_path, installed / "python", "-c", where).stdout.split()
    assert len(paths) == 3
    assert all(path.startswith(f"{installed.parent}/") for path in paths)

    models = from_root(tmp_path, sightwire, "models", "list")
    assert models.returncode == 0, models.stderr
    assert "person-ssdlite" in models.stdout

    bad = tmp_path / "bad.yaml"
    bad.write_text("agent: {name: gatehouse}\ncameras:\n  dock:\n    sorce: rtsp://10.0.0.7/stream1\n")
    check = from_root(tmp_path, sightwire, "check", bad)
    assert check.returncode == 78
    assert f"{bad}:4: cameras.dock.sorce: unknown key, did you mean 'source'?" in check.stderr
