"""The whole agent on fake parts: everything offered has an outcome, whatever happens."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from agent import service
from agent.config import Settings
from agent.errors import ConfigError
from agent.service import Service
from agent.sinks.memory import MemorySink
from tests.support.agents import fake_model, fake_store, settings_of
from tests.support.patience import PATIENCE_S

RECORDING = {"type": "synthetic", "pace": "lossless", "frames": 60, "rate": 30}
LIVE = {"type": "synthetic", "rate": 200}


class Agent:
    """A service with a memory sink, started and stopped by the test."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.sink = MemorySink()
        self.service = Service(settings, fake_store(folder), [self.sink])

    def run_to_the_end(self) -> None:
        timer = threading.Event()
        self.service.run(timer)

    def run_until(self, wanted) -> None:
        self.service.start()
        try:
            assert self.sink.wait_for(wanted, PATIENCE_S)
        finally:
            self.service.stop()

    def counts(self, camera: str, use: str) -> dict[str, int]:
        return self.service.cameras[camera].counts()["uses"][use]

    def payloads(self, topic: str) -> list[dict]:
        return [kept.data for kept in self.sink.messages if kept.topic == topic]


def laws_hold(agent: Agent) -> bool:
    for camera in agent.service.cameras.values():
        for counts in camera.counts()["uses"].values():
            assert counts["waiting"] == 0
            assert counts["offered"] == sum(n for name, n in counts.items() if name != "offered")
    for sink in agent.service.metrics().sinks.values():
        assert sink["waiting"] == 0
        assert sink["made"] == sink["sent"] + sink["replaced"] + sink["stale"] + sink["failed"]
    return True


def test_a_recording_gives_a_result_for_every_frame_in_order(tmp_path: Path) -> None:
    agent = Agent(
        settings_of(
            models={"colours": fake_model("classes")}, cameras={"a": {"source": RECORDING, "models": ["colours"]}}
        ),
        tmp_path,
    )
    agent.run_to_the_end()
    results = agent.payloads("a/colours/classification")
    assert [r["seq"] for r in results] == list(range(60))
    assert results[0]["age_ms"] is None
    assert "received_at" not in results[0]
    assert results[1]["captured_at"] == "1970-01-01T00:00:00.033333Z"
    assert laws_hold(agent)


def test_memory_that_is_free_goes_back_to_the_system_at_first_and_again_and_again(tmp_path, monkeypatch) -> None:
    given_back: list[float] = []
    monkeypatch.setattr(service, "give_back", lambda: given_back.append(time.monotonic()))
    monkeypatch.setattr(service, "TIDY_S", 0.05)
    settings = settings_of(
        models={"colours": fake_model("classes")}, cameras={"a": {"source": LIVE, "models": ["colours"]}}
    )
    stop, patience_s = threading.Event(), time.monotonic() + PATIENCE_S
    agent = Service(settings, fake_store(tmp_path), [MemorySink()])
    agent.run(stop, lambda: stop.set() if len(given_back) >= 3 or time.monotonic() > patience_s else None)
    assert len(given_back) >= 3


def test_every_is_counted_in_capture_time_so_a_recording_always_gives_the_same_frames(tmp_path: Path) -> None:
    use = {"use": "colours", "every": "200ms"}
    agent = Agent(
        settings_of(models={"colours": fake_model("classes")}, cameras={"a": {"source": RECORDING, "models": [use]}}),
        tmp_path,
    )
    agent.run_to_the_end()
    assert [r["seq"] for r in agent.payloads("a/colours/classification")] == list(range(0, 60, 6))
    assert agent.counts("a", "colours")["not_due"] == 50
    assert laws_hold(agent)


def test_a_slow_engine_gets_the_newest_frames_and_the_rest_is_counted_as_replaced(tmp_path: Path) -> None:
    agent = Agent(
        settings_of(
            models={"colours": fake_model("classes", delay_ms=40)},
            cameras={name: {"source": LIVE, "models": ["colours"]} for name in ("a", "b")},
        ),
        tmp_path,
    )
    agent.run_until(lambda kept: sum("classification" in k.topic for k in kept) >= 20)
    for camera in "ab":
        counts = agent.counts(camera, "colours")
        assert counts["replaced"] > counts["inferred"] > 5
        ages = [r["age_ms"] for r in agent.payloads(f"{camera}/colours/classification")]
        assert max(ages) < 300
    assert laws_hold(agent)


def test_results_older_than_their_limit_are_dropped_and_counted(tmp_path: Path) -> None:
    use = {"use": "colours", "max_age": "20ms"}
    agent = Agent(
        settings_of(
            models={"colours": fake_model("classes", delay_ms=60)}, cameras={"a": {"source": LIVE, "models": [use]}}
        ),
        tmp_path,
    )
    agent.service.start()
    try:
        deadline = threading.Event()
        while agent.service.metrics().sinks["memory"]["stale"] < 5:
            assert not deadline.wait(0.01)
    finally:
        agent.service.stop()
    assert agent.payloads("a/colours/classification") == []
    assert laws_hold(agent)


def test_failing_batches_are_counted_and_the_rest_goes_on(tmp_path: Path) -> None:
    agent = Agent(
        settings_of(
            models={"colours": fake_model("classes", fail_every=3)},
            cameras={"a": {"source": RECORDING, "models": ["colours"]}},
        ),
        tmp_path,
    )
    agent.run_to_the_end()
    counts = agent.counts("a", "colours")
    assert (counts["inferred"], counts["failed"]) == (40, 20)
    assert laws_hold(agent)


def cascade(**more) -> dict:
    return {"use": "colours", "on": "things", **more}


def test_a_cascade_puts_its_results_into_the_attributes_of_each_object(tmp_path: Path) -> None:
    agent = Agent(
        settings_of(
            models={"things": fake_model("boxes") | {"threshold": 0.3}, "colours": fake_model("classes", batch=2)},
            cameras={"a": {"source": RECORDING, "models": ["things", cascade(max=2, labels=["thing"])]}},
        ),
        tmp_path,
    )
    agent.run_to_the_end()
    results = agent.payloads("a/things/detections")
    assert [r["seq"] for r in results] == list(range(60))
    for result in results:
        looked_at = [d for d in result["detections"] if d["attributes"]]
        assert len(looked_at) == min(2, len(result["detections"])) > 0
        assert {row["label"] for row in looked_at[0]["attributes"]["colours"]} == {"red", "green", "blue"}
    assert agent.counts("a", "colours")["inferred"] == 60
    assert laws_hold(agent)


def test_a_slow_cascade_on_a_live_camera_loses_attributes_never_the_parent_result(tmp_path: Path) -> None:
    agent = Agent(
        settings_of(
            models={
                "things": fake_model("boxes") | {"threshold": 0.3},
                "colours": fake_model("classes", delay_ms=30, fail_every=2),
            },
            cameras={"a": {"source": LIVE, "models": ["things", cascade()]}},
        ),
        tmp_path,
    )
    agent.run_until(lambda kept: sum("detections" in k.topic for k in kept) >= 30)
    seqs = [r["seq"] for r in agent.payloads("a/things/detections")]
    assert seqs == sorted(seqs)
    assert agent.counts("a", "colours")["replaced"] + agent.counts("a", "colours")["failed"] > 0
    assert laws_hold(agent)


def test_a_camera_that_breaks_is_lost_reported_and_comes_back_while_others_go_on(tmp_path: Path) -> None:
    broken = {"type": "synthetic", "rate": 100, "fail_after": 5}
    agent = Agent(
        settings_of(
            models={"colours": fake_model("classes")},
            cameras={
                "good": {"source": LIVE, "models": ["colours"]},
                "bad": {"source": broken, "models": ["colours"]},
                "absent": {"source": {"type": "synthetic", "fail_open": True}, "models": ["colours"]},
            },
        ),
        tmp_path,
    )
    agent.run_until(lambda kept: sum(k.topic == "bad/status" and k.data["state"] == "streaming" for k in kept) >= 2)
    states = [s["state"] for s in agent.payloads("bad/status")]
    states = [state for state in states if state != "connecting"]  # may be replaced before it is sent: newest wins
    assert states[:3] == ["streaming", "lost", "streaming"]
    lost = next(s for s in agent.payloads("bad/status") if s["state"] == "lost")
    assert lost["reason"] == "synthetic 640x360: was asked to break after 5 frames"
    assert agent.payloads("absent/status")[-1]["state"] in ("lost", "connecting")
    seqs = [r["seq"] for r in agent.payloads("bad/colours/classification")]
    assert seqs == sorted(set(seqs)), "frame numbers go on over reconnects"
    assert len(agent.payloads("good/colours/classification")) > 10
    assert laws_hold(agent)


def test_masked_areas_never_reach_an_engine(tmp_path: Path) -> None:
    everything = [[[0, 0], [1, 0], [1, 1], [0, 1]]]
    agent = Agent(
        settings_of(
            models={"colours": fake_model("classes")},
            cameras={"a": {"source": RECORDING, "models": ["colours"], "masks": everything}},
        ),
        tmp_path,
    )
    agent.run_to_the_end()
    for result in agent.payloads("a/colours/classification"):
        assert max(row["score"] for row in result["classes"]) < 0.02


def test_a_region_of_interest_is_all_that_is_looked_at(tmp_path: Path) -> None:
    """The synthetic picture is grey below; its top row holds the bright barcode."""
    agent = Agent(
        settings_of(
            models={"colours": fake_model("classes")},
            cameras={
                "a": {
                    "source": RECORDING | {"frames": 1},
                    "models": [{"use": "colours", "roi": [0, 0.8, 1, 1]}],
                }
            },
        ),
        tmp_path,
    )
    agent.run_to_the_end()
    (result,) = agent.payloads("a/colours/classification")
    assert result["classes"][0]["score"] == pytest.approx(96 / 255, abs=0.005)


def test_the_status_says_what_runs_and_ends_with_offline(tmp_path: Path) -> None:
    agent = Agent(
        settings_of(
            models={"colours": fake_model("classes")}, cameras={"a": {"source": RECORDING, "models": ["colours"]}}
        ),
        tmp_path,
    )
    agent.run_to_the_end()
    first, last = agent.payloads("status")[0], agent.payloads("status")[-1]
    assert (first["state"], last["state"]) == ("online", "offline")
    assert first["engines"]["colours"]["backend"] == "fake"
    assert last["cameras"] == {"a": "ended"}


@pytest.mark.parametrize(
    ("models", "uses", "expected"),
    [
        ({"colours": {"model": "clases"}}, ["colours"], "did you mean 'classes'"),
        ({"colours": {"model": "classes"}}, ["colours"], "has no int8 file, only fp32"),
        (
            {"colours": fake_model("classes"), "things": fake_model("boxes")},
            ["colours", {"use": "things", "on": "colours"}],
            "classes finds no boxes to look at",
        ),
        (
            {"colours": fake_model("classes"), "things": fake_model("boxes")},
            ["things", cascade(labels=["helmet"])],
            "boxes has no label 'helmet'",
        ),
        ({"colours": {**fake_model("classes"), "backend": {"type": "openvino"}}}, ["colours"], "cannot compile it"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_before_anything_runs(tmp_path: Path, models, uses, expected) -> None:
    agent = Agent(settings_of(models=models, cameras={"a": {"source": RECORDING, "models": uses}}), tmp_path)
    with pytest.raises(ConfigError, match=expected):
        agent.run_to_the_end()


def test_an_altered_model_file_is_refused_by_its_sha256(tmp_path: Path) -> None:
    agent = Agent(
        settings_of(
            models={"colours": fake_model("classes")}, cameras={"a": {"source": RECORDING, "models": ["colours"]}}
        ),
        tmp_path,
    )
    (tmp_path / "classes" / "model.onnx").write_bytes(b"something else")
    with pytest.raises(ConfigError, match="cut short or altered"):
        agent.run_to_the_end()


def test_cameras_with_the_same_source_share_its_connection_and_see_their_own_part_of_it(tmp_path: Path) -> None:
    wide = {**RECORDING, "width": 640, "height": 360}
    cameras = {
        "left": {"source": wide, "crop": [0, 0, 0.5, 1], "models": ["colours"]},
        "right": {"source": wide, "crop": [0.75, 0.5, 1, 1], "models": ["colours"]},
        "other": {"source": {**wide, "frames": 30}, "models": ["colours"]},
    }
    agent = Agent(settings_of(models={"colours": fake_model("classes")}, cameras=cameras), tmp_path)
    agent.run_to_the_end()
    assert len(agent.service.captures) == 2
    for camera, size, frames in (("left", (320, 360), 60), ("right", (160, 180), 60), ("other", (640, 360), 30)):
        results = agent.payloads(f"{camera}/colours/classification")
        assert [r["seq"] for r in results] == list(range(frames))
        assert {(r["frame"]["width"], r["frame"]["height"]) for r in results} == {size}
    assert laws_hold(agent)


def test_when_a_shared_source_breaks_every_camera_on_it_is_lost_and_comes_back(tmp_path: Path) -> None:
    broken = {**LIVE, "fail_after": 3}
    cameras = {name: {"source": broken, "models": ["colours"]} for name in ("a", "b")}
    agent = Agent(settings_of(models={"colours": fake_model("classes")}, cameras=cameras), tmp_path)

    def came_back(kept) -> bool:
        states = {name: [k.data["state"] for k in kept if k.topic == f"{name}/status"] for name in ("a", "b")}
        return all(s.count("lost") >= 1 and s.count("streaming") >= 2 for s in states.values())

    agent.run_until(came_back)
    assert {camera.counts()["reconnects"] for camera in agent.service.cameras.values()} <= {1, 2}
    assert laws_hold(agent)


def test_tiles_are_one_result_with_boxes_of_the_whole_picture(tmp_path: Path) -> None:
    plain = {"use": "things", "threshold": 0.01}
    tiled = {"use": "more", "tiles": {"grid": [3, 2]}, "roi": [0, 0, 1, 0.5], "threshold": 0.01}
    agent = Agent(
        settings_of(
            models={"things": fake_model("boxes"), "more": fake_model("boxes")},
            cameras={"a": {"source": {**RECORDING, "frames": 5}, "models": [plain, tiled]}},
        ),
        tmp_path,
    )
    agent.run_to_the_end()
    results = agent.payloads("a/more/detections")
    assert [r["seq"] for r in results] == list(range(5))
    assert len(results[0]["detections"]) > len(agent.payloads("a/things/detections")[0]["detections"]) > 0
    edges = [edge for r in results for found in r["detections"] for edge in found["box"][1::2]]
    assert max(edges) <= 180, "boxes are in source pixels, inside the roi"
    assert laws_hold(agent)


def test_tiles_of_a_classifier_are_refused(tmp_path: Path) -> None:
    use = {"use": "colours", "tiles": {"grid": [2, 2]}}
    agent = Agent(
        settings_of(models={"colours": fake_model("classes")}, cameras={"a": {"source": RECORDING, "models": [use]}}),
        tmp_path,
    )
    with pytest.raises(ConfigError, match=r"cameras.a.models\[0\].tiles: classes finds no boxes"):
        agent.service.start()


def test_thresholds_counts_and_labels_are_those_of_the_use_the_model_entry_and_the_card_in_this_order(
    tmp_path: Path,
) -> None:
    colours = {**fake_model("classes"), "threshold": {"red": 0.99}, "only": ["red", "green"]}
    cameras = {
        "a": {"source": RECORDING, "models": ["colours"]},
        "b": {"source": RECORDING, "models": [{"use": "colours", "threshold": {"green": 0.99, "red": 0.001}}]},
    }
    agent = Agent(settings_of(models={"colours": colours}, cameras=cameras), tmp_path)
    agent.run_to_the_end()

    def labels(camera: str) -> set[str]:
        results = agent.payloads(f"{camera}/colours/classification")
        assert len(results) == 60
        return {row["label"] for result in results for row in result["classes"]}

    assert labels("a") == {"green"}
    assert labels("b") == {"red"}


@pytest.mark.parametrize(
    ("model", "use", "expected"),
    [
        ({"threshold": {"gren": 0.5}}, {}, r"models.colours: threshold: .*no label 'gren'; did you mean 'green'"),
        ({"only": ["blu"]}, {}, r"models.colours: only: .*did you mean 'blue'"),
        ({"iou": 0.5}, {}, "models.colours: .*iou"),
        ({}, {"threshold": {"gren": 0.5}}, r"cameras.a.models\[0\]: threshold: .*did you mean 'green'"),
    ],
)
def test_options_that_do_not_fit_the_model_name_their_place(tmp_path: Path, model, use, expected) -> None:
    cameras = {"a": {"source": RECORDING, "models": [{"use": "colours", **use}]}}
    settings = settings_of(models={"colours": {**fake_model("classes"), **model}}, cameras=cameras)
    with pytest.raises(ConfigError, match=expected):
        Agent(settings, tmp_path).service.start()


@pytest.mark.parametrize("kind", ["classes", "boxes"])
def test_a_network_that_overflows_fails_with_a_clear_line_and_disturbs_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    models = {"sick": fake_model(kind, overflows=True), "well": fake_model("classes")}
    agent = Agent(
        settings_of(models=models, cameras={"a": {"source": RECORDING, "models": ["sick", "well"]}}), tmp_path
    )
    agent.run_to_the_end()
    assert agent.counts("a", "sick")["failed"] == agent.counts("a", "well")["inferred"] == 60
    said = [record.message for record in caplog.records if "is not a number (NaN)" in record.message]
    assert len(said) == 1, "once, not for every frame"
    assert laws_hold(agent)
