"""`sightwire run` as a process of its own: real weights, real cameras, a real broker, and all that can go wrong."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from agent.messages import (
    AboutPayload,
    AgentStatus,
    CameraStatus,
    ClassificationPayload,
    DetectionsPayload,
    Metrics,
    Payload,
)
from engines.store import ModelStore
from tests.support.agents import fake_model, fake_store
from tests.support.broker import USER, Mosquitto, Received, Subscriber, free_port
from tests.support.clips import SMALL
from tests.support.process import Sightwire, sightwire
from tests.support.rtsp import RtspServer
from tests.support.street import street_video
from tests.support.systemd import Systemd
from tests.support.waiting import until

BASE = "sightwire/gatehouse"
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
LIVE = {"type": "synthetic", "rate": 50}
SECRET = "s3cret@:/%?#&=x y"
KINDS: dict[str, type[Payload]] = {
    "about": AboutPayload,
    "detections": DetectionsPayload,
    "classification": ClassificationPayload,
    "metrics": Metrics,
}


@pytest.fixture
def fakes(tmp_path: Path) -> Path:
    return fake_store(tmp_path / "models").root


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as running:
        yield running


@pytest.fixture
def listener(broker: Mosquitto) -> Iterator[Subscriber]:
    with Subscriber(broker.observer_url) as subscribed:
        yield subscribed


@pytest.fixture(scope="session")
def street(real_models: ModelStore) -> Path:
    """The demo's video: people walk and ride by."""
    return street_video(real_models)


def site(folder: Path, cameras: dict[str, Any], models: dict[str, Any] | None = None, **sections: Any) -> Path:
    """A configuration file. A camera that is only a source has the use `c`, a model on the fake engine."""
    whole = {name: c if "models" in c else {"source": c, "models": ["c"]} for name, c in cameras.items()}
    content = {"agent": {"name": "gatehouse"}, "models": models or {"c": fake_model("classes")}, "cameras": whole}
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(content | sections), encoding="utf-8")
    return path


def mqtt(broker: Mosquitto) -> dict[str, Any]:
    return {"mqtt": {"url": broker.url}}


def of(messages: list[Received], topic: str) -> list[dict[str, Any]]:
    return [m.data for m in messages if m.topic == f"{BASE}/{topic}"]


def states(messages: list[Received], camera: str) -> list[str]:
    return [status["state"] for status in of(messages, f"{camera}/status")]


def results(topic: str, count: int) -> Callable[[list[Received]], bool]:
    return lambda seen: sum(m.topic == f"{BASE}/{topic}" for m in seen) >= count


def offline(seen: list[Received]) -> bool:
    return any(status["state"] == "offline" for status in of(seen, "status"))


def valid(topic: str, payload: bytes | str) -> Payload:
    """The payload, of which nothing lacks, nothing is unknown and nothing is of another type or format."""
    kind = topic.rpartition("/")[2]
    schema = KINDS.get(kind) or (CameraStatus if topic.count("/") == 3 else AgentStatus)
    read = schema.model_validate_json(payload, strict=True)
    data = json.loads(payload)
    for part in (read, getattr(read, "frame", None), getattr(read, "timing_ms", None), *getattr(read, kind, [])):
        assert not (part and part.model_extra), f"{topic}: not in the schema: {part.model_extra}"
    assert data["schema"] == schema.model_fields["schema_"].default
    for name in ("captured_at", "received_at", "since", "at"):
        assert name not in data or RFC3339.fullmatch(data[name]), data
    assert len(payload) < 128_000
    return read


def laws_hold(metrics: dict[str, Any]) -> None:
    """Law 7, as an outsider sees it in the last metrics of a clean stop."""
    for camera in metrics["cameras"].values():
        for counts in camera["uses"].values():
            outcomes = ("inferred", "not_due", "replaced", "stale", "failed", "disabled")
            assert counts["waiting"] == 0
            assert counts["offered"] == sum(counts[outcome] for outcome in outcomes)
    for sink in metrics["sinks"].values():
        assert sink["made"] == sum(sink[fate] for fate in ("sent", "replaced", "stale", "failed", "waiting"))


def wall_s(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def ages_s(messages: list[Received], topic: str) -> list[float]:
    """From capture, by the message's own word, to the subscriber."""
    to_wall_s = time.time() - time.monotonic()
    return [
        m.arrived_ns / 1e9 + to_wall_s - wall_s(m.data["captured_at"]) for m in messages if m.topic == f"{BASE}/{topic}"
    ]


# -- recordings with real weights

REAL = {
    "people": {"model": "person-ssdlite"},
    "scene": {"model": "efficientnet-lite0", "top": 3},
    "vehicle": {"model": "efficientnet-lite0", "top": 1},
}
REAL_USES = [
    "people",
    {"use": "scene", "every": "500ms"},
    {"use": "vehicle", "on": "people", "labels": ["person"], "pad": 0.1, "max": 4},
]

PEOPLE, SCENE = "people/detections", "scene/classification"


def look(street: Path, models: Path, folder: Path, uses: list[Any]) -> list[dict[str, Any]]:
    """All that the agent writes of the street."""
    out = folder / f"{len(uses)}.jsonl"
    cameras = {"dock": {"source": str(street), "models": uses}}
    wanted = {name: REAL[name] for name in REAL if name in str(uses)}
    path = site(folder, cameras, wanted, sinks=[{"type": "jsonl", "path": str(out)}])
    status, _, err = sightwire("run", path, models=models, deadline_s=60)
    assert status == 0, err
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.fixture(scope="module")
def looks(
    street: Path, real_models: ModelStore, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The same street, looked at twice, the second time with fewer engines to share the machine with."""
    folder = tmp_path_factory.mktemp("street")
    return look(street, real_models.root, folder, REAL_USES), look(street, real_models.root, folder, REAL_USES[:2])


def said(look: list[dict[str, Any]], topic: str) -> list[dict[str, Any]]:
    return [message for message in look if message["topic"] == f"{BASE}/dock/{topic}"]


def test_every_message_of_a_recording_is_what_the_schema_says(looks) -> None:
    for message in looks[0]:
        topic = message.pop("topic")
        valid(topic, json.dumps(message))
        message["topic"] = topic
    detections = said(looks[0], PEOPLE)
    assert [m["seq"] for m in detections] == list(range(250))
    assert [m["seq"] for m in said(looks[0], SCENE)] == [round(i * 12.5 + 0.1) for i in range(20)]
    for message in detections:
        assert (message["clock"], message["age_ms"]) == ("file", None)
        assert "received_at" not in message
        assert message["frame"] == {"width": 640, "height": 272}
        assert message["model"] == "person-ssdlite@int8"
    stamps = [wall_s(m["captured_at"]) for m in detections]
    assert stamps[-1] - stamps[0] == pytest.approx(249 / 25, abs=1e-3)


def test_people_are_found_where_they_are_and_only_there(looks) -> None:
    found = [d for m in said(looks[0], PEOPLE) for d in m["detections"]]
    assert len(found) >= 30
    for detection in found:
        left, top, right, bottom = detection["box"]
        assert detection["label"] == "person"
        assert 0.4 <= detection["score"] <= 1
        assert 0 <= left < right <= 640
        assert 0 <= top < bottom <= 272
    assert max(d["score"] for d in found) > 0.8


def test_what_is_looked_at_once_more_carries_its_attributes(looks) -> None:
    found = [d for m in said(looks[0], PEOPLE) for d in m["detections"]]
    assert all(set(d["attributes"]) == {"vehicle"} for d in found)
    assert all(len(d["attributes"]["vehicle"]) == 1 for d in found)


def test_the_scene_is_a_street_with_vehicles(looks) -> None:
    labels = {row["label"] for m in said(looks[0], SCENE) for row in m["classes"]}
    assert len(labels & {"jinrikisha", "unicycle", "motor scooter", "moped", "ambulance", "horse cart"}) >= 3
    for message in said(looks[0], SCENE):
        scores = [row["score"] for row in message["classes"]]
        assert scores == sorted(scores, reverse=True)
        assert len(scores) == 3
        assert sum(scores) <= 1.001


def test_two_looks_at_one_recording_see_the_same(looks) -> None:
    def content(look: list[dict[str, Any]]) -> list[Any]:
        people = [(m["captured_at"], [(d["box"], d["score"]) for d in m["detections"]]) for m in said(look, PEOPLE)]
        return [people, [(m["captured_at"], m["classes"]) for m in said(look, SCENE)]]

    assert content(looks[0]) == content(looks[1])


def test_the_account_of_a_recording_is_exact(looks) -> None:
    *_, metrics = (m for m in looks[0] if m["topic"] == f"{BASE}/metrics")
    laws_hold(metrics)
    uses = metrics["cameras"]["dock"]["uses"]
    assert uses["people"] | {"offered": 250, "inferred": 250} == uses["people"]
    assert uses["scene"] | {"offered": 250, "inferred": 20, "not_due": 230} == uses["scene"]
    assert uses["vehicle"]["offered"] == uses["vehicle"]["inferred"]


# -- a real camera with real weights, and secrets everywhere


def test_a_real_camera_is_published_with_its_clock_and_no_secret_ever_leaves(
    tmp_path: Path, real_models: ModelStore
) -> None:
    (tmp_path / "password").write_text(SECRET + "\n")
    with (
        RtspServer(SMALL, user="viewer", password=SECRET) as camera,
        Mosquitto(tmp_path, password=SECRET) as broker,
        Subscriber(broker.observer_url) as listener,
    ):
        (url,) = camera.urls
        inside = url.replace("://", f"://viewer:{quote(SECRET, safe='')}@")
        raw = f"rtsp://viewer:{SECRET.replace(' ', '')}@127.0.0.1:{free_port()}/x?password={quote(SECRET)}"
        keys = {"type": "rtsp", "url": url, "username": "viewer", "password_file": str(tmp_path / "password")}
        both = ["people", {"use": "scene", "every": "200ms"}]
        cameras = {
            "inside": {"source": inside, "models": both},
            "beside": {"source": keys, "models": both},
            "refused": {"source": inside.replace("viewer", "stranger"), "models": ["scene"]},
            "absent": {"source": {"type": "rtsp", "url": raw.replace(SECRET.replace(" ", ""), quote(SECRET, ""))},
                       "models": ["scene"]},
        }  # fmt: skip
        link = {"url": broker.url, "username": USER, "password_file": str(tmp_path / "password")}
        models = {name: REAL[name] for name in ("people", "scene")}
        with Sightwire(
            "run", site(tmp_path, cameras, models, mqtt=link, log="debug"), models=real_models.root
        ) as agent:
            rtcp = lambda seen: all(  # noqa: E731
                any(r["clock"] == "rtcp" for r in of(seen, f"{name}/people/detections"))
                for name in ("inside", "beside")
            )
            listener.wait_for(rtcp)
            listener.wait_for(results("beside/scene/classification", 5))
            listener.wait_for(lambda seen: "lost" in states(seen, "absent"))
            agent.interrupt()
            assert agent.wait() == 0
            printed = agent.out + agent.err
        seen = listener.wait_for(offline)

    for message in seen:
        valid(message.topic, message.payload)
        for form in (SECRET, quote(SECRET), quote(SECRET, safe=""), "s3cret"):
            assert form not in message.payload.decode(), message.topic
    assert "s3cret" not in printed
    assert "Traceback" not in printed
    live = [m for name in ("inside", "beside") for m in of(seen, f"{name}/people/detections")]
    assert all(0 < m["age_ms"] < 1000 for m in live)
    assert all(abs(wall_s(m["received_at"]) - wall_s(m["captured_at"])) < 1 for m in live)
    (why,) = {s["reason"] for s in of(seen, "refused/status") if s["state"] == "lost"}
    assert "refuses these credentials" in why
    assert states(seen, "refused").count("connecting") <= 1, "a camera that refuses us is not asked at once again"
    assert any("refused" in (s["reason"] or "") for s in of(seen, "absent/status"))
    laws_hold(of(seen, "metrics")[-1])


# -- stopping


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_clean_stop_says_offline_and_its_last_account_adds_up(
    tmp_path: Path, fakes: Path, broker: Mosquitto, listener: Subscriber, how: signal.Signals
) -> None:
    slow = {"c": fake_model("classes", delay_ms=15, fail_every=7), "t": fake_model("boxes") | {"threshold": 0.3}}
    cascade = {"use": "c", "on": "t", "max": 2}
    cameras = {"fast": LIVE | {"rate": 200}, "slow": LIVE, "crops": {"source": LIVE, "models": ["t", cascade]}}
    with Sightwire("run", site(tmp_path, cameras, slow, **mqtt(broker)), models=fakes) as agent:
        listener.wait_for(results("fast/c/classification", 20))
        assert agent.end(how) == 0
        assert "Traceback" not in agent.err
    seen = listener.wait_for(offline)
    assert [m.topic for m in seen[-2:]] == [f"{BASE}/metrics", f"{BASE}/status"]
    metrics = of(seen, "metrics")[-1]
    laws_hold(metrics)
    fast = metrics["cameras"]["fast"]["uses"]["c"]
    assert min(fast["inferred"], fast["replaced"], fast["failed"]) > 0
    # No result is handed over and lost: those that were not dropped, and counted, are what a subscriber has.
    received = sum(m.topic.endswith(("classification", "detections")) for m in seen)
    made = sum(metrics["cameras"][c]["uses"][u]["inferred"] for c, u in (("fast", "c"), ("slow", "c"), ("crops", "t")))
    dropped = sum(metrics["sinks"]["mqtt"][fate] for fate in ("replaced", "stale", "failed"))
    assert made - dropped <= received <= made


def test_systemd_hears_that_the_agent_is_ready_moves_and_ends(tmp_path: Path, fakes: Path) -> None:
    """Ready when the engines are, without any broker; then its watchdog is fed until the end."""
    systemd = Systemd(str(tmp_path / "notify"))
    path = site(tmp_path, {"door": LIVE}, mqtt={"url": "mqtt://127.0.0.1:1"})
    heard: list[str] = []

    def hears(wanted: str, times: int = 1) -> bool:
        heard.extend(systemd.heard())
        return sum(wanted in line for line in heard) >= times

    with Sightwire("run", path, models=fakes, env=systemd.environ) as agent:
        until(lambda: hears("WATCHDOG=1", 2) and hears("1 streaming"), 60)
        assert heard[0] == "READY=1"
        assert agent.end() == 0
    assert hears("STOPPING=1")
    systemd.close()


def test_what_the_watchdog_ends_says_where_it_hung(tmp_path: Path, fakes: Path) -> None:
    """SIGABRT is how systemd does it."""
    with Sightwire("run", site(tmp_path, {"door": LIVE}), models=fakes) as agent:
        agent.wait_for_log("streaming", 60)
        assert agent.end(signal.SIGABRT) == -signal.SIGABRT
        assert "most recent call first" in agent.err
        assert "agent/service.py" in agent.err


def test_impatience_and_early_stops_end_quietly_too(tmp_path: Path, fakes: Path) -> None:
    """Twice Ctrl-C, and SIGTERM while a camera and a broker that never answer are being connected to."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(16)
        address = f"127.0.0.1:{hole.getsockname()[1]}"
        source = {"type": "rtsp", "url": f"rtsp://{address}/x", "timeout_s": 1}
        path = site(tmp_path, {"a": source}, mqtt={"url": f"mqtt://{address}"})
        with Sightwire("run", path, models=fakes) as agent:
            agent.wait_for_log("the camera does not answer", 15)
            agent.interrupt()
            agent.interrupt()
            assert agent.wait() == 0
            assert "Traceback" not in agent.err
    with Sightwire("run", tmp_path / "no.yaml") as agent:
        agent.interrupt()
        agent.wait()
        before_ours = ("Could not import runpy module", "Fatal Python error")  # Python's words while it starts itself
        assert agent.err.startswith(before_ours) or 'call last):\n  File "<frozen' not in agent.err


def test_an_agent_that_is_killed_is_reported_offline_by_the_broker(
    tmp_path: Path, fakes: Path, broker: Mosquitto, listener: Subscriber
) -> None:
    with Sightwire("run", site(tmp_path, {"a": LIVE}, **mqtt(broker)), models=fakes) as agent:
        listener.wait_for(results("a/c/classification", 5))
        assert agent.end(signal.SIGKILL) == -signal.SIGKILL
    seen = listener.wait_for(offline)
    assert valid(f"{BASE}/status", seen[-1].payload)


def test_who_comes_late_gets_the_states_and_the_results_that_are_retained(
    tmp_path: Path, fakes: Path, broker: Mosquitto, listener: Subscriber
) -> None:
    kept = {"use": "k", "retain": True, "every": "200ms"}
    models = {"c": fake_model("classes"), "k": fake_model("classes")}
    cameras = {"a": {"source": LIVE, "models": ["c", kept]}}
    with Sightwire("run", site(tmp_path, cameras, models, **mqtt(broker)), models=fakes) as agent:
        seen = listener.wait_for(results("a/k/classification", 6))
        numbers = [r["seq"] for r in of(seen, "a/k/classification")]
        assert all(after - before >= 9 for before, after in pairwise(numbers))
        with Subscriber(broker.observer_url) as late:
            late.wait_for(results("a/c/classification", 1))
            retained = {m.topic.removeprefix(f"{BASE}/"): m.data for m in late.messages if m.retain}
        assert agent.end() == 0
    assert set(retained) == {"about", "status", "a/status", "a/k/classification"}
    assert retained["status"]["state"] == "online"
    assert retained["status"]["cameras"] == {"a": "streaming"}
    assert retained["a/status"]["state"] == "streaming"


# -- brokers


def test_a_broker_that_comes_late_hears_everything_from_then_on(tmp_path: Path, fakes: Path, broker: Mosquitto) -> None:
    broker.kill()
    with Sightwire("run", site(tmp_path, {"a": LIVE}, **mqtt(broker)), models=fakes) as agent:
        agent.wait_for_log("connection refused", 15)
        agent.wait_for_log("a: streaming")
        broker.restart()
        with Subscriber(broker.observer_url) as listener:
            seen = listener.wait_for(results("a/c/classification", 10))
            assert max(ages_s(seen, "a/c/classification")) < 1.5
            assert of(seen, "status")[-1]["state"] == "online"
            assert agent.end() == 0
            laws_hold(of(listener.wait_for(offline), "metrics")[-1])


def test_a_frozen_broker_delivers_nothing_old_when_it_goes_on(
    tmp_path: Path, fakes: Path, broker: Mosquitto, listener: Subscriber
) -> None:
    topic = "a/c/classification"
    with Sightwire("run", site(tmp_path, {"a": LIVE}, **mqtt(broker)), models=fakes) as agent:
        listener.wait_for(results(topic, 20))
        broker.freeze()
        frozen_s = time.time()
        with pytest.raises(TimeoutError):
            listener.wait_for(results(topic, 10**6), 4)
        before = len(of(listener.messages, topic))
        broker.thaw()
        seen = listener.wait_for(results(topic, before + 50))
        assert agent.running
        assert agent.end() == 0
    # What was handed over before an answer was overdue lies in kernel buffers, where nobody can take it back.
    late = [
        wall_s(r["captured_at"]) for r, age_s in zip(of(seen, topic), ages_s(seen, topic), strict=True) if age_s > 1.5
    ]
    assert len(late) <= 10
    assert all(captured_s < frozen_s + 0.25 for captured_s in late)
    numbers = [r["seq"] for r in of(seen, topic)]
    assert numbers == sorted(set(numbers))
    metrics = of(listener.wait_for(offline), "metrics")[-1]
    laws_hold(metrics)
    assert metrics["sinks"]["mqtt"]["replaced"] + metrics["sinks"]["mqtt"]["stale"] > 100


# -- cameras


def test_a_camera_that_loses_power_is_lost_and_comes_back_while_others_go_on(
    tmp_path: Path, fakes: Path, broker: Mosquitto, listener: Subscriber
) -> None:
    with RtspServer(SMALL) as server:
        (url,) = server.urls
        cameras = {"dock": url, "twin": url, "other": LIVE}
        with Sightwire("run", site(tmp_path, cameras, **mqtt(broker)), models=fakes) as agent:
            listener.wait_for(lambda seen: results("dock/c/classification", 5)(seen)
                              and results("twin/c/classification", 5)(seen), 15)  # fmt: skip
            server.kill()
            seen = listener.wait_for(lambda seen: "lost" in states(seen, "dock") and "lost" in states(seen, "twin"))
            before = len(of(seen, "other/c/classification"))
            listener.wait_for(results("other/c/classification", before + 20))
            server.restart()
            listener.wait_for(lambda seen: states(seen, "dock").count("streaming") >= 2)
            listener.wait_for(lambda seen: states(seen, "twin").count("streaming") >= 2)
            assert agent.end() == 0
            assert "Traceback" not in agent.err
    seen = listener.wait_for(offline)
    numbers = [r["seq"] for r in of(seen, "dock/c/classification")]
    assert numbers == sorted(set(numbers))
    lost = next(s for s in of(seen, "dock/status") if s["state"] == "lost")
    assert url in lost["reason"]
    metrics = of(seen, "metrics")[-1]
    laws_hold(metrics)
    assert metrics["cameras"]["dock"]["reconnects"] >= 1


def test_cameras_that_cannot_be_had_are_reported_and_retried_and_the_rest_runs_on(
    tmp_path: Path, fakes: Path, broker: Mosquitto, listener: Subscriber
) -> None:
    no_port = free_port()
    text = tmp_path / "notes.txt"
    text.write_text("no video in here\n")
    keyless = {"type": "rtsp", "url": f"rtsp://127.0.0.1:{no_port}/x", "username": "u",
               "password_file": str(tmp_path / "gone")}  # fmt: skip
    cameras = {
        "good": LIVE,
        "closed": f"rtsp://127.0.0.1:{no_port}/x",
        "nowhere": "rtsp://no-such-host.invalid/x",
        "missing": str(tmp_path / "no such.mp4"),
        "text": str(text),
        "keyless": keyless,
    }
    expected = {
        "closed": "refused",
        "nowhere": "no-such-host.invalid",
        "missing": "No such file",
        "text": "notes.txt",
        "keyless": "gone: cannot be read",
    }
    with Sightwire("run", site(tmp_path, cameras, **mqtt(broker)), models=fakes) as agent:
        listener.wait_for(lambda seen: all("lost" in states(seen, name) for name in expected))
        shutil.copy(SMALL.path(), tmp_path / "no such.mp4")
        listener.wait_for(lambda seen: "ended" in states(seen, "missing"))
        seen = listener.wait_for(results("good/c/classification", 50))
        assert agent.end() == 0
        assert "Traceback" not in agent.err
    for name, words in expected.items():
        reasons = [s["reason"] for s in of(seen, f"{name}/status") if s["state"] == "lost"]
        assert all(words in reason for reason in reasons), reasons
