"""Cameras that go blind, through the whole agent: real streams, a real broker, and recordings that are judged alike."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from agent.config import Settings
from agent.messages import CameraStatus, EventPayload
from agent.service import Service
from agent.sinks.memory import MemorySink
from tests.support.agents import fake_model, fake_store, settings_of
from tests.support.blobs import MODEL, USE, add_blobs
from tests.support.broker import Mosquitto, Received, Subscriber
from tests.support.films import film
from tests.support.rtsp import RtspServer
from tests.support.views import Place

RATE = 10


def movie(path: Path, parts: Sequence[tuple[str, float]], gop: int = RATE) -> Path:
    """An H.264 recording of a place: `alive`, `still` or `black` for so many seconds."""
    scene, rng = Place(2, (640, 360)).seen() * 180, np.random.default_rng(0)
    picture = np.full((540, 640), 128, np.uint8)
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "profile": "baseline", "qp": "26", "threads": "1"}
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        stream.codec_context.gop_size = gop
        for what, seconds in parts:
            for _ in range(round(seconds * RATE)):
                if what != "still":
                    luma = scene + rng.normal(0, 6, scene.shape) if what == "alive" else np.zeros_like(scene)
                    picture[:360] = np.clip(luma, 16, 235)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "yuv420p")))
        container.mux(stream.encode())
    return path


def agent(settings: Settings, folder: Path) -> tuple[Service, MemorySink]:
    sink, store = MemorySink(), fake_store(folder)
    add_blobs(folder)
    return Service(settings, store, [sink]), sink


def test_cameras_that_blacken_or_freeze_are_told_to_a_real_broker_and_so_is_that_they_see_again(tmp_path: Path) -> None:
    """One over RTSP, and a recording played as if it were a camera."""
    blackens = movie(tmp_path / "blackens.mp4", [("alive", 4), ("black", 3)])
    freezes = movie(tmp_path / "freezes.mp4", [("alive", 1), ("still", 4)], gop=1000)
    with RtspServer(blackens, fps=RATE) as camera, Mosquitto(tmp_path) as broker, Subscriber(broker.url) as heard:
        cameras = {
            "dock": {"source": camera.urls[0], "models": ["classes"], "blind": {"after": "1s"}},
            "yard": {
                "source": {"type": "file", "path": str(freezes), "pace": "live", "loop": True},
                "models": ["classes"],
                "blind": {"frozen": "1500ms"},
            },
        }
        models = {"classes": fake_model("classes")}
        service, _ = agent(settings_of(models=models, cameras=cameras, mqtt={"url": broker.url}), tmp_path / "store")
        service.start()
        stop = threading.Event()
        waiting = threading.Thread(target=service.wait, args=(stop,))
        waiting.start()
        try:
            heard.wait_for(lambda messages: all(_seeing_again(messages, name) for name in cameras))
            heard.wait_for(lambda m: any(x.data["cameras"].get("dock") == "blind" for x in m if _is_agent_status(x)))
        finally:
            stop.set()
            waiting.join()
            service.stop()
        heard.wait_for(lambda messages: all(_closed(messages, name) for name in cameras))
        for name, reason in (("dock", "black"), ("yard", "frozen")):
            statuses = [
                CameraStatus.model_validate(m.data) for m in heard.messages if m.topic.endswith(f"{name}/status")
            ]
            blind = next(n for n, status in enumerate(statuses) if status.state == "blind")
            assert statuses[blind].reason == reason
            assert statuses[blind].facts == statuses[blind - 1].facts
            after = statuses[blind + 1]
            assert (after.state, after.reason) == ("streaming", None)
            told = _events(heard.messages, name)
            assert [(e.kind, e.phase, e.data.get("reason"), e.reason) for e in told[:2]] == [
                ("blind", "start", reason, None),
                ("blind", "end", reason, "over"),
            ]
            assert {e.kind for e in told} == {"blind"}
            for id_ in {e.id for e in told}:
                assert [e.phase for e in told if e.id == id_] == ["start", "end"]
        assert service.metrics().events["mqtt"]["waiting"] == 0


def _events(messages: list[Received], camera: str) -> list[EventPayload]:
    return [EventPayload.model_validate(m.data) for m in messages if m.topic.endswith(f"/{camera}/events")]


def _seeing_again(messages: list[Received], camera: str) -> bool:
    return any(event.phase == "end" for event in _events(messages, camera))


def _closed(messages: list[Received], camera: str) -> bool:
    """Whether every incident has had its end."""
    told = _events(messages, camera)
    return {e.id for e in told if e.phase == "start"} == {e.id for e in told if e.phase == "end"}


def _is_agent_status(message: Received) -> bool:
    return message.topic == "sightwire/test/status"


def test_a_recording_is_not_judged_unless_that_is_asked_for_and_then_gives_the_same_events_each_time(
    tmp_path: Path,
) -> None:
    path = movie(tmp_path / "film.mp4", [("alive", 2), ("black", 4), ("alive", 4)])

    def events(**camera: Any) -> list[tuple[Any, ...]]:
        source = {"type": "file", "path": str(path)}
        cameras = {"dock": {"source": source, "models": ["classes", "boxes"], **camera}}
        models = {"classes": fake_model("classes", delay_ms=2), "boxes": fake_model("boxes")}
        folder = tmp_path / f"store-{len(list(tmp_path.iterdir()))}"
        service, sink = agent(settings_of(models=models, cameras=cameras), folder)
        service.run(threading.Event())
        told = [kept.data for kept in sink.messages if kept.topic == "dock/events"]
        return [(e["phase"], e["seq"], e["captured_at"], e.get("reason"), e["data"]) for e in told]

    assert events() == []
    first, second = events(blind={"after": "1s"}), events(blind={"after": "1s"})
    assert [(e[0], e[3]) for e in first] == [("start", None), ("end", "over")]
    assert first == second


def test_a_gate_leaves_out_still_pictures_and_who_stands_still_keeps_the_track_and_stays_in_the_zone(
    tmp_path: Path,
) -> None:
    """A block comes, stands for 13 s, and goes."""
    path = [(0.2 + 0.01 * n, 0.5) for n in range(30)] + [(0.5, 0.5)] * 130 + [(0.5 + 0.01 * n, 0.5) for n in range(60)]
    source = {"type": "file", "path": str(film(tmp_path / "stands.mp4", path))}
    zone = {"polygon": [[0.4, 0.1], [0.6, 0.1], [0.6, 1], [0.4, 1]], "events": ["enter", "leave", "dwell>5s"]}

    def looked(**more: Any) -> tuple[list[tuple[Any, ...]], dict[str, int]]:
        camera = {"source": source, "models": [USE], "track": {"use": "blobs"}, "zones": {"gate": zone}, **more}
        folder = tmp_path / f"store-{len(list(tmp_path.iterdir()))}"
        service, sink = agent(settings_of(models={"blobs": MODEL}, cameras={"dock": camera}), folder)
        service.run(threading.Event())
        told = [kept.data for kept in sink.messages if kept.topic == "dock/events"]
        return [(e["phase"], e["track"], e["id"].rpartition("-")[2]) for e in told], service.metrics().cameras["dock"][
            "uses"
        ]["blobs"]

    without, every = looked()
    gated, account = looked(motion={"heartbeat": "4s", "hold": "1s"})
    assert [phase for phase, *_ in gated] == ["start", "update", "end"]
    assert gated == without
    assert every["inferred"] == len(path)
    assert account["still"] == account["not_due"] > 90
    assert account["offered"] == account["inferred"] + account["not_due"] == len(path)
    assert looked(motion={"heartbeat": "4s", "hold": "1s"}) == (gated, account), "the same each time"
