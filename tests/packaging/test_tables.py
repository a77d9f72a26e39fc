"""A table gives the INT8 file that was proved, byte for byte, with every onnx and numpy that pyproject.toml allows."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from engines import catalogue
from engines.store import ModelStore
from tests.packaging.test_floors import REQUIREMENTS, at_floor
from tests.support.cache import cache
from tests.support.models import REAL
from tests.support.needs import missing
from tests.support.rebuild import install, sums, sums_with

OLDEST = sorted(at_floor(requirement) for requirement in REQUIREMENTS if requirement.name in ("numpy", "onnx"))


@pytest.fixture(scope="module")
def oldest() -> Path:
    """A folder with the oldest onnx and numpy, kept between runs."""
    if sys.version_info >= (3, 13):
        pytest.skip("the oldest onnx and numpy are older than Python 3.13")
    with cache() as kept:
        folder = kept / "-".join([*OLDEST, f"{sys.version_info.major}.{sys.version_info.minor}"]).replace("*", "x")
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=kept) as half:
                try:
                    install(Path(half) / "packages", *OLDEST)
                except subprocess.CalledProcessError as error:
                    if "Retrying" in error.stderr:
                        missing("a package index that answers")
                    pytest.fail(error.stderr)
                (Path(half) / "packages").rename(folder)
    return folder


@pytest.mark.timeout(300)
def test_the_oldest_versions_write_the_same_bytes(oldest: Path, real_models: ModelStore) -> None:
    """As these, which are the newest where the tests run in a fresh environment; and as the catalogue says."""
    here, there = sums(real_models), sums_with(oldest, real_models)
    for line in OLDEST:
        requirement = Requirement(line)
        del here[requirement.name]
        assert requirement.specifier.contains(there.pop(requirement.name))
    assert here == there
    for name in REAL:
        int8 = catalogue.entry(name).int8
        assert int8 is not None
        assert here[name] == int8.sha256, name
