"""`sightwire chaos`, as it is typed: faults on a stage of its own, a table, an exit status, and nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from agent.chaos.door import DOOR
from tests.support.agents import fake_model, fake_store
from tests.support.broker import require_mosquitto
from tests.support.clips import SMALL
from tests.support.patience import PATIENCE_S
from tests.support.process import Sightwire, sightwire


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Two cameras that show a recording, and what chaos must leave alone: a broker, an outbox, a sink."""
    cameras = {
        name: {"source": {"type": "file", "path": str(SMALL.path()), "start": start}, "models": ["people"]}
        for name, start in (("dock", "0s"), ("gate", "1s"))
    }
    config: dict[str, Any] = {
        "agent": {"name": "test"},
        "mqtt": {"url": "mqtt://127.0.0.1:1"},
        "sinks": [{"type": "jsonl", "path": str(tmp_path / "theirs.jsonl")}],
        "events": {"path": str(tmp_path / "theirs.db")},
        "models": {"people": fake_model("boxes")},
        "cameras": cameras,
    }
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(config))
    fake_store(tmp_path / "models")
    (tmp_path / "tmp").mkdir()
    return tmp_path / "site.yaml"


def at(site: Path) -> dict[str, Any]:
    """How a command is to be started there."""
    return {"models": site.parent / "models", "env": {"TMPDIR": str(site.parent / "tmp")}}


def test_every_quick_fault_on_a_site_is_survived_and_counted(site: Path) -> None:
    """Each row held, with its times; nothing of the user's is written, and nothing is left."""
    require_mosquitto()
    # An engine that hangs takes its time: test_engine_faults.
    faults = ["camera-cut", "broker-stop", "outbox-full", "agent-kill", "clock-skew", "agent-stop"]
    arguments = ["chaos", site, "--json", "--outage", "1s", "--only", ",".join(faults)]
    status, out, err = sightwire(*arguments, deadline_s=100, **at(site))
    assert status in (0, 1), err
    said = json.loads(out)
    rows = {row["fault"]: row for row in said["faults"]}
    # A busy machine may be late; that something is lost, or never comes back, is no matter of time.
    late = ("Found after", "Back after", "had no results for", "were away")
    for row in rows.values():
        assert row["result"] == "held" or any(word in row["happened"] for word in late), row
    assert rows.keys() == {*faults}
    assert rows["camera-cut"]["where"] == "dock"
    assert all(rows[fault]["back_s"] > 0 for fault in ("camera-cut", "broker-stop", "agent-kill"))
    assert said["held"] == (status == 0)
    assert {path.name for path in site.parent.iterdir()} == {"site.yaml", "models", "tmp"}
    assert not list((site.parent / "tmp").iterdir())


def test_ctrl_c_ends_it_and_all_that_it_started(site: Path) -> None:
    """No agent, no broker and no folder is left of an interrupted run."""
    with Sightwire("chaos", site, "--only", "camera-cut", "--outage", "1m", **at(site)) as chaos:
        children: list[psutil.Process] = []

        def agent_is_there() -> bool:
            children[:] = psutil.Process(chaos.pid).children(recursive=True)
            return any("run" in child.cmdline() for child in children)

        _until(agent_is_there)
        chaos.interrupt()
        assert chaos.wait() == 130, chaos.err
        assert "Traceback" not in chaos.err
        assert "stopped" in chaos.err
    assert not psutil.wait_procs(children, 5)[1]
    assert not list((site.parent / "tmp").iterdir())


def _until(wanted: Any, deadline_s: float = PATIENCE_S) -> None:
    import time

    end_s = time.monotonic() + deadline_s
    while not wanted():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_an_agent_opens_its_door_to_nobody_else(site: Path) -> None:
    """A descriptor that chaos did not make ends the agent before it does anything."""
    status, _, err = sightwire("run", site, models=site.parent / "models", env={DOOR: "0"})
    assert status == 78
    assert "only 'sightwire chaos'" in err
    assert "Traceback" not in err
