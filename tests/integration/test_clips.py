"""Clips around incidents: what is in the file is what the camera sent, from a key frame on, and it can be played."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import pytest

from agent.camera import Camera
from agent.capture import Capture
from agent.clips import book
from agent.clips.book import Clips
from agent.clips.packets import Packet
from agent.clips.ring import REORDER_NS, Ring
from agent.clips.settings import ClipSection
from agent.errors import ConfigError
from agent.frame import Frame
from agent.publishing import Outlets
from agent.sources import SourceConfig, file, network
from agent.sources.synthetic import read_barcode
from tests.support.agents import fake_model, settings_of
from tests.support.clips import SMALL, Clip
from tests.support.patience import PATIENCE_S
from tests.support.rtsp import RtspServer
from tests.support.waiting import until

B_FRAMES = Clip(profile="high", b_frames=2, frames=120)
SECOND = 1_000_000_000


class Watched(Camera):
    """A camera that shows its frames to a function instead of to engines."""

    def __init__(self, name: str, see: Callable[[Frame], None] = lambda _: None) -> None:
        super().__init__("gate", name, "somewhere", [], Outlets([]))
        self._see = see

    def offer(self, frame: Frame) -> None:
        self.frames += 1
        self._see(frame)


class Recorded:
    """Clips of cameras that share one source."""

    def __init__(self, root: Path, cameras: dict[str, dict[str, Any]]) -> None:
        self.root = root / "gate"
        self.clips = Clips("gate")
        self.reels = {
            name: self.clips.reel(name, ClipSection.model_validate({"folder": root, **section}))
            for name, section in cameras.items()
        }

    @contextmanager
    def running(self, source: SourceConfig, cameras: list[Camera]) -> Iterator[None]:
        """Until the recording ends, or the block does if it is live."""
        stop = threading.Event()
        capture = Capture(source, cameras, self.clips.tap([camera.name for camera in cameras]))
        worker = threading.Thread(target=capture.run, args=(stop,))
        self.clips.start()
        worker.start()
        try:
            yield
            if source.lossless:
                worker.join(PATIENCE_S)
        finally:
            stop.set()
            worker.join(PATIENCE_S)
            self.clips.close(10)
        for counts in self.clips.counts().values():
            assert counts["waiting"] == 0
            assert counts["begun"] == counts["made"] + counts["failed"]

    def counts(self, camera: str = "dock") -> dict[str, int]:
        return self.clips.counts()[camera]

    def names(self, camera: str = "dock") -> list[str]:
        return sorted(path.name for path in (self.root / camera).iterdir())


def packets_of(path: Path) -> list[Any]:
    with av.open(f"file:{path}") as container:
        return [packet for packet in container.demux(video=0) if packet.size]


def numbers_in(path: Path) -> list[int]:
    """The barcodes of all pictures, decoded."""
    with av.open(f"file:{path}") as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    return [-1 if (number := read_barcode(pixels)) is None else number for pixels in frames]


def slices_of(packets: list[Any]) -> list[bytes]:
    """The coded pictures (H.264 NAL units of types 1 and 5) in packets of an MP4: each has four bytes of length."""
    found = []
    for packet in packets:
        data, at = bytes(packet), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            if data[at + 4] & 31 in (1, 5):
                found.append(data[at + 4 : at + 4 + size])
            at += 4 + size
    return found


def at_frame(actions: dict[int, Callable[[int], object]]) -> Callable[[Frame], None]:
    """Does something when the frame of a number comes, with the camera's time."""

    def see(frame: Frame) -> None:
        if frame.seq in actions:
            actions[frame.seq](frame.captured.monotonic_ns)

    return see


@pytest.mark.parametrize("clip", [SMALL, B_FRAMES], ids=["baseline", "b-frames"])
def test_a_recordings_clip_has_its_packets_unchanged(tmp_path: Path, clip: Clip) -> None:
    """From a key frame before the event to some time after it; equal byte for byte, and playable."""
    said: list[str | None] = []
    recorded = Recorded(tmp_path, {"dock": {"before": "500ms", "after": "1s"}})
    reel = recorded.reels["dock"]
    see = at_frame(
        {
            60: lambda at: said.append(reel.started("0123abcd-dock-1", at)),
            66: lambda at: said.append(reel.ended("0123abcd-dock-1", at)),
        }
    )
    with recorded.running(file.Config(path=clip.path()), [Watched("dock", see)]):
        pass
    assert said == ["0123abcd-dock-1.mp4"] * 2
    assert recorded.names() == ["0123abcd-dock-1.mp4"]
    path = recorded.root / "dock" / "0123abcd-dock-1.mp4"
    ours, theirs = packets_of(path), packets_of(clip.path())
    assert ours[0].is_keyframe
    first = [bytes(packet) for packet in theirs].index(bytes(ours[0]))
    assert [bytes(p) for p in ours] == [bytes(p) for p in theirs[first : first + len(ours)]]
    assert [p.is_keyframe for p in ours] == [p.is_keyframe for p in theirs[first : first + len(ours)]]
    shown = numbers_in(path)
    whole = shown[: -clip.b_frames or None]  # at the very end, what is predicted from both sides may be missing
    assert whole == list(range(shown[0], shown[0] + len(whole)))
    assert shown[0] == 30, "the last key frame that is half a second before frame 60"
    assert 66 + 30 <= shown[-1] + 1 <= 66 + 30 + 4
    assert len(shown) == len(ours)
    with av.open(f"file:{path}") as played:
        assert float(played.duration or 0) / av.time_base == pytest.approx(len(ours) / 30, abs=0.1)


def test_incidents_that_overlap_share_a_clip(tmp_path: Path) -> None:
    """And one that begins later gets its own; each is told the name of its own."""
    said: dict[str, str | None] = {}
    recorded = Recorded(tmp_path, {"dock": {"before": "0s", "after": "300ms"}})
    reel = recorded.reels["dock"]

    def starts(number: int) -> Callable[[int], object]:
        return lambda at: said.update({f"start{number}": reel.started(f"0123abcd-dock-{number}", at)})

    def ends(number: int) -> Callable[[int], object]:
        return lambda at: said.update({f"end{number}": reel.ended(f"0123abcd-dock-{number}", at)})

    see = at_frame({20: starts(1), 30: starts(2), 35: ends(1), 50: ends(2), 90: starts(3), 95: ends(3)})
    with recorded.running(file.Config(path=SMALL.path()), [Watched("dock", see)]):
        pass
    one, three = "0123abcd-dock-1.mp4", "0123abcd-dock-3.mp4"
    assert said == {"start1": one, "start2": one, "end1": one, "end2": one, "start3": three, "end3": three}
    assert recorded.names() == [one, three]
    shown = numbers_in(recorded.root / "dock" / one)
    assert shown[0] == 0
    assert 59 <= shown[-1] <= 62


def test_a_clip_ends_at_its_longest_and_with_its_recording(tmp_path: Path) -> None:
    """Whatever its incident does."""
    recorded = Recorded(tmp_path, {"dock": {"before": "0s", "longest": "1s"}})
    reel = recorded.reels["dock"]
    see = at_frame(
        {1: lambda at: reel.started("0123abcd-dock-1", at), 100: lambda at: reel.started("0123abcd-dock-2", at)}
    )
    with recorded.running(file.Config(path=SMALL.path()), [Watched("dock", see)]):
        pass
    assert recorded.names() == ["0123abcd-dock-1.mp4", "0123abcd-dock-2.mp4"]
    assert 30 <= numbers_in(recorded.root / "dock" / "0123abcd-dock-1.mp4")[-1] <= 34
    assert numbers_in(recorded.root / "dock" / "0123abcd-dock-2.mp4")[-1] == 119


def test_a_network_cameras_clip_shows_the_moment_before(tmp_path: Path) -> None:
    """Two cameras on one connection, one with clips: its file begins with a key frame and shows the event."""
    began: list[int] = []
    done = threading.Event()
    recorded = Recorded(tmp_path, {"dock": {"before": "500ms", "after": "300ms"}})
    reel = recorded.reels["dock"]

    def see(frame: Frame) -> None:
        if not began and frame.seq >= 30:
            began.append(read_barcode(frame.image.planes[0]) or 0)
            reel.started("0123abcd-dock-1", frame.captured.monotonic_ns)
            reel.ended("0123abcd-dock-1", frame.captured.monotonic_ns)
        elif began and recorded.counts()["made"]:
            done.set()

    with RtspServer(SMALL) as server:
        source = network.Config(url=server.urls[0])
        with recorded.running(source, [Watched("yard"), Watched("dock", see)]):
            assert done.wait(PATIENCE_S)
    path = recorded.root / "dock" / "0123abcd-dock-1.mp4"
    assert packets_of(path)[0].is_keyframe
    shown = numbers_in(path)
    assert shown == [(shown[0] + n) % 120 for n in range(len(shown))], "no picture is missing, none damaged"
    assert shown[0] % 30 == 0, "a key frame"
    assert 14 <= shown.index(began[0]) <= 60
    assert len(shown) - shown.index(began[0]) >= 9
    sent = set(slices_of(packets_of(SMALL.path())))
    assert all(coded in sent for coded in slices_of(packets_of(path))), "what was shown is what the camera sent"
    assert not (recorded.root / "yard").exists()


def test_a_lost_connection_ends_the_clip(tmp_path: Path) -> None:
    """What came until then is in the file; what follows is another connection's."""
    started = threading.Event()
    recorded = Recorded(tmp_path, {"dock": {"before": "1s"}})

    def see(frame: Frame) -> None:
        if frame.seq == 10:
            recorded.reels["dock"].started("0123abcd-dock-1", frame.captured.monotonic_ns)
        if frame.seq == 15:
            started.set()

    with (
        RtspServer(SMALL) as server,
        recorded.running(network.Config(url=server.urls[0], timeout_s=1), [Watched("dock", see)]),
    ):
        assert started.wait(PATIENCE_S)
        server.kill()
        until(lambda: recorded.counts()["made"] == 1)
        # the incident goes on: it has its clip
        assert recorded.reels["dock"].ended("0123abcd-dock-1", 0) == "0123abcd-dock-1.mp4"
    assert len(numbers_in(recorded.root / "dock" / "0123abcd-dock-1.mp4")) >= 15


def test_a_looping_file_keeps_its_time(tmp_path: Path) -> None:
    """Each round is a connection of its own: the clip that is open ends with the round."""
    recorded = Recorded(tmp_path, {"dock": {"before": "1s", "after": "5s"}})
    reel = recorded.reels["dock"]
    stop = threading.Event()
    see = at_frame({200: lambda at: reel.started("0123abcd-dock-1", at), 260: lambda _: stop.set()})
    capture = Capture(file.Config(path=SMALL.path(), loop=True), [Watched("dock", see)], recorded.clips.tap(["dock"]))
    recorded.clips.start()
    capture.run(stop)
    recorded.clips.close(10)
    shown = numbers_in(recorded.root / "dock" / "0123abcd-dock-1.mp4")
    assert (shown[0], shown[-1]) == (30, 119)


def test_a_disk_that_is_too_slow_or_full_costs_the_clip_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits is bounded; a folder that cannot be written is said, and the next clip is kept when it is back."""
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate" / "dock").write_text("in the way")
    recorded = Recorded(tmp_path, {"dock": {"before": "0s", "after": "0s"}})
    reel = recorded.reels["dock"]
    failed: list[object] = []

    def recover(_at: int) -> None:
        until(lambda: recorded.counts()["failed"])
        failed.append(recorded.clips.state()["dock"]["reason"])
        (tmp_path / "gate" / "dock").unlink()

    def slow(at: int) -> None:
        monkeypatch.setattr(book, "MOST_WAITING_BYTES", 1)
        failed.append(reel.started("0123abcd-dock-3", at))
        monkeypatch.undo()

    see = at_frame(
        {
            10: lambda at: reel.started("0123abcd-dock-1", at),
            14: lambda at: reel.ended("0123abcd-dock-1", at),
            20: recover,
            40: lambda at: reel.started("0123abcd-dock-2", at),
            44: lambda at: reel.ended("0123abcd-dock-2", at),
            60: slow,
        }
    )
    with recorded.running(file.Config(path=SMALL.path()), [Watched("dock", see)]):
        pass
    assert "in the way" not in recorded.names()
    assert recorded.names() == ["0123abcd-dock-2.mp4"]
    assert "dock" in str(failed[0])
    assert failed[1] is None
    assert recorded.counts()["failed"] == 2
    assert recorded.counts()["missed"] == 1
    assert recorded.clips.state()["dock"]["state"] == "keeping"


def packet(number: int, key: bool = False, size: int = 100) -> Packet:
    return Packet(bytes(size), number, number, 1, key)


def test_the_ring_holds_whole_groups_bounded_by_time_and_bytes() -> None:
    """Old groups go when the rest reaches far enough back, or when there is no room."""
    ring = Ring(2 * SECOND, 10_000)
    ring.add(packet(0))
    assert ring.bytes == 0, "nothing can be done with it before a key frame"
    for number in range(100):
        ring.add(packet(number, key=number % 10 == 0))
        ring.stamp(number * SECOND // 10)
    held = ring.since(0)
    assert held[0].key
    assert held[0].pts == 50, "two seconds, what an incident may come late, and the rest of a group"
    assert ring.since(9 * SECOND + REORDER_NS)[0].pts == 90
    assert ring.since(9 * SECOND)[0].pts == 80, "its time may be that of an older picture"
    for number in range(1000, 1020):
        ring.add(packet(number, key=number == 1000, size=900))
    assert ring.bytes <= 10_000
    assert not ring.since(0), "one group alone has no room: nothing until the next key frame"


def test_a_template_outlives_its_connection(tmp_path: Path) -> None:
    """Clips are written when the connection that they came from may be gone."""
    recorded = Recorded(tmp_path, {"dock": {"before": "1s"}})
    camera = Watched("dock")
    with recorded.running(file.Config(path=SMALL.path()), [camera]):
        until(lambda: camera.state == "ended")
        gc.collect()
        assert recorded.reels["dock"].started("0123abcd-dock-1", 3 * SECOND) == "0123abcd-dock-1.mp4"
    assert numbers_in(recorded.root / "dock" / "0123abcd-dock-1.mp4")[-1] == 119


@pytest.mark.parametrize(
    ("camera", "reason"),
    [
        ({"masks": [[[0, 0], [1, 0], [1, 1]]]}, "cameras.dock.clips: not with 'masks'"),
        ({"crop": [0, 0, 0.5, 1]}, "cameras.dock.clips: not with 'crop'"),
        ({"source": {"type": "synthetic"}}, "cameras.dock.clips: a source of type 'synthetic' hands on pictures"),
        (
            {"source": {"type": "rtsp", "url": "rtsp://127.0.0.1/x", "isolated": True}},
            "cameras.dock.clips: not with 'isolated'",
        ),
        ({"clips": {"before": "2m"}}, "cameras.dock.clips.before"),
        ({"clips": {"before": "5s", "longest": "4s"}}, "more than 'before'"),
    ],
)
def test_clips_that_would_show_too_much_or_nothing_are_refused(camera: dict[str, Any], reason: str) -> None:
    """In the configuration, with the reason."""
    section = {"source": "rtsp://127.0.0.1/x", "models": ["colours"], "clips": {"before": "5s"}, **camera}
    with pytest.raises(ConfigError, match=reason):
        settings_of(models={"colours": fake_model("classes")}, cameras={"dock": section})
