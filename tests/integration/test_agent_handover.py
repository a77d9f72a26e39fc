"""An agent whose engine changes while it runs: what subscribers and the log are told, and that no frame is lost."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from agent.service import Service
from agent.sinks.memory import MemorySink
from agent.supervision.engines import tell_engine
from engines.backends import fake
from engines.base import Engine
from engines.errors import BackendError
from engines.handover import HandoverEngine
from tests.support.agents import fake_model, fake_store, settings_of
from tests.support.patience import PATIENCE_S

FRAMES = 120


class Agent:
    """One recording through an engine that hands over when the test says so."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = threading.Event()
        self.refused = ""

        def serve(config, card, model, precision) -> Engine:
            def following(report, stop) -> Engine:
                report("building")
                while not self.made.wait(0.001):
                    if stop.is_set():
                        raise BackendError("stopped")
                if self.refused:
                    raise BackendError(self.refused)
                engine = fake.Config(outputs=config.outputs, batch=4, depth=3).build(card, model, precision)
                engine.description = {**engine.description, "backend": "better"}
                return engine

            return HandoverEngine("better", lambda: config.build(card, model, precision), following)

        monkeypatch.setattr(fake.Config, "serve", serve)
        self.sink = MemorySink()
        settings = settings_of(
            models={"c": fake_model("classes", delay_ms=1)},
            cameras={"a": {"source": {"type": "synthetic", "pace": "lossless", "frames": FRAMES}, "models": ["c"]}},
        )
        self.service = Service(settings, fake_store(folder), [self.sink])

    def run(self, made_at_seq: int | None = None) -> None:
        runner = threading.Thread(target=self.service.run, args=(threading.Event(),))
        runner.start()
        if made_at_seq is not None:
            assert self.sink.wait_for(lambda _: len(self.results) > made_at_seq, PATIENCE_S)
            self.made.set()
        runner.join(PATIENCE_S)
        assert not runner.is_alive()

    @property
    def results(self) -> list[int]:
        return [kept.data["seq"] for kept in self.sink.messages if kept.topic == "a/c/classification"]

    @property
    def engines(self) -> list[dict]:
        return [kept.data["engines"]["c"] for kept in self.sink.messages if kept.topic == "status"]


def test_the_engine_changes_in_a_recording_and_every_frame_has_its_result(tmp_path, monkeypatch, caplog) -> None:
    caplog.set_level(logging.INFO)
    agent = Agent(tmp_path, monkeypatch)
    agent.run(made_at_seq=FRAMES // 4)
    assert agent.results == list(range(FRAMES))
    counts = agent.service.cameras["a"].counts()["uses"]["c"]
    assert (counts["offered"], counts["inferred"]) == (FRAMES, FRAMES)
    assert agent.engines[0]["backend"] == "fake"
    assert agent.engines[-1] == {"backend": "better", "device": "none", "precision": "fp32", "batch": 4}
    assert "models.c: better serves, on none" in caplog.messages


def test_an_engine_that_cannot_be_made_is_said_once_and_results_go_on(tmp_path, monkeypatch, caplog) -> None:
    agent = Agent(tmp_path, monkeypatch)
    agent.refused = "no INT8 on this device"
    agent.run(made_at_seq=3)
    assert agent.results == list(range(FRAMES))
    assert agent.engines[-1]["because"] == "no INT8 on this device"
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warnings == ["models.c: fake serves instead of better: no INT8 on this device"]


def test_a_recording_that_ends_first_stops_what_is_being_made(tmp_path, monkeypatch, caplog) -> None:
    caplog.set_level(logging.INFO)
    agent = Agent(tmp_path, monkeypatch)
    agent.run()
    assert agent.results == list(range(FRAMES))
    assert str(agent.engines[0]["next"]).startswith("better: building since ")
    assert any(line.startswith("models.c: fake serves; next better: building since ") for line in caplog.messages)


def test_the_log_has_a_line_for_each_change_and_none_for_when_something_is_tried_again(caplog) -> None:
    caplog.set_level(logging.INFO)
    cpu = {"backend": "cpu", "device": "x86"}
    refused = {**cpu, "instead_of": "gpu", "because": "no memory"}
    history = [
        cpu,
        {**cpu, "next": "gpu: building since 08:12 UTC"},
        {**refused, "next": "gpu: tried again at 08:22 UTC"},
        {**refused, "next": "gpu: building since 08:22 UTC"},
        {**refused, "next": "gpu: tried again at 08:32 UTC"},
        {"backend": "gpu", "device": "Orin"},
        {"backend": "gpu", "device": "Orin"},
    ]
    for before, description in zip([None, *history], history, strict=False):
        tell_engine("models.c", description, before)
    assert caplog.messages == [
        "models.c: cpu serves; next gpu: building since 08:12 UTC",
        "models.c: cpu serves instead of gpu: no memory (gpu: tried again at 08:22 UTC)",
        "models.c: gpu serves, on Orin",
    ]
