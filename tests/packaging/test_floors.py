"""The lowest versions that pyproject.toml allows, and the newest, install on a Jetson: Python 3.10, aarch64."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.resolving import Platform, resolved

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it there

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = ("calibrate", "demo", "onnxruntime")  # those for GPUs: test_gpu_extras.py
REQUIREMENTS = [
    Requirement(line)
    for line in PROJECT["dependencies"] + [line for extra in EXTRAS for line in PROJECT["optional-dependencies"][extra]]
    if not line.startswith("sightwire[")  # one extra brings another
]
JETPACK_6 = Platform("3.10", "aarch64", 35)
NEWER_THAN_310 = {
    "asyncio.TaskGroup", "asyncio.timeout", "datetime.UTC", "enum.StrEnum", "itertools.batched", "tomllib",
    "typing.LiteralString", "typing.Never", "typing.NotRequired", "typing.Required", "typing.Self",
    "typing.assert_never", "typing.override",
}  # fmt: skip


def floor_of(requirement: Requirement) -> str:
    """The version behind `>=`."""
    (specifier,) = requirement.specifier
    assert specifier.operator == ">=", f"{requirement}: a floor and nothing else"
    return specifier.version


def at_floor(requirement: Requirement) -> str:
    """The oldest release that the floor allows: `av>=14.0` is `av==14.0.*`, of which the index offers one or more."""
    version = floor_of(requirement)
    return f"{requirement.name}=={version}" + ("" if version.count(".") >= 2 else ".*")


LINES = {"floors": [at_floor(r) for r in REQUIREMENTS], "newest": [str(r) for r in REQUIREMENTS]}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Which version of each package pip would install, by name."""
    return resolved({which: (JETPACK_6, lines) for which, lines in LINES.items()}, tmp_path_factory.mktemp)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("which", LINES)
def test_dependencies_resolve_for_python_310_on_aarch64(which: str, found: dict[str, dict[str, str]]) -> None:
    """Ready-made wheels of all of them, and of what they need, go together."""
    for requirement in REQUIREMENTS:
        assert requirement.specifier.contains(found[which][requirement.name.lower()])


def sources() -> list[Path]:
    """Every Python file of ours."""
    return sorted(path for top in ("agent", "engines", "calibration", "tests") for path in (ROOT / top).rglob("*.py"))


def names_in(tree: ast.AST) -> set[str]:
    """The dotted names that a file imports or reaches by one dot."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
    return found


def test_nothing_newer_than_python_310_is_used() -> None:
    """Neither its grammar (scripts/check asks ruff for the rest of it) nor its library."""
    for path in sources():
        if path == Path(__file__):
            continue
        newer = names_in(ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))) & NEWER_THAN_310
        assert not newer, f"{path.relative_to(ROOT)}: not in Python 3.10: {', '.join(sorted(newer))}"


def test_python_310_compiles_every_file() -> None:
    """The real one, where it is installed."""
    python = shutil.which("python3.10")
    if python is None or subprocess.run([python, "-c", ""], capture_output=True).returncode:
        pytest.skip("no python3.10 here")
    program = "import sys; [compile(open(path, encoding='utf-8').read(), path, 'exec') for path in sys.argv[1:]]"
    done = subprocess.run([python, "-c", program, *map(str, sources())], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_minimum_python_is_said_the_same_everywhere() -> None:
    """requires-python, ruff and mypy."""
    text = (ROOT / "pyproject.toml").read_text()
    assert PROJECT["requires-python"].startswith(">=3.10")
    assert re.search(r'^target-version = "py310"$', text, re.MULTILINE)
    assert re.search(r'^python_version = "3.10"$', text, re.MULTILINE)
