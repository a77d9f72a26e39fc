"""Engines that hang or fail while an agent runs: found, replaced and said, and the others' results not delayed."""

from __future__ import annotations

import logging
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.config import Settings
from agent.supervision import engine as engine_module
from agent.supervision import pace
from agent.supervision.engines import Engines
from engines.backends import fake, openvino
from engines.base import Engine
from engines.card import Card, Precision
from engines.handover import HandoverEngine
from engines.store import ModelStore
from tests.support.agents import FAKE_OUTPUTS, fake_model, settings_of
from tests.support.broker import Mosquitto, Subscriber
from tests.support.engine_faults import longest_gap_s, running
from tests.support.standin_gpu import means_store

LIVE = {"type": "synthetic", "rate": 50}
SPARE = {"type": "fake", "name": "spare", "outputs": FAKE_OUTPUTS["classes"]}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds in a cabinet takes tenths here; so a busy machine may have more restarts than were ordered."""
    monkeypatch.setattr(pace, "LEAST_S", 0.25)
    monkeypatch.setattr("agent.supervision.opening.FIRST_S", 0.4)
    monkeypatch.setattr(pace, "FAILING_S", 0.1)
    monkeypatch.setattr(engine_module, "_WAITS_S", (0.02, 0.1))


def one(*faults: dict[str, Any], **more: Any) -> Settings:
    """Camera `a` with the faulty engine `c`, camera `b` with a sound one, `d`."""
    backend = {"faults": list(faults), **more.pop("backend", {})}
    return settings_of(
        models={"c": fake_model("classes", **backend), "d": fake_model("classes")},
        cameras={"a": {"source": LIVE, "models": ["c"]}, "b": {"source": LIVE, "models": ["d"]}},
        **more,
    )


def each(faults: dict[str, dict[str, Any]]) -> Settings:
    """One camera, and an engine for each of these."""
    models = {name: fake_model("classes", faults=[fault]) for name, fault in faults.items()}
    return settings_of(models=models, cameras={"a": {"source": LIVE, "models": list(models)}})


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_hang_is_found_within_5_s_said_on_mqtt_and_results_flow_again(tmp_path: Path, caplog) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.observer_url, "sightwire/test/status") as subscriber:
        settings = one({"kind": "hang", "at": 20, "engines": 1}, mqtt={"url": broker.url})
        with running(settings, tmp_path / "models") as agent:
            agent.until_it_hangs(20)
            assert agent.until(lambda: "state" in agent.engine() or "restarts" in agent.engine()) < 5
            agent.more_results(20)
            assert longest_gap_s(agent, "b", "d") < longest_gap_s(agent) / 2

            def heard(word: str) -> list[Any]:
                said = [message.data["engines"].get("c", {}) for message in subscriber.messages]
                return [engine[word] for engine in said if word in engine]

            agent.until(lambda: "restarting" in heard("state") and 1 in heard("restarts"))
            assert agent.service.metrics().engines["c"] == {"restarts": 1, "hung": 1}
        assert agent.counts()["failed"] in (1, 2)  # 2 is its depth
    (line,) = errors(caplog)
    assert re.match(r"models\.c: fake: it hangs \(infer: no answer for 4\.\d s\); given up, with [12] frames?", line)


@pytest.mark.usefixtures("quick")
def test_wherever_it_hangs_it_is_replaced_and_late_answers_count_for_nothing(tmp_path: Path) -> None:
    uses = ("prepare", "submit", "result")
    faults = {when: {"kind": "hang", "when": when, "at": 5, "engines": 1} for when in uses}
    with running(each(faults), tmp_path) as agent:
        for use in uses:
            agent.until(lambda use=use: agent.engine(use).get("restarts"))
            assert agent.service.engines.counts()[use]["hung"] >= 1
            assert agent.counts(use=use)["failed"] >= 1
        for use in uses:
            agent.more_results(use=use)
        fake.let_go()
        for use in uses:
            agent.until(lambda use=use: not agent.service.engines.counts()[use]["hung"])
            agent.more_results(use=use)


@pytest.mark.usefixtures("quick")
def test_an_engine_that_fails_each_batch_is_replaced_and_what_it_said_is_told(tmp_path: Path, caplog) -> None:
    uses = {"fail": "asked to fail", "nan": "is not a number (NaN)", "lost": "the device is gone"}
    faults = {kind: {"kind": kind, "at": 5, "engines": 1} for kind in uses}
    with running(each(faults), tmp_path) as agent:
        for use, words in uses.items():
            agent.until(lambda use=use: agent.engine(use).get("restarts"))
            agent.more_results(use=use)
            (line,) = [
                line for line in errors(caplog) if line.startswith(f"models.{use}:") and "again and again" in line
            ]
            assert words in line


def test_an_engine_that_recovers_by_itself_or_is_slow_is_left_alone(tmp_path: Path) -> None:
    faults = [{"kind": "fail", "at": 5, "batches": 2}, {"kind": "slow", "slow_ms": 150, "at": 8, "batches": 3}]
    with running(one(*faults), tmp_path) as agent:
        agent.more_results(12)
        assert "restarts" not in agent.engine()
        assert agent.counts()["failed"] == 2


@pytest.mark.usefixtures("quick")
def test_a_recording_waits_for_the_next_engine_and_loses_only_what_hung(tmp_path: Path) -> None:
    recording = {"type": "synthetic", "pace": "lossless", "frames": 60}
    settings = settings_of(
        models={"c": fake_model("classes", faults=[{"kind": "hang", "at": 30, "engines": 1}])},
        cameras={"a": {"source": recording, "models": ["c"]}},
    )
    with running(settings, tmp_path) as agent:
        agent.joined(10)
        counts = agent.counts()
        assert (counts["offered"], counts["failed"]) == (60, 60 - len(agent.results()))
        assert 1 <= counts["failed"] <= 6


@pytest.mark.usefixtures("quick")
def test_one_that_hangs_again_is_stood_in_for_by_the_next_backend_until_it_is_tried_again(
    tmp_path: Path, caplog, monkeypatch
) -> None:
    monkeypatch.setattr(engine_module, "_AGAIN_S", 0.5)
    settings = one({"kind": "hang", "at": 5, "engines": 2}, backend={"standby": SPARE})
    with running(settings, tmp_path) as agent:
        agent.until(lambda: agent.engine().get("backend") == "spare" and "state" not in agent.engine())
        said = agent.engine()
        assert (said["instead_of"], "it hangs" in said["because"]) == ("fake", True)
        assert re.match(r"fake: (tried again at|starting since|ready since) \d\d:\d\d UTC", said["next"])
        agent.more_results()
        agent.until(lambda: agent.engine()["backend"] == "fake")
        agent.more_results()
        assert agent.engine().keys() & {"instead_of", "because", "next", "state"} == set()
        assert agent.engine()["restarts"] >= 2
    assert any("spare serves instead of fake: it hangs" in record.getMessage() for record in caplog.records)


@pytest.mark.usefixtures("quick")
def test_after_three_that_hang_nothing_is_tried_until_one_comes_back_and_the_watchdog_is_told(
    tmp_path: Path, caplog
) -> None:
    with running(one({"kind": "hang", "at": 2}), tmp_path) as agent:
        agent.until(lambda: agent.engine().get("state") == "stopped")
        assert "only a new process helps" in agent.engine()["because"]
        stuck = [worker for worker in agent.service.engines.workers() if worker.progress.overdue_s() > 0]
        assert len(stuck) == engine_module.MOST_HUNG
        agent.more_results(camera="b", use="d")
        dropped = agent.counts()["replaced"]
        agent.until(lambda: agent.counts()["replaced"] > dropped)
        restarts = agent.engine()["restarts"]
        fake.let_go()
        agent.until(lambda: agent.engine()["restarts"] > restarts)
    assert any("models.c: 3 threads hang in engines of it: only a new process helps" in line for line in errors(caplog))


@pytest.mark.usefixtures("quick")
def test_one_that_fails_to_open_and_then_hangs_in_its_first_batch_is_opened_once_more(tmp_path: Path, caplog) -> None:
    mark = tmp_path / "from now on"
    faults = [
        {"kind": "fail", "at": 2, "engines": 1, "unless": str(mark)},
        {"kind": "fail", "when": "open", "engines": 2, "unless": str(mark)},
        {"kind": "hang", "at": 1, "batches": 1, "engines": 3, "unless": str(mark)},
    ]
    mark.touch()
    with running(one(*faults), tmp_path / "models") as agent:
        agent.until(lambda: agent.counts()["inferred"] == 4)
        mark.unlink()
        agent.until(lambda: agent.engine().get("restarts"))
        agent.more_results()
    said = "\n".join(errors(caplog))
    assert "models.c: fake: it cannot be opened again: fake: asked to fail" in said
    assert "models.c: fake: it hangs while it is opened again (first batch)" in said


@pytest.mark.usefixtures("quick")
def test_a_camera_that_is_lost_while_its_engine_hangs_is_told_so_when_that_is_given_up(tmp_path: Path) -> None:
    with running(one({"kind": "hang", "at": 5, "engines": 1}), tmp_path) as agent:
        agent.until_it_hangs(5)
        camera = agent.service.cameras["a"]
        camera.switch(on=False)
        agent.until(lambda: camera.wait_idle(0))


def test_an_agent_whose_engine_hangs_ends_within_its_time_and_its_account_adds_up(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("agent.service.STOP_DEADLINE_S", 1.5)
    with running(one({"kind": "hang", "at": 5}), tmp_path) as agent:
        agent.until_it_hangs(5)
        assert agent.end() < 4
        agent.laws_hold()
        assert agent.counts()["failed"] >= 1


@pytest.mark.usefixtures("quick")
def test_a_gpu_that_hangs_and_hangs_again_when_it_is_loaded_leaves_the_cpu_serving(tmp_path: Path, monkeypatch) -> None:
    made: list[HandoverEngine] = []

    def serve(config: fake.Config, card: Card, model: Path, precision: Precision) -> Engine:
        hangs = [{"kind": "hang", "at": 5}] if not made else [{"kind": "hang", "when": "open"}]
        gpu = fake.Config(name="gpu", outputs=config.outputs, faults=hangs)  # type: ignore[arg-type]
        make = [lambda: config.build(card, model, precision), lambda *_: gpu.build(card, model, precision)]
        made.append(HandoverEngine("gpu", *make, patience_s=0.1))
        return made[-1]

    monkeypatch.setattr(fake.Config, "serve", serve)
    monkeypatch.setattr("engines.handover._CLOSE_S", 0.1)
    with running(
        settings_of(models={"c": fake_model("classes")}, cameras={"a": {"source": LIVE, "models": ["c"]}}), tmp_path
    ) as agent:
        agent.until(lambda: agent.engine().get("backend") == "gpu")
        agent.until(lambda: agent.engine()["backend"] == "fake" and "state" not in agent.engine())
        agent.more_results()
        assert str(agent.engine()["next"]).startswith("gpu: starting since")
        assert agent.end() < 4


@pytest.mark.usefixtures("quick")
def test_openvino_is_replaced_while_cameras_run(tmp_path: Path, monkeypatch) -> None:
    """The real engine; only that its answer does not come is made up."""
    lets_go, result = threading.Event(), openvino._Ticket.result
    hangs: list[object] = []

    def late(ticket: Any) -> Any:
        if ticket._slots in hangs:
            lets_go.wait()
        return result(ticket)

    monkeypatch.setattr(openvino._Ticket, "result", late)
    model = {"model": "classes", "precision": "fp32", "backend": {"type": "openvino", "threads": 1}}
    cameras = {name: {"source": LIVE, "models": ["c"]} for name in "ab"}
    with running(settings_of(models={"c": model}, cameras=cameras), tmp_path, store=means_store(tmp_path)) as agent:
        try:
            agent.more_results()
            hangs.append(agent.service.engines["c"].model.engine._slots)
            agent.until(lambda: agent.engine().get("restarts"))
            agent.more_results()
            agent.more_results(camera="b")
            assert agent.engine()["backend"].startswith("openvino")
        finally:
            lets_go.set()
        agent.until(lambda: not agent.service.engines.counts()["c"]["hung"])
        agent.more_results()


def test_a_process_that_stood_still_judges_nobody_before_all_threads_had_their_turn() -> None:
    """As after SIGSTOP: the main thread looks before the engine's thread has come to say that it is done."""

    class Engine:
        looks = 0

        def look(self) -> None:
            self.looks += 1

    engines = Engines(ModelStore(Path()))
    engines._at_work["c"] = engine = Engine()  # type: ignore[assignment]
    engines.look()
    assert engine.looks == 1
    engines._standstill._looked_s -= 2
    engines.look()
    engines.look()
    assert engine.looks == 1
    engines._standstill._patient_until_s -= 2
    engines.look()
    assert engine.looks == 2
