"""What is installed: versions, floors, packages that do not load, and distributions that get in each other's way."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions, version
from pathlib import Path

import agent
from agent.doctor.findings import Finding, note, ok, problem
from agent.doctor.probes import MODULES
from agent.doctor.room import ProbeError, ask

TOPIC = "packages"
OURS = ("agent", "engines", "calibration")
EXCLUSIVE = {"cv2": "opencv-python-headless", "onnxruntime": "onnxruntime"}
"""Packages that several distributions bring, one of which overwrites the others: and the one that we ask for."""
ASKED_BY_GPU = ("cuda12", "cuda13", "gpu")
"""Extras of which a machine needs the ones for its GPU, or none: `agent.doctor.tensorrt` says which."""
_FLOOR = re.compile(
    r"([A-Za-z0-9._-]+)\s*(?:<[\d.]+,\s*)?>=\s*([\d.]+)(?:,\s*<[\d.]+)?\s*(?:;\s*extra\s*==\s*['\"](\w+)['\"])?$"
)
PIP = f"{sys.executable} -m pip"


def look() -> Iterator[Finding]:
    """Versions first, then everything that is wrong with them."""
    yield from versions()
    yield from loading()
    installed = list(distributions())
    yield from collisions(installed)
    yield from shadows(Path.cwd())


def versions() -> Iterator[Finding]:
    """Of sightwire and what it needs; problems for what is missing or too old."""
    try:
        ours = distribution("sightwire")
    except PackageNotFoundError:
        yield note(TOPIC, f"sightwire {agent.__version__} from {_home()}, not installed: versions are not checked")
        return
    found: list[str] = []
    absent: dict[str, list[str]] = {}
    mends: list[tuple[str, str]] = []
    for name, floor, extra in floors(ours.requires or ()):
        try:
            here = version(name)
        except PackageNotFoundError:
            if extra is None:
                mends.append((f"{name} is not installed", f"{PIP} install '{name}>={floor}'"))
            elif extra not in ("dev", *ASKED_BY_GPU):
                absent.setdefault(extra, []).append(name)
            continue
        if _numbers(here) < _numbers(floor):
            mends.append((f"{name} {here} is too old", f"{PIP} install --upgrade '{name}>={floor}'"))
        if extra != "dev":
            found.append(f"{name} {here}")
    yield ok(TOPIC, f"sightwire {agent.__version__} in {_home()}")
    yield ok(TOPIC, ", ".join(found))
    if absent:
        lacks = ", ".join(f"{extra} ({', '.join(names)})" for extra, names in sorted(absent.items()))
        yield note(TOPIC, f"extras that are not installed: {lacks}")
    for text, mend in mends:
        yield problem(TOPIC, text, mend)


def floors(requires: Iterable[str]) -> Iterator[tuple[str, str, str | None]]:
    """(name, floor, extra or None) of the metadata's requirements that have a floor.

    Each name once: of the base install before extras, and of extras the lowest.
    """
    matches = [match.groups() for line in requires if (match := _FLOOR.match(line.strip()))]
    seen = set()
    in_order = sorted(matches, key=lambda m: (m[2] is not None, m[2] == "dev", m[0].lower(), _numbers(m[1])))
    for name, floor, extra in in_order:
        if name not in seen:
            seen.add(name)
            yield name, floor, extra


def _numbers(text: str) -> tuple[int, ...]:
    """`4.10.0.84` as numbers, as far as there are any: `2.1rc1` is 2, 1."""
    numbers = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in numbers.group().split(".")) if numbers else ()


def loading() -> Iterator[Finding]:
    """Whether the libraries load, tried in a child: some crash on a CPU or a system that they were not made for."""
    try:
        failed = ask("imports")
    except ProbeError as error:
        yield problem(TOPIC, f"loading the libraries: {error}", f'{sys.executable} -c "import {", ".join(MODULES)}"')
        return
    for name, reason in failed.items():
        mend = f"{PIP} install --force-reinstall {MODULES[name]}"
        yield problem(TOPIC, f"{MODULES[name]} does not load: {reason}", mend)


def collisions(installed: Iterable[Distribution]) -> Iterator[Finding]:
    """Distributions that bring packages of the same name: files of one lie over files of the other."""
    owners: dict[str, set[str]] = {name: set() for name in (*OURS, *EXCLUSIVE)}
    for found in installed:
        name = str(found.metadata["Name"])
        for package in owners:
            if brings(found, package):
                owners[package].add(name)
    strangers: dict[str, list[str]] = {}
    for package in OURS:
        for stranger in owners[package] - {"sightwire"}:
            strangers.setdefault(stranger, []).append(package)
    for stranger, packages in sorted(strangers.items()):
        yield problem(
            TOPIC,
            f"{stranger} brings a package of the same name as ours: {', '.join(packages)}",
            f"{PIP} uninstall -y {stranger} && {PIP} install --force-reinstall --no-deps sightwire "
            "(or give sightwire a virtual environment of its own)",
        )
    for package, wanted in EXCLUSIVE.items():
        if len(owners[package]) > 1:
            others = " ".join(sorted(owners[package] - {wanted}))
            yield note(
                TOPIC,
                f"{' and '.join(sorted(owners[package]))} lie over each other in {package}",
                f"{PIP} uninstall -y {others} && {PIP} install --force-reinstall --no-deps {wanted}",
            )


def brings(found: Distribution, package: str) -> bool:
    """Whether a distribution has files in the top-level package of that name."""
    # importlib.metadata.packages_distributions reads top_level.txt only before Python 3.11; many wheels have none.
    record = f"\n{found.read_text('RECORD') or ''}"
    named = (found.read_text("top_level.txt") or "").split()
    return package in named or f"\n{package}/__init__.py," in record or f"\n{package}.py," in record


def shadows(here: Path) -> Iterator[Finding]:
    """Packages of ours that Python would take from somewhere else, and a folder that `python -m agent` would take."""
    for name in OURS:
        spec = importlib.util.find_spec(name)
        places = list(spec.submodule_search_locations or [spec.origin or "?"]) if spec else ["nowhere"]
        if Path(places[0]).parent != _home():
            elsewhere = places[0]
            mend = f"rename {elsewhere}, or start sightwire in another folder and with PYTHONPATH unset"
            yield problem(TOPIC, f"the package {name} is taken from {elsewhere}, not from {_home()}", mend)
        if here != _home() and (here / name / "__init__.py").exists() and str(here) not in sys.path:
            yield note(TOPIC, f"{here / name} would hide ours from 'python -m agent' here; 'sightwire' is safe")


def _home() -> Path:
    """The folder that our three packages lie in."""
    return Path(agent.__file__).parents[1]
