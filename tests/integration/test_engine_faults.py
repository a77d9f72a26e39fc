"""Engines that hang or fail while an agent runs: found, replaced and said, and the others' results not delayed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.supervision import pace
from tests.support.agents import fake_model, settings_of
from tests.support.engine_faults import running

LIVE = {"type": "synthetic", "rate": 50}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds in a cabinet takes tenths here."""
    monkeypatch.setattr(pace, "LEAST_S", 0.4)
    monkeypatch.setattr(pace, "FIRST_S", 0.8)
    monkeypatch.setattr(pace, "FAILING_S", 0.2)


def one(*faults: dict[str, Any], **backend: Any) -> Any:
    return settings_of(
        models={"c": fake_model("classes", faults=list(faults), **backend), "d": fake_model("classes")},
        cameras={"a": {"source": LIVE, "models": ["c"]}, "b": {"source": LIVE, "models": ["d"]}},
    )


def test_an_engine_that_hangs_is_found_within_5_s_and_another_one_serves(tmp_path: Path) -> None:
    with running(one({"kind": "hang", "at": 20, "engines": 1}), tmp_path) as agent:
        agent.until(lambda: len(agent.results()) == 19)
        found_s = agent.until(lambda: agent.engine().get("state") == "restarting" or agent.engine().get("restarts"))
        assert found_s < 5
        agent.more_results(20)
        assert agent.engine()["restarts"] == 1
