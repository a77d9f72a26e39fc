"""A running agent goes over to another configuration: only what changed begins anew, and nothing is lost."""

from __future__ import annotations

import copy
import gc
import json
import os
import random
import signal
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent import service as services
from agent.camera import Camera
from agent.capture import Capture
from agent.config import Settings
from agent.errors import ConfigError
from agent.frame import Timestamp
from agent.inference import Inference
from agent.messages import CameraStatus
from agent.publishing import Outlets
from agent.reloading import Anew, Stopping, apply
from agent.remote.payloads import SetThresholdCommand
from agent.service import Service
from agent.sight.sight import Blindness, Sight
from agent.sinks import Message, jsonl
from agent.sinks.memory import Kept, MemorySink
from agent.sources import file
from agent.supervision import pace
from agent.supervision.captures import end
from agent.supervision.engine import EngineAtWork
from agent.watching.watch import Watch
from engines.backends import fake
from engines.model import Model
from engines.pixels import Image
from tests.support.agents import fake_model, fake_store, settings_of
from tests.support.blobs import MODEL, USE, add_blobs
from tests.support.broker import Certificates, Mosquitto, Subscriber
from tests.support.clips import SMALL
from tests.support.patience import PATIENCE_S
from tests.support.process import Sightwire
from tests.support.systemd import Systemd
from tests.support.waiting import until

ZONE = {"polygon": [[0, 0], [1, 0], [1, 1], [0, 1]], "enter_after": 0}
"""The block is always in it."""
RED = {"models": {"colours": fake_model("classes")}}


def live(rate: int) -> dict[str, Any]:
    """A source that no other camera has."""
    return {"type": "synthetic", "rate": rate}


def watched(rate: int = 50, **more: Any) -> dict[str, Any]:
    """A camera with tracks, and an incident that is open."""
    track = {"use": "blobs", "confirm": 0}
    return {"source": live(rate), "models": [USE], "track": track, "zones": {"all": ZONE}, **more}


def site(**sections: Any) -> dict[str, Any]:
    return {
        "models": {"colours": fake_model("classes"), "blobs": MODEL},
        "cameras": {"dock": watched(), "yard": {"source": live(60), "models": ["colours"]}},
        **sections,
    }


def result_of(kept: Kept, camera: str) -> bool:
    return kept.topic.startswith(f"{camera}/") and kept.topic.endswith(("detections", "classification"))


class Agent:
    """Serves in a thread, as the main thread of a process would."""

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        self.sink = MemorySink()
        store = fake_store(folder / "models")
        add_blobs(folder / "models")
        self.events = {"path": str(folder / "events.db")}
        self.service = Service(self.settings(content), store, [self.sink])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.service.run, args=(self._stop,))
        self._thread.start()
        self.waits(lambda kept: any(k.topic == "status" for k in kept))

    def settings(self, content: dict[str, Any]) -> Settings:
        return settings_of(**{"events": self.events, **content})

    def apply(self, content: dict[str, Any]) -> dict[str, Any]:
        return apply(self.service, self.settings(content))

    def waits(self, wanted: Callable[[list[Kept]], Any]) -> None:
        assert self.sink.wait_for(wanted, PATIENCE_S), [k.topic for k in self.sink.messages][-20:]

    def sees(self, *cameras: str) -> None:
        """Wait for five more results of each."""
        before = len(self.sink.messages)
        self.waits(lambda kept: all(sum(result_of(k, c) for k in kept[before:]) > 5 for c in cameras))

    def said(self, topic: str) -> list[dict[str, Any]]:
        return [k.data for k in self.sink.messages if k.topic == topic]

    def seqs(self, topic: str) -> list[int]:
        return [result["seq"] for result in self.said(topic)]

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)

    def laws(self) -> None:
        """Nothing is lost, and nothing counted twice."""
        metrics = self.service.metrics()
        for camera in metrics.cameras.values():
            for counts in camera["uses"].values():
                assert counts["waiting"] == 0
                assert counts["offered"] == sum(n for name, n in counts.items() if name != "offered")
        parts = ("acknowledged", "expired", "dropped", "waiting")
        assert all(n["made"] == sum(n[part] for part in parts) for n in metrics.events.values())
        assert metrics.events["memory"]["waiting"] == 0
        assert all(n["waiting"] == 0 for n in metrics.sinks.values())


@contextmanager
def running(folder: Path, content: dict[str, Any]) -> Iterator[Agent]:
    agent = Agent(folder, content)
    try:
        yield agent
    finally:
        agent.stop()
    agent.laws()


def incidents(agent: Agent, camera: str = "dock") -> dict[str, list[tuple[str, Any]]]:
    found: dict[str, list[tuple[str, Any]]] = {}
    for event in agent.said(f"{camera}/events"):
        found.setdefault(event["id"], []).append((event["phase"], event.get("reason")))
    return found


def test_a_changed_zone_is_only_its_own_cameras_matter(tmp_path: Path) -> None:
    """And that camera keeps its connection: no frame is missing on either."""
    content = site()
    with running(tmp_path, content) as agent:
        agent.sees("dock", "yard")
        service = agent.service
        yard, dock, engines = service.cameras["yard"], service.cameras["dock"], dict(service.engines._at_work)
        changed = copy.deepcopy(content)
        changed["cameras"]["dock"]["zones"] = {"half": {**ZONE, "polygon": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}}
        told = agent.apply(changed)
        assert told["restarted"] == {"cameras": ["dock"], "connections": [], "models": [], "sinks": []}
        agent.waits(lambda kept: any(k.topic == "dock/events" and k.data.get("rule") == "half" for k in kept))
        agent.sees("dock", "yard")
        assert service.cameras["yard"] is yard
        assert service.cameras["dock"] is not dock
        assert dict(service.engines._at_work) == engines
        for name in ("dock", "yard"):
            counts = service.cameras[name].counts()
            assert counts["reconnects"] == 0
            assert counts["state"] == "streaming"
    read = {names[0]: one.capture._seq for names, one in service.captures._at_work.items()}
    assert yard.frames == read["yard"] == yard.counts()["uses"]["colours"]["offered"]
    assert read["dock"] - 1 <= service.cameras["dock"].frames <= read["dock"], "the last one may be the other camera's"
    seqs = [seq for seq in agent.seqs("dock/blobs/detections") if seq < read["dock"]]
    assert len(set(seqs)) == len(seqs) <= seqs[-1] + 1, "frame numbers go on"
    told_of = incidents(agent)
    assert [("start", None), ("end", "configuration_changed")] in told_of.values()
    tracks = [e["track"] for e in agent.said("dock/events") if e["phase"] == "start"]
    assert len(set(tracks)) == len(tracks), "ids of tracks are not used again"
    assert agent.said("dock/counts")[-1]["zones"].keys() == {"half"}


def test_a_blind_camera_that_is_changed_ends_its_incident_once_and_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its connection; status says meanwhile what that says, and not what the old one is still about to say."""
    said: list[str] = []
    publish = Outlets.publish

    def noted(self: Outlets, message: Message, settled: Callable[[], None] | None = None) -> None:
        if isinstance(message.payload, CameraStatus) and message.topic == "dock/status":
            said.append(message.payload.state)
        publish(self, message, settled)

    def last_words(*arguments: Any) -> None:
        old._publish_state("blind", "black", {}, "")
        end(*arguments)

    class Blindfold(Sight):
        """Says of its third frame that it is black."""

        seen = 0

        def look(self, image: Image, captured: Timestamp) -> list[Blindness]:
            self.seen += 1
            return [Blindness("black", captured.monotonic_ns)] if self.seen == 3 else []

    monkeypatch.setattr("agent.supervision.cameras.Sight", Blindfold)
    monkeypatch.setattr("agent.reloading.end", last_words)
    monkeypatch.setattr(Outlets, "publish", noted)
    content = site()
    with running(tmp_path, content) as agent:
        agent.waits(lambda kept: any(k.topic == "dock/events" and k.data["kind"] == "blind" for k in kept))
        old = agent.service.cameras["dock"]
        assert old.state == "blind"
        content["cameras"]["dock"]["masks"] = [[[0, 0], [0.1, 0], [0.1, 0.1]]]
        assert agent.apply(content)["restarted"]["connections"] == []
        agent.waits(lambda kept: sum(k.topic == "dock/events" and k.data["kind"] == "blind" for k in kept) == 3)
        assert said[said.index("streaming") :] == ["streaming", "blind", "streaming", "blind"]
    blind = {e["id"] for e in agent.said("dock/events") if e["kind"] == "blind"}
    told = [phases for id_, phases in incidents(agent).items() if id_ in blind]
    assert told == [
        [("start", None), ("end", "configuration_changed")],
        [("start", None), ("end", "agent_stopped")],
    ]


def test_a_threshold_needs_no_other_engine(tmp_path: Path) -> None:
    """It is what is made of the engine's output."""
    content = site(models={"boxes": fake_model("boxes")}, cameras={"dock": {"source": live(50), "models": ["boxes"]}})
    with running(tmp_path, content) as agent:
        agent.sees("dock")
        model = agent.service.engines["boxes"].model
        changed = copy.deepcopy(content)
        changed["cameras"]["dock"]["models"] = [{"use": "boxes", "threshold": 0.01}]
        told = agent.apply(changed)
        assert (told["restarted"]["cameras"], told["restarted"]["models"]) == (["dock"], [])
        assert agent.service.engines["boxes"].model is model
        before = len(agent.sink.messages)
        agent.waits(lambda kept: any("dock/boxes" in k.topic and k.data["detections"] for k in kept[before:]))


def test_a_threshold_set_by_command_holds_until_the_configuration_says_another_one(tmp_path: Path) -> None:
    """As what was disabled does: whoever set it does not expect that a zone which is moved takes it back."""
    boxes = {"use": "boxes", "threshold": 0.3}
    content = site(models={"boxes": fake_model("boxes")}, cameras={"dock": {"source": live(50), "models": [boxes]}})
    with running(tmp_path, content) as agent:
        service, events = agent.service, agent.service.events
        assert events is not None

        def threshold() -> float:
            (found,) = service.cameras["dock"].uses[0].thresholds.tolist()
            return round(found, 4)

        def asked(value: float) -> None:
            command = SetThresholdCommand(command="set_threshold", use="boxes", value=value)
            service.acts(service.settings, events).obey(command, "dock")
            assert threshold() == value

        def applied(**camera: Any) -> float:
            assert agent.apply({**content, "cameras": {"dock": {**content["cameras"]["dock"], **camera}}})["restarted"][
                "cameras"
            ] == ["dock"]
            return threshold()

        asked(0.6)
        asked(0.7)
        assert applied(masks=[[[0, 0], [0.1, 0], [0, 0.1]]]) == 0.7
        assert applied(models=[{**boxes, "threshold": 0.4}]) == 0.4
        assert applied(models=[boxes]) == 0.3, "a command that the file has overtaken is over"
        asked(0.5)
        assert applied(source=live(51)) == 0.5


@pytest.mark.parametrize("what", ["camera", "engine"])
def test_an_engine_that_hangs_does_not_keep_a_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Nor does the reload keep the engine: it is found and replaced, or exchanged; the accounts hold."""
    monkeypatch.setattr("agent.reloading.LET_GO_S", 0.1)
    monkeypatch.setattr(pace, "LEAST_S", 1.0)
    hangs = fake_model("classes", faults=[{"kind": "hang", "at": 10, "engines": 1}])
    content = site(models={"colours": hangs}, cameras={"yard": {"source": live(60), "models": ["colours"]}})
    try:
        with running(tmp_path, content) as agent:
            engine = agent.service.engines["colours"]

            def stands() -> bool:
                counts = agent.service.cameras["yard"].counts()["uses"]["colours"]
                return counts["inferred"] == 9 and counts["waiting"] > 1

            until(stands)
            changed = copy.deepcopy(content)
            if what == "camera":
                changed["cameras"]["yard"]["masks"] = [[[0, 0], [0.1, 0], [0, 0.1]]]
            else:
                changed["models"]["colours"]["linger"] = "1ms"
            begun = time.monotonic()
            told = agent.apply(changed)["restarted"]
            assert time.monotonic() - begun < 2
            assert (told["cameras"], told["models"]) == ((["yard"], []) if what == "camera" else ([], ["colours"]))
            agent.sees("yard")
            counts = agent.service.cameras["yard"].counts()
            assert (counts["reconnects"], counts["state"]) == (0, "streaming")
            assert counts["uses"]["colours"]["failed"] >= 1
            assert (agent.service.engines["colours"] is engine) == (what == "camera")
    finally:
        fake.let_go()


def test_an_engine_is_exchanged_under_cameras_that_stream_on(tmp_path: Path) -> None:
    """The new one is opened beside the old one, which ends what it has begun."""
    content = site()
    with running(tmp_path, content) as agent:
        agent.sees("yard")
        yard, blobs = agent.service.cameras["yard"], agent.service.engines["blobs"]
        old = agent.service.engines["colours"]
        changed = copy.deepcopy(content)
        changed["models"]["colours"] = fake_model("classes", delay_ms=1)
        changed["models"]["more"] = fake_model("classes")
        changed["cameras"]["yard"]["models"] = ["colours"]
        told = agent.apply(changed)
        assert told["restarted"] == {"cameras": [], "connections": [], "models": ["colours", "more"], "sinks": []}
        agent.sees("yard", "dock")
        assert agent.service.cameras["yard"] is yard
        assert agent.service.engines["blobs"] is blobs
        assert old._worker is not None
        assert not old._worker.alive
        told = agent.apply(content)
        assert told["removed"]["models"] == ["more"]
        agent.sees("yard")
    counts = yard.counts()
    assert counts["reconnects"] == 0
    assert counts["uses"]["colours"]["failed"] == 0


def test_another_broker_gets_the_state_and_the_events_while_cameras_stream_on(tmp_path: Path) -> None:
    """What was not acknowledged by the old one goes to the new one: nothing is lost on the way."""
    with (
        Mosquitto(tmp_path / "one") as one,
        Mosquitto(tmp_path / "two") as two,
        Subscriber(one.observer_url, "sightwire/#") as first,
        Subscriber(two.observer_url, "sightwire/#") as second,
    ):
        with running(tmp_path, site(mqtt={"url": one.url})) as agent:
            dock, memory = agent.service.cameras["dock"], agent.service.sinks.sinks()["memory"]
            first.wait_for(lambda seen: any(m.topic.endswith("dock/events") for m in seen))
            told = agent.apply(site(mqtt={"url": two.url}))
            assert told["restarted"] == {"cameras": [], "connections": [], "models": [], "sinks": ["mqtt"]}
            assert first.wait_for_topic("sightwire/test/status")
            for topic in ("about", "status", "dock/status", "yard/status", "dock/counts"):
                assert second.wait_for_topic(f"sightwire/test/{topic}")
            second.wait_for(lambda seen: any("detections" in m.topic for m in seen))
            agent.apply(site(mqtt={"url": two.url}, cameras={"dock": watched(zones={"other": ZONE})}))
            second.wait_for(lambda seen: sum(m.topic.endswith("dock/events") for m in seen) >= 2)
            assert dock.counts()["reconnects"] == 0
            assert agent.service.sinks.sinks()["memory"] is memory
        last = [m.data["state"] for m in first.messages if m.topic == "sightwire/test/status"]
        assert last[-1] == "offline"
        heard = [m.data["event_seq"] for m in (*first.messages, *second.messages) if m.topic.endswith("/events")]
        assert sorted(set(heard)) == [*range(1, max(heard) + 1)]
        assert max(heard) == len(agent.said("dock/events"))


def test_a_certificate_that_was_renewed_and_a_model_that_was_made_anew_are_taken(tmp_path: Path) -> None:
    """Though the configuration calls them the same."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(Certificates.make(tmp_path).ca.read_bytes())
    content = site(mqtt={"url": "mqtts://127.0.0.1:1", "ca": str(ca)})
    with running(tmp_path, content) as agent:
        agent.sees("dock", "yard")
        assert not any(agent.apply(content)["restarted"].values())
        os.utime(ca, ns=(1, 1))
        card = tmp_path / "models" / "classes" / "card.yaml"
        card.write_text(card.read_text().replace("made for tests", "made for tests again"))
        told = agent.apply(content)["restarted"]
        assert told == {"cameras": ["yard"], "connections": [], "models": ["colours"], "sinks": ["mqtt"]}
        assert not any(agent.apply(content)["restarted"].values())
        agent.sees("dock", "yard")


def test_a_camera_that_goes_is_gone_at_the_broker_too(tmp_path: Path) -> None:
    """Its state, and what Home Assistant knows of it; its incident ends and says why."""
    sections = {"mqtt": {"url": "", "home_assistant": True}}
    with Mosquitto(tmp_path) as broker, Subscriber(broker.observer_url, "#") as seen:
        sections["mqtt"]["url"] = broker.url
        content = site(**sections)
        content["cameras"]["yard"]["models"] = [{"use": "colours", "retain": True}]
        with running(tmp_path, content) as agent:
            seen.wait_for(lambda them: any("Camera_dock" in m.topic and m.payload for m in them))
            seen.wait_for_topic("sightwire/test/dock/counts")
            seen.wait_for_topic("sightwire/test/yard/colours/classification")
            told = agent.apply({**content, "cameras": {"new": {"source": live(70), "models": ["colours"]}}})
            assert told["removed"]["cameras"] == ["dock", "yard"]
            empty = ["sightwire/test/dock/status", "sightwire/test/dock/counts", "sightwire/test/yard/status",
                     "sightwire/test/yard/colours/classification"]  # fmt: skip
            seen.wait_for(lambda them: {m.topic for m in them if not m.payload} >= set(empty))
            seen.wait_for(lambda them: any("Camera_dock" in m.topic and not m.payload for m in them))
            agent.sees("new")
            with Subscriber(broker.observer_url, "#") as late:
                late.wait_for_topic("sightwire/test/new/status")
                late.wait_for_topic("sightwire/test/about")
                late.wait_for(lambda them: any("Camera_new" in m.topic for m in them))
                assert not [m.topic for m in late.messages if "dock" in m.topic or "yard" in m.topic]
            until(lambda: agent.said("status")[-1]["cameras"].keys() == {"new"})
    assert [("start", None), ("end", "camera_removed")] in incidents(agent).values()


def test_cameras_join_and_leave_a_connection_that_goes_on(tmp_path: Path) -> None:
    """A second camera on the same source, then only that one."""
    source = live(50)
    alone = {"dock": {"source": source, "models": ["colours"]}}
    with running(tmp_path, site(cameras=alone)) as agent:
        agent.sees("dock")
        both = {**alone, "half": {"source": source, "crop": [0, 0, 0.5, 1], "models": ["colours"]}}
        told = agent.apply(site(cameras=both))
        assert told["restarted"] == {"cameras": ["half"], "connections": [], "models": [], "sinks": []}
        agent.sees("dock", "half")
        assert agent.service.cameras["half"].state == "streaming"
        assert agent.said("half/status")[-1]["facts"]["codec"] == "synthetic"
        assert agent.seqs("half/colours/classification")[0] > 5, "it began with the connection's next frame"
        del both["dock"]
        agent.apply(site(cameras=both))
        agent.sees("half")
        assert agent.service.cameras["half"].counts()["reconnects"] == 0
        told = agent.apply(site(cameras={"half": {**both["half"], "source": live(40)}}))
        assert told["restarted"]["connections"] == ["half"]
        agent.sees("half")
        assert len(agent.service.captures) == 1


def test_a_stream_is_opened_again_only_where_clips_change_and_pictures_and_clips_go_where_they_shall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zones and snapshots need no other connection; clips begin with a stream's beginning, those begun are whole."""
    opened: list[Path] = []
    opening = file.Config.open

    def noted(self: file.Config, *arguments: Any) -> Any:
        opened.append(self.path)
        return opening(self, *arguments)

    monkeypatch.setattr(file.Config, "open", noted)

    def kept(folder: str, kind: str) -> list[Path]:
        return list((tmp_path / folder / "test" / "dock").glob(f"*{kind}"))

    camera = watched(
        source={"type": "file", "path": str(SMALL.path()), "pace": "live", "loop": True},
        snapshots={"folder": str(tmp_path / "a")},
    )
    with running(tmp_path, site(cameras={"dock": camera})) as agent:
        agent.waits(lambda _: kept("a", ".jpg"))
        (connection,) = agent.service.captures._at_work.values()
        camera = {**camera, "zones": {"other": ZONE}, "snapshots": {"folder": str(tmp_path / "b"), "quality": 50}}
        assert agent.apply(site(cameras={"dock": camera}))["restarted"]["connections"] == []
        until(lambda: kept("b", ".jpg"))
        assert [*agent.service.captures._at_work.values()] == [connection]
        assert len(opened) == 1
        clips = {"folder": str(tmp_path / "c"), "before": 0, "after": 0}
        told = agent.apply(site(cameras={"dock": {**camera, "clips": clips}}))["restarted"]
        assert (told["cameras"], told["connections"]) == (["dock"], ["dock"])
        until(lambda: agent.service.events.clips.counts()["dock"]["begun"])
        assert len(opened) == 2
        agent.apply(site(cameras={"dock": {**camera, "clips": {**clips, "after": 1}}}))
        until(lambda: kept("c", ".mp4"))
        assert agent.service.events.clips.counts()["dock"]["failed"] == 0, "the one that was being written is whole"


def test_what_cannot_be_opened_leaves_everything_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that was altered; a sink that is wrong, for which the others had been closed already."""
    lines = {"sinks": [{"type": "jsonl", "path": str(tmp_path / "a")}]}
    with running(tmp_path, site(**lines)) as agent:
        agent.sees("dock", "yard")
        service = agent.service
        cameras, engines = dict(service.cameras), dict(service.engines._at_work)
        (tmp_path / "models" / "boxes" / "model.onnx").write_bytes(b"altered")
        with pytest.raises(ConfigError, match=r"models\.new"):
            agent.apply(site(**lines, models={**site()["models"], "new": fake_model("boxes")}))
        opens = jsonl.Config.open

        def refuse(self: jsonl.Config, *arguments: Any) -> Any:
            if self.path.name == "c":
                raise ConfigError("no such thing")
            return opens(self, *arguments)

        monkeypatch.setattr(jsonl.Config, "open", refuse)
        more = fake_model("classes", delay_ms=2)
        with pytest.raises(ConfigError, match="no such thing"):
            agent.apply(site(sinks=[{"type": "jsonl", "path": str(tmp_path / name)} for name in "bc"],
                             models={**site()["models"], "more": more}, cameras={"dock": watched(30)}))  # fmt: skip
        assert dict(service.cameras) == cameras
        assert dict(service.engines._at_work) == engines
        assert list(service.sinks.sinks()) == ["memory", "jsonl"]
        size = (tmp_path / "a").stat().st_size
        agent.sees("dock", "yard")
        assert (tmp_path / "a").stat().st_size > size
        with pytest.raises(Anew, match=r"events\.path"):
            agent.apply(site(events={"path": str(tmp_path / "other.db")}))
    written = [json.loads(line) for line in (tmp_path / "a").read_text().splitlines()]
    events = [line["event_seq"] for line in written if line["topic"].endswith("/events")]
    assert sorted(set(events)) == [*range(1, len(agent.said("dock/events")) + 1)]


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Counter[str]]:
    """How many there are of what a reload exchanges, of those made from now on.

    Told by weak references: `gc.get_objects` would take hold of what other threads are just making, which breaks it.
    """
    made: list[tuple[str, weakref.ref[Any]]] = []

    def noted(kind: type, name: str = "__init__") -> None:
        begin = getattr(kind, name)

        def note(self: Any, *arguments: Any, **more: Any) -> None:
            made.append((kind.__name__, weakref.ref(self)))
            begin(self, *arguments, **more)

        monkeypatch.setattr(kind, name, note)

    for kind in (Camera, Capture, EngineAtWork, Inference, Model, Watch, threading.Thread):
        noted(kind)
    noted(Settings, "model_post_init")

    def count() -> Counter[str]:
        gc.collect()
        return Counter(kind for kind, it in made if it() is not None)

    return count


def test_of_what_many_changes_have_exchanged_nothing_is_left(tmp_path: Path, alive: Callable[[], Counter[str]]) -> None:
    def changed(number: int) -> dict[str, Any]:
        """Another connection, another engine, another zone."""
        content = site()
        content["cameras"]["yard"]["source"] = live(61 + number % 2)
        content["models"]["colours"] = {**fake_model("classes"), "linger": f"{1 + number % 2}ms"}
        content["cameras"]["dock"]["zones"] = {f"all{number % 2}": ZONE}
        return content

    with running(tmp_path, changed(0)) as agent:
        agent.sees("dock", "yard")
        before = alive()
        assert min(before[kind.__name__] for kind in (Camera, Model, Settings)) > 0
        for number in range(1, 7):
            assert agent.apply(changed(number))["restarted"]["models"] == ["colours"]
        # The engines' threads let go of the last pictures with the next ones.
        deadline_s = time.monotonic() + PATIENCE_S
        while (now := alive()) != before and time.monotonic() < deadline_s:
            agent.sees("dock", "yard")
        assert now == before


def test_an_agent_that_stops_in_the_middle_of_a_reload_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model takes long to open; nothing is changed any more when it is there, and nothing is left."""
    content = site(sinks=[{"type": "jsonl", "path": str(tmp_path / "a")}])
    opening, go_on, ended = threading.Event(), threading.Event(), []
    monkeypatch.setattr(services, "STOP_DEADLINE_S", 0.2)
    with running(tmp_path, content) as agent:
        service, opens = agent.service, agent.service.engines.open

        def slowly(*arguments: Any) -> Any:
            opening.set()
            assert go_on.wait(PATIENCE_S)
            return opens(*arguments)

        def change() -> None:
            sinks = [{"type": "jsonl", "path": str(tmp_path / "b")}]
            try:
                agent.apply(site(models={**site()["models"], "more": fake_model("classes")}, sinks=sinks))
            except Stopping as stopping:
                ended.append(stopping)

        monkeypatch.setattr(service.engines, "open", slowly)
        service.change(change)
        assert opening.wait(PATIENCE_S)
        assert service.changing
        agent.sees("dock", "yard")
        agent.stop()
        go_on.set()
        assert service._change is not None
        service._change.join(PATIENCE_S)
        assert len(ended) == 1
        assert set(service.engines) == {"colours", "blobs"}
        assert not (tmp_path / "b").exists()


def test_what_a_recording_shows_is_seen_to_its_end_whatever_changes_meanwhile(tmp_path: Path) -> None:
    film = {"type": "synthetic", "pace": "lossless", "rate": 30, "frames": 250}
    content = site(models={"colours": fake_model("classes", delay_ms=2)})
    content["cameras"] = {"film": {"source": film, "models": ["colours"]}, "yard": content["cameras"]["yard"]}
    with running(tmp_path, content) as agent:
        for number in range(4):
            agent.sees("film")
            content["cameras"]["film"]["masks"] = [[[0, 0], [0.1 * (number + 1), 0], [0, 0.2]]]
            agent.apply(content)
        agent.waits(lambda kept: any(k.topic == "film/status" and k.data["state"] == "ended" for k in kept))
        agent.waits(lambda kept: sum(k.topic == "film/colours/classification" for k in kept) == 250)
    assert sorted(agent.seqs("film/colours/classification")) == [*range(250)]


def test_any_configuration_after_any_other_leaves_what_a_start_with_it_would(tmp_path: Path) -> None:
    """Cameras, models and sinks come and go at random; the accounts hold over all of it."""
    dice = random.Random(7)
    with running(tmp_path, site()) as agent:
        for _ in range(8):
            models = {name: fake_model("classes", delay_ms=dice.randrange(2)) for name in dice.sample("abc", 2)}
            models["blobs"] = MODEL
            names = dice.sample(["dock", "yard", "gate", "hall"], dice.randint(1, 3))
            cameras = {
                name: watched(dice.choice([40, 50])) if dice.random() < 0.5
                else {"source": live(dice.choice([40, 50])), "models": dice.sample(sorted(models), dice.randint(1, 2))}
                for name in names
            }  # fmt: skip
            sinks = [{"type": "jsonl", "path": str(tmp_path / name)} for name in dice.sample("uvw", dice.randint(0, 2))]
            calibration = {"collect": {"folder": str(tmp_path / "kept")}} if dice.random() < 0.5 else {}
            commands = {"allow": ["disable"] if dice.random() < 0.5 else []}
            content = site(models=models, cameras=cameras, sinks=sinks, calibration=calibration, commands=commands)
            agent.apply(content)
            agent.sees(*names)
            status = agent.service.reporting.status("online")
            assert (set(status.cameras), set(status.engines)) == (set(names), set(models))
            assert len(status.sinks) == len(sinks) + 1
            assert bool(status.collect) == bool(calibration)
            assert len(agent.service.captures) == len(agent.service.settings.connections())
    told = [said for camera in ("dock", "yard", "gate", "hall") for said in incidents(agent, camera).values()]
    assert told
    assert all((said[0][0], said[-1][0], len(said)) == ("start", "end", 2) for said in told)
    assert {reason for _, (_, reason) in told} >= {"configuration_changed", "camera_removed"}


def test_sighup_applies_what_changed_in_a_real_process(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """What it restarted is in its status and in its log; a wrong file is refused with the lines of its mistakes."""
    fakes = fake_store(tmp_path / "models").root
    add_blobs(fakes)
    path = tmp_path / "site.yaml"

    def write(content: dict[str, Any]) -> None:
        content = {"agent": {"name": "test"}, "events": {"path": str(tmp_path / "events.db")}, **content}
        path.write_text(yaml.safe_dump(content), encoding="utf-8")

    with Mosquitto(tmp_path) as broker, Subscriber(broker.observer_url, "sightwire/#") as seen:
        content = site(mqtt={"url": broker.url})
        write(content)

        def reloaded(wanted: Callable[[dict[str, Any]], Any]) -> None:
            seen.wait_for(
                lambda them: any(m.topic == "sightwire/test/status" and wanted(m.data.get("reload", {})) for m in them)
            )
            heard.extend(systemd.heard())

        heard: list[str] = []
        systemd = Systemd(f"\0sightwire-{tmp_path.name}-{os.getpid()}")
        request.addfinalizer(systemd.close)
        with Sightwire("run", path, models=fakes, env={"NOTIFY_SOCKET": systemd.environ["NOTIFY_SOCKET"]}) as agent:
            seen.wait_for(lambda them: any("dock/events" in m.topic for m in them))
            changed = copy.deepcopy(content)
            changed["cameras"]["dock"]["zones"] = {"other": ZONE}
            write(changed)
            agent.send(signal.SIGHUP)
            reloaded(lambda said: said.get("restarted", {}).get("cameras") == ["dock"])
            seen.wait_for(lambda them: any("dock/events" in m.topic and m.data["rule"] == "other" for m in them))
            changed["cameras"]["dock"]["zons"] = {}
            write(changed)
            agent.send(signal.SIGHUP)
            reloaded(lambda said: said.get("state") == "refused" and "site.yaml:" in said["reason"])
            said = [m.data["state"] for m in seen.messages if m.topic == "sightwire/test/yard/status"]
            assert said.count("connecting") <= 1, "it has noticed nothing of all that"
            write({**content, "events": {"path": str(tmp_path / "other.db")}})
            agent.send(signal.SIGHUP)
            reloaded(lambda said: said.get("everything") == ["events.path"])
            seen.wait_for(lambda them: sum("events" in m.topic and m.data["event_seq"] == 1 for m in them) == 2)
            assert agent.end() == 0
        told = [line for line in [*heard, *systemd.heard()] if line.startswith(("READY", "RELOADING"))]
        assert told == ["READY=1", *["RELOADING=1", "READY=1"] * 2], "a file that is refused is no reload"
    assert "restarted cameras dock" in agent.err
    assert "did you mean 'zones'?" in agent.err
    assert "Traceback" not in agent.err
