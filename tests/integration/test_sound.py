"""Streams with sound: that it goes on does not hide that the pictures do not."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections import deque

import pytest

from agent.errors import SourceError
from agent.sources import Intake, network
from tests.support.needs import missing

SOUND_S, PICTURES_S, SLICE_S = 20, 2, 0.05


def transport_stream(pictures: bool) -> bytes:
    """Sound, with pictures at the beginning or without any."""
    command = [shutil.which("ffmpeg") or missing("ffmpeg"), "-nostdin", "-loglevel", "error"]
    command += ["-f", "lavfi", "-i", f"sine=duration={SOUND_S}"]
    if pictures:
        command += ["-f", "lavfi", "-i", f"testsrc2=size=320x192:rate=10:duration={PICTURES_S}", "-c:v", "mpeg2video"]
    return subprocess.run(
        [*command, "-c:a", "mp2", "-f", "mpegts", "-"], check=True, capture_output=True, timeout=60
    ).stdout


def test_pictures_that_stop_while_the_sound_goes_on_are_a_loss() -> None:
    stream, sound = transport_stream(pictures=True), transport_stream(pictures=False)
    rate = len(sound) // SOUND_S
    sent, gone = [0], threading.Event()

    def serve() -> None:
        with listening.accept()[0] as client, contextlib.suppress(OSError):
            client.recv(65536)
            client.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
            sent[0] = max(0, len(stream) - (SOUND_S - PICTURES_S - 1) * rate)
            client.sendall(stream[: sent[0]])
            while not gone.wait(SLICE_S):
                client.sendall(stream[sent[0] : sent[0] + round(rate * SLICE_S)])
                sent[0] += round(rate * SLICE_S)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        camera = threading.Thread(target=serve, name="camera-with-sound")
        camera.start()
        try:
            config = network.Config(url=f"http://127.0.0.1:{listening.getsockname()[1]}/x.ts", timeout_s=1)
            with config.open(threading.Event(), Intake()) as pictures:
                next(pictures)
                came, began = sent[0], time.monotonic()
                with pytest.raises(SourceError, match="does not answer"):
                    deque(pictures, maxlen=0)
                assert time.monotonic() - began < 5
            assert came < sent[0] < len(stream), "the sound goes on"
        finally:
            gone.set()
            camera.join()
