"""MPEG-TS over UDP through OpenCV: a URL without a host, and a stream that nobody asks for."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import av
import pytest

from agent.errors import SourceError
from agent.sources import Intake, opencv
from tests.support.clips import Clip

CLIP = Clip(gop=10)
DATAGRAM = 7 * 188


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def transport_stream(clip: Clip) -> bytes:
    made = io.BytesIO()
    with av.open(str(clip.path())) as there, av.open(made, "w", format="mpegts") as here:
        stream = here.add_stream_from_template(there.streams.video[0])
        for packet in there.demux(there.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                here.mux(packet)
    return made.getvalue()


@contextmanager
def sender(port: int, data: bytes, seconds: float) -> Iterator[None]:
    """Sends over and over, once in `seconds`."""
    closed = threading.Event()
    parts = [data[at : at + DATAGRAM] for at in range(0, len(data), DATAGRAM)]

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            while not closed.is_set():
                for part in parts:
                    if closed.wait(seconds / len(parts)):
                        return
                    out.sendto(part, ("127.0.0.1", port))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        closed.set()
        thread.join()


def test_a_stream_that_comes_unasked_is_read() -> None:
    port = free_port()
    intake = Intake()
    with sender(port, transport_stream(CLIP), CLIP.frames / CLIP.fps):
        config = opencv.Config(url=f"udp://@:{port}", timeout_s=10)
        with config.open(threading.Event(), intake) as pictures:
            sizes = {image.size for _, image in islice(pictures, 10)}
    assert sizes == {CLIP.size}
    assert intake.facts["codec"] == "h264"


def test_a_port_to_which_nothing_comes_is_given_up_in_time() -> None:
    config = opencv.Config(url=f"udp://@:{free_port()}", timeout_s=0.5)
    with (
        pytest.raises(SourceError, match="does not answer"),
        config.open(threading.Event(), Intake()) as pictures,
    ):
        next(pictures)
