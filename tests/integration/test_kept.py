"""From a recording to what is kept of its events: pictures and clips that the events name."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import av
import cv2
import pytest

from agent.commands.check import _holds
from agent.errors import ConfigError
from agent.service import Service
from agent.sinks.memory import MemorySink
from agent.sources.synthetic import picture
from tests.support.agents import fake_store, settings_of
from tests.support.asyncapi_specs import user_properties
from tests.support.blobs import MODEL, USE, add_blobs
from tests.support.broker import Mosquitto, Subscriber

SIZE = (640, 360)
RATE, FRAMES = 20, 150
FILM = {"type": "synthetic", "pace": "lossless", "rate": RATE, "frames": FRAMES}
"""A block goes from the left to the right, and again."""
GATE = {"polygon": [[0.3, 0.3], [0.6, 0.3], [0.6, 1], [0.3, 1]]}
RIGHT = [[0.7, 0.0], [1.0, 0.0], [1.0, 1.0], [0.7, 1.0]]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder of the agent, as systemd would say it."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path / "state"


class Agent:
    def __init__(self, folder: Path, mqtt: dict[str, Any] | None = None, **camera: Any) -> None:
        self.sink = MemorySink()
        store = fake_store(folder)
        add_blobs(folder)
        section = {"source": FILM, "models": [USE], "track": {"use": "blobs"}, "zones": {"gate": GATE}, **camera}
        settings = settings_of(models={"blobs": MODEL}, cameras={"dock": section}, mqtt=mqtt)
        self.service = Service(settings, store, [self.sink])

    def run(self) -> None:
        self.service.run(threading.Event())

    @property
    def events(self) -> list[dict[str, Any]]:
        return [kept.data for kept in self.sink.messages if kept.topic == "dock/events"]


def film(path: Path, codec: str = "mpeg4") -> Path:
    """The synthetic film as a file, with a key frame each second."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=RATE, bit_rate=4_000_000)
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.width, stream.height, stream.gop_size = *SIZE, RATE
        for number in range(FRAMES):
            gray = av.VideoFrame.from_ndarray(picture(number, *SIZE, "gray").planes[0], format="gray")
            container.mux(stream.encode(gray))
        container.mux(stream.encode())
    return path


def test_an_event_names_its_picture_in_which_what_is_masked_is_black(tmp_path: Path, state: Path) -> None:
    """File, tracks, zone, event, picture: with the object's box, without what nobody may see."""
    agent = Agent(tmp_path / "models", masks=[RIGHT], snapshots={"every": "0s"})
    agent.run()
    folder = state / "snapshots" / "test" / "dock"
    assert [(e["phase"], e.get("snapshot")) for e in agent.events] == [
        (phase, f"{e['id']}.jpg") for e, phase in zip(agent.events, ["start", "end"] * 2, strict=True)
    ]
    assert sorted(path.name for path in folder.iterdir()) == sorted({e["snapshot"] for e in agent.events})
    for path in folder.iterdir():
        shown = cv2.imread(str(path))
        assert shown is not None
        assert shown.shape == (360, 640, 3)
        assert shown[:, 458:].max() <= 3, "black where it is masked"
        assert shown[:, 440].mean() > 60
        box = shown.max(axis=2).astype(int) - shown.min(axis=2)
        assert (box > 60).sum() > 100, "the box is the one coloured thing in a grey picture"
    counts = agent.service.metrics().snapshots["dock"]
    assert counts["made"] >= 2
    assert counts["taken"] == counts["made"] + counts["replaced"] + counts["dropped"]
    assert not [kept for kept in agent.sink.messages if kept.topic == "dock/snapshot"]
    assert oct((state / "snapshots" / "test" / "dock").stat().st_mode & 0o777) == "0o700"


def test_pictures_are_published_where_that_is_asked_for(tmp_path: Path) -> None:
    """Each is a JPEG; about says that there are such, status where they lie."""
    agent = Agent(tmp_path / "models", snapshots={"every": "0s", "publish": True, "max_width": 320})
    agent.run()
    published = [kept.payload for kept in agent.sink.messages if kept.topic == "dock/snapshot"]
    assert published
    assert all(payload.startswith(b"\xff\xd8\xff") for payload in published)
    (about,) = (kept.data for kept in agent.sink.messages if kept.topic == "about")
    assert about["cameras"]["dock"]["snapshots"] is True
    status = [kept.data for kept in agent.sink.messages if kept.topic == "status"][-1]
    assert status["snapshots"]["dock"]["state"] == "keeping"


@pytest.mark.parametrize("retain", [False, True])
def test_a_broker_gets_the_picture_with_its_type_and_facts(tmp_path: Path, retain: bool) -> None:
    """Raw bytes that are not called text; the newest is there for who comes later only where that is asked for."""
    with Mosquitto(tmp_path) as broker:
        camera = {"every": "0s", "publish": True, "retain": retain}
        with Subscriber(broker.observer_url) as listener:
            agent = Agent(tmp_path / "models", mqtt={"url": broker.url}, snapshots=camera)
            agent.run()
            got = listener.wait_for_topic("sightwire/test/dock/snapshot")
        with Subscriber(broker.observer_url) as late:
            kept = late.wait_for_topic("sightwire/test/status") and late.messages
            assert any(m.topic.endswith("/snapshot") for m in kept) is retain
    assert got.payload.startswith(b"\xff\xd8\xff")
    assert got.properties.ContentType == "image/jpeg"
    assert got.properties.PayloadFormatIndicator == 0
    facts = dict(got.properties.UserProperty)
    assert facts.keys() == user_properties("snapshot")
    assert facts["id"] in {event["id"] for event in agent.events}
    assert facts["clock"] == "file"


def test_without_a_word_in_the_configuration_nothing_is_kept(tmp_path: Path, state: Path) -> None:
    """No picture, no clip, no thread, no name in an event."""
    agent = Agent(tmp_path / "models", source=str(film(tmp_path / "film.mp4")))
    agent.service.start()
    names = {thread.name for thread in threading.enumerate()}
    agent.service.wait(threading.Event())
    agent.service.stop()
    assert agent.events
    assert not names & {"snapshots", "clips"}
    assert not any("snapshot" in event or "clip" in event for event in agent.events)
    assert not (state / "snapshots").exists()
    assert not (state / "clips").exists()


def test_a_check_says_what_is_kept_and_what_leaves(tmp_path: Path) -> None:
    """In words, before anything runs."""
    pictures: dict[str, Any] = {"publish": True}
    for retain, more in ((False, ""), (True, ", and the newest stays at the broker")):
        camera = {"source": "rtsp://127.0.0.1/x", "models": ["blobs"], "snapshots": {**pictures, "retain": retain}}
        settings = settings_of(models={"blobs": MODEL}, cameras={"dock": camera, "yard": {**camera, "clips": {}}})
        assert _holds(settings)[-4:] == [
            "snapshots of incidents are kept: dock, yard",
            "clips of incidents are kept: yard",
            *(f"pictures leave: {name}/snapshot is published{more}" for name in ("dock", "yard")),
        ]
    with pytest.raises(ConfigError, match="retain: only with 'publish: true'"):
        settings_of(models={"blobs": MODEL}, cameras={"dock": {**camera, "snapshots": {"retain": True}}})


@pytest.mark.parametrize(("codec", "suffix"), [("libsvtav1", ".mp4"), ("mjpeg", ".mkv")])
def test_an_event_names_its_clip_which_shows_it_from_before_to_after(
    tmp_path: Path, state: Path, codec: str, suffix: str
) -> None:
    """The recording's own packets, in a file of their own that players expect such packets in."""
    source = film(tmp_path / "film.mkv", codec)
    agent = Agent(tmp_path / "models", source=str(source), clips={"before": "500ms", "after": "300ms"})
    agent.run()
    folder = state / "clips" / "test" / "dock"
    starts = [event for event in agent.events if event["phase"] == "start"]
    assert len(starts) == 2
    assert [e["clip"] for e in agent.events] == [f"{e['id']}{suffix}" for e in agent.events]
    assert sorted(path.name for path in folder.iterdir()) == sorted(e["clip"] for e in starts)
    with av.open(str(source)) as container:
        theirs = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for start, end in zip(starts, (e for e in agent.events if e["phase"] == "end"), strict=True):
        with av.open(os.fspath(folder / start["clip"])) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
            container.seek(0)
            assert sum(1 for _ in container.decode(video=0)) == len(packets)
        assert packets[0].is_keyframe
        first = theirs.index(bytes(packets[0]))
        assert [bytes(packet) for packet in packets] == theirs[first : first + len(packets)]
        assert first <= start["seq"] - RATE // 2
        assert first + len(packets) >= min(FRAMES, end["seq"] + RATE * 3 // 10)
    assert agent.service.metrics().clips["dock"]["made"] == 2
