"""Sources in processes of their own that are killed, crash and hang, and what is left of them."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil
import pytest

from agent.camera import Camera
from agent.errors import SourceError
from agent.publishing import Outlets
from agent.sources import Intake, SourceConfig, file, synthetic
from agent.sources._isolated import as_read, child
from agent.sources._isolated.reader import _Reading, reading
from agent.sources._isolated.slots import MOST_SLOTS
from agent.sources._isolated.words import KINDS, MOST_BYTES, Order
from agent.supervision.captures import Captures
from tests.support import crashing
from tests.support.clips import SHORT
from tests.support.process import ROOT
from tests.support.waiting import until


@pytest.fixture
def captures() -> Iterator[Captures]:
    """Ended with the test."""
    all_of_them = Captures()
    yield all_of_them
    all_of_them.stop({}, time.monotonic() + 10)


class Watched(Camera):
    """Keeps what it is told."""

    def __init__(self, name: str, label: str) -> None:
        super().__init__("test", name, label, [], Outlets([]))
        self.reasons: list[str] = []
        self.process: psutil.Process | None = None

    def say(self, state: Any, reason: str | None = None, facts: dict[str, str] | None = None) -> None:
        super().say(state, reason, facts)
        self.reasons += [reason] if reason else []
        if facts and "process" in facts:
            self.process = psutil.Process(int(facts["process"]))


def camera_of(captures: Captures, name: str, source: SourceConfig) -> Watched:
    camera = Watched(name, source.label)
    captures.add(source, [camera], None)
    return camera


def test_a_process_that_is_killed_is_another_one_soon_and_other_cameras_go_on(
    captures: Captures, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It has nothing of the agent but its socket, and signals that are for the agent do not end it."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/absent")
    dock = camera_of(captures, "dock", crashing.Config(isolated=True, password="planted"))
    yard = camera_of(captures, "yard", synthetic.Config(rate=50, width=320, height=48))
    descriptors = psutil.Process().num_fds()
    captures.start()
    until(lambda: dock.process is not None)
    first = dock.process
    assert first is not None
    assert "planted" not in " ".join([*first.cmdline(), *first.environ().values()])
    assert "NOTIFY_SOCKET" not in first.environ()
    assert first.nice() == psutil.Process().nice()
    opened = {link.name: str(link.readlink()) for link in Path(f"/proc/{first.pid}/fd").iterdir()}
    assert opened["0"] == os.devnull
    assert sum(name.startswith("socket:") for fd, name in opened.items() if int(fd) > 2) == 1
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        first.send_signal(number)
    seen = dock.frames
    until(lambda: dock.frames > seen + 5)
    # The log has said what the source says, without what nobody may read.
    assert "opening rtsp://***@camera/" in caplog.text
    began, yards = time.monotonic(), yard.frames
    first.send_signal(signal.SIGSEGV)
    until(lambda: dock.process != first)
    took_s = time.monotonic() - began
    assert dock.reasons == ["crashing: its process was ended by SIGSEGV"]
    assert dock.state == "streaming"
    assert yard.frames - yards > 50 * took_s / 5
    assert yard.reasons == []
    captures.stop({}, time.monotonic() + 10)
    assert psutil.Process().num_fds() <= descriptors


def test_pictures_of_a_recording_are_the_same_bit_for_bit() -> None:
    """Every one of them, with its time."""
    plain = file.Config(path=SHORT.path())
    isolated = as_read(plain.model_copy(update={"isolated": True}))
    assert (isolated.label, isolated.lossless, isolated.has_packets) == (plain.label, True, False)
    count = 0
    with (
        plain.open(threading.Event(), Intake()) as there,
        isolated.open(threading.Event(), Intake()) as here,
    ):
        for (captured, image), (also_captured, same) in zip(there, here, strict=True):
            count += 1
            assert captured == also_captured
            assert (image.format, image.matrix, image.range) == (same.format, same.matrix, same.range)
            for plane, other in zip(image.planes, same.planes, strict=True):
                np.testing.assert_array_equal(plane, other)
    assert count == SHORT.frames


def test_a_process_that_hangs_is_killed_and_named() -> None:
    """Even one that holds Python's lock; before supervision would give up whoever waits for it."""
    source = crashing.Config(way="hangs", isolated=True)
    isolated = as_read(source)
    assert source.times is not None
    assert isolated.times is not None
    began = 0.0
    with isolated.open(threading.Event(), Intake()) as pictures:
        assert len(list(islice(pictures, source.good))) == source.good
        began = time.monotonic()
        with pytest.raises(SourceError, match=r"crashing: its process hung for 0\.5 s, and was killed"):
            next(pictures)
    assert time.monotonic() - began >= source.times.step_s
    assert isolated.times.step_s > source.times.step_s
    assert isolated.times.open_s > source.times.open_s


def test_it_dies_with_the_agent() -> None:
    """Also one that hangs, which nobody can ask to end, and it leaves nothing in shared memory."""
    before = set(Path("/dev/shm").iterdir())
    program = (
        "import threading, sys; from agent.sources import Intake; from agent.sources._isolated import as_read\n"
        "from tests.support import crashing\n"
        "intake = Intake()\n"
        "with as_read(crashing.Config(way='hangs', isolated=True)).open(threading.Event(), intake) as pictures:\n"
        "    kept = [next(pictures) for _ in range(3)]\n"
        "    print(intake.facts['process'], flush=True)\n"
        "    threading.Event().wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT) as agent:
        try:
            assert agent.stdout is not None
            pid = int(agent.stdout.readline())
            assert psutil.pid_exists(pid)
        finally:
            agent.kill()
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    assert set(Path("/dev/shm").iterdir()) <= before


class Said:
    """What a child says of a source, without a process."""

    def __init__(self, source: SourceConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # What is its process's, and here is ours.
        monkeypatch.setattr(child.logging, "basicConfig", lambda **_: None)
        monkeypatch.setattr("cv2.setNumThreads", lambda _: None)
        with ours, theirs:
            child._run(pickle.dumps(Order(source, str(Path.cwd()), 30)), child.Voice(theirs), threading.Event())
            theirs.shutdown(socket.SHUT_WR)
            self.all: list[dict[str, Any]] = []
            while packet := ours.recv(MOST_BYTES):
                self.all.append(json.loads(packet))

    @property
    def last(self) -> dict[str, Any]:
        """Its last word."""
        return self.all[-1]


@pytest.mark.parametrize(("way", "kind"), [("refused", "Refused"), ("misconfigured", "ConfigError")])
def test_errors_arrive_as_what_they_are(way: crashing.Way, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that refuses a password is not asked again each second."""
    said = Said(crashing.Config(way=way), monkeypatch)
    assert (said.last["is"], said.last["kind"]) == ("failed", kind)
    assert kind in KINDS


def test_a_fault_of_a_source_is_told_in_a_line_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Said(crashing.Config(way="raises"), monkeypatch)
    assert said.last["kind"] is None
    assert said.last["text"].startswith("RuntimeError: no such thing: rtsp://***@camera/ (crashing.py:")


def test_what_could_not_be_decoded_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, however often it is told."""
    said = Said(crashing.Config(way="skips"), monkeypatch)
    assert sum(word["skipped"] for word in said.all if word["is"] == "news") == 5
    assert said.last == {"is": "end"}


def test_what_comes_faster_than_it_is_taken_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there are slots are handed on where nobody gives one back; the rest are left out, and told."""
    said = Said(crashing.Config(way="changes its size"), monkeypatch)
    pictures = sum(word["is"] == "picture" for word in said.all)
    news = [word for word in said.all if word["is"] == "news"]
    assert (pictures, sum(word["left_out"] for word in news)) == (MOST_SLOTS, 19 - MOST_SLOTS)
    intake = Intake()
    words = [(json.dumps(word).encode(), None) for word in [*news, {"is": "end"}]]
    heard = mock.Mock(hear=mock.Mock(side_effect=words))
    assert list(_Reading(heard, crashing.Config(), threading.Event(), intake).pictures()) == []
    assert intake.left_out == 19 - MOST_SLOTS


PICTURE = {"is": "picture", "slot": 0, "shapes": [[4, 4]], "image": ["gray", "601", "full", [4, 4]], "captured": [0]}


@pytest.mark.parametrize(
    "packet",
    [
        b"\xff",
        b"[]",
        b"{}",
        b'{"is": "news"}',
        json.dumps(PICTURE).encode(),
        json.dumps({**PICTURE, "image": 3}).encode(),
    ],
)
def test_a_process_that_has_lost_its_mind_is_a_source_that_is_lost(packet: bytes) -> None:
    """Whatever it says, the agent goes on."""
    process = mock.Mock(hear=lambda: (packet, None))
    with pytest.raises(SourceError, match="crashing: its process "):
        next(_Reading(process, crashing.Config(), threading.Event(), Intake()).pictures())


def test_what_cannot_be_handed_to_a_process_is_an_error() -> None:
    """Of the source, in words."""

    class Local(crashing.Config):
        """Of which another process knows nothing."""

    with (
        pytest.raises(SourceError, match="crashing: cannot be isolated"),
        reading(Local(), threading.Event(), Intake()),
    ):
        pass
