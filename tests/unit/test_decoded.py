"""What FFmpeg decoded becomes an Image without a copy, and with all that is known of its colours."""

from __future__ import annotations

import gc
from typing import Any

import av
import numpy as np
import pytest

from agent.errors import SourceError
from agent.sources import Intake
from agent.sources._decoded import Decoder, image_of

UNSPECIFIED, BT709, BT470BG, BT2020 = 2, 1, 5, 9


def frame_of(pixels: str, width: int, height: int, color_range: int = 0, colorspace: int = UNSPECIFIED) -> Any:
    """A frame whose bytes count up in rows, so that padding taken for pixels is noticed."""
    frame = av.VideoFrame(width, height, pixels)
    for number, plane in enumerate(frame.planes):
        rows = np.full((plane.height, plane.line_size), 255, np.uint8)
        used = plane.width * {"nv12": 1 + number, "bgr24": 3, "rgb24": 3}.get(pixels, 1)
        rows[:, :used] = (np.arange(used)[None] + np.arange(plane.height)[:, None]) % 200
        plane.update(rows.tobytes())
    frame.color_range, frame.colorspace = color_range, colorspace
    return frame


@pytest.mark.parametrize(
    ("pixels", "ours"),
    [("yuv420p", "i420"), ("yuvj420p", "i420"), ("nv12", "nv12"), ("gray", "gray"), ("bgr24", "bgr"), ("rgb24", "rgb")],
)
@pytest.mark.parametrize("size", [(64, 48), (66, 50), (63, 47), (2, 2)])
def test_planes_are_views_without_padding(pixels: str, ours: str, size: tuple[int, int]) -> None:
    """For every format that the engines read, at even and odd sizes. (Image itself checks the shapes.)"""
    frame = frame_of(pixels, *size)
    image = image_of(frame, Intake())
    assert (image.format, image.size) == (ours, size)
    for plane, raw in zip(image.planes, frame.planes, strict=True):
        assert np.shares_memory(plane, np.frombuffer(raw, np.uint8))
        rows = plane.reshape(plane.shape[0], -1).astype(int)
        assert (rows == (np.arange(rows.shape[1])[None] + np.arange(rows.shape[0])[:, None]) % 200).all()


def test_planes_outlive_their_frame() -> None:
    """The memory stays as long as an Image refers to it."""
    image = image_of(frame_of("yuv420p", 64, 48), Intake())
    before = [plane.copy() for plane in image.planes]
    gc.collect()
    others = [frame_of("yuv420p", 64, 48) for _ in range(20)]
    assert all((plane == copy).all() for plane, copy in zip(image.planes, before, strict=True))
    assert len(others) == 20


@pytest.mark.parametrize(
    ("pixels", "color_range", "level"),
    [
        ("yuv420p", 0, "limited"),
        ("yuv420p", 1, "limited"),
        ("yuv420p", 2, "full"),
        ("yuvj420p", 0, "full"),
        ("nv12", 2, "full"),
        ("gray", 2, "full"),
        ("bgr24", 0, "full"),
        ("rgb24", 0, "full"),
    ],
)
def test_the_range_is_what_the_stream_says(pixels: str, color_range: int, level: str) -> None:
    """By the format's name, or by the range it declares; RGB is always full."""
    assert image_of(frame_of(pixels, 64, 48, color_range), Intake()).range == level


@pytest.mark.parametrize(
    ("colorspace", "size", "matrix"),
    [
        (BT709, (64, 48), "709"),
        (BT470BG, (1280, 720), "601"),
        (UNSPECIFIED, (640, 480), "601"),
        (UNSPECIFIED, (768, 576), "601"),
        (UNSPECIFIED, (1280, 720), "709"),
        (UNSPECIFIED, (720, 1280), "709"),
        (BT2020, (64, 48), "709"),
    ],
)
def test_the_matrix_is_what_the_stream_says_or_what_players_assume(
    colorspace: int, size: tuple[int, int], matrix: str
) -> None:
    """709 for high definition, 601 below, where a stream says nothing."""
    assert image_of(frame_of("yuv420p", *size, colorspace=colorspace), Intake()).matrix == matrix


@pytest.mark.parametrize(
    ("pixels", "color_range", "expected"),
    [
        ("yuv422p", 0, ("i420", "limited")),
        ("yuvj422p", 0, ("i420", "full")),
        ("yuv444p", 2, ("i420", "full")),
        ("yuv420p10le", 0, ("i420", "limited")),
        ("bgra", 0, ("rgb", "full")),
        ("gbrp", 0, ("rgb", "full")),
    ],
)
def test_other_formats_are_converted_and_say_so(pixels: str, color_range: int, expected: tuple[str, str]) -> None:
    """Levels and matrix stay what they were."""
    frame = av.VideoFrame(64, 48, pixels)
    level = 100 if "10le" not in pixels else 100 << 2
    for plane in frame.planes:
        values = np.full(
            plane.buffer_size // (2 if "10le" in pixels else 1), level, "<u2" if "10le" in pixels else "u1"
        )
        plane.update(values.tobytes())
    frame.color_range, frame.colorspace = color_range, BT709
    intake = Intake()
    image = image_of(frame, intake)
    assert (image.format, image.range) == expected
    assert intake.facts["converted"].startswith(f"{pixels} to ")
    assert abs(int(image.planes[0][20, 20].max()) - 100) <= 1
    if image.format == "i420":
        assert image.matrix == "709"


class FakeContext:
    """A decoder's settings."""

    name = "mjpeg"
    thread_count = 0
    extradata = None
    options: dict[str, str] = {}  # noqa: RUF012  # as PyAV has it


class FakeStream:
    """A stream that says nothing of its rate."""

    codec_context: Any = FakeContext()
    average_rate = guessed_rate = None


class Shown:
    """A decoded frame as far as Decoder looks at it."""

    def __init__(self, number: int, key: bool = False, corrupt: bool = False) -> None:
        self.number, self.key_frame, self.is_corrupt = number, key, corrupt


class Decodes:
    """A packet that decodes to these frames, or fails."""

    def __init__(self, *frames: Shown, error: Exception | None = None) -> None:
        self._frames, self._error = list(frames), error

    def decode(self) -> list[Shown]:
        if self._error:
            raise self._error
        return self._frames


def numbers(decoder: Decoder, *packets: Decodes) -> list[int]:
    return [frame.number for packet in packets for frame in decoder.decode(packet)]


def test_nothing_is_shown_before_the_first_key_frame() -> None:
    """A stream joined between two key frames starts with pictures that refer to what was never seen; no error."""
    intake = Intake()
    decoder = Decoder(FakeStream(), "cam", intake)
    assert numbers(decoder, Decodes(Shown(1)), Decodes(Shown(2)), Decodes(Shown(3, key=True)), Decodes(Shown(4))) == [
        3,
        4,
    ]
    assert intake.unreadable == 0


def test_after_damage_nothing_is_shown_up_to_the_next_key_frame() -> None:
    """What is predicted from a damaged picture looks whole to the decoder and is not; each one counts."""
    for damaged in (
        Decodes(error=av.error.InvalidDataError(1094995529, "Invalid data in rtsp://me:geheim@cam/")),
        Decodes(Shown(2, corrupt=True)),
    ):
        intake = Intake()
        decoder = Decoder(FakeStream(), "cam", intake)
        packets = [
            Decodes(Shown(1, key=True)),
            damaged,
            Decodes(Shown(3)),
            Decodes(Shown(4, key=True)),
            Decodes(Shown(5)),
        ]
        assert numbers(decoder, *packets) == [1, 4, 5]
        assert intake.unreadable == 2
        assert "geheim" not in str(intake.last_error)
        assert str(intake.last_error).startswith("cam: ")


def test_a_stream_without_key_frames_is_shown_in_the_end() -> None:
    """Encoders that refresh bit by bit send one key frame at the most."""
    shown = numbers(Decoder(FakeStream(), "cam", Intake()), *(Decodes(Shown(n)) for n in range(400)))
    assert shown == list(range(300, 400))


def test_a_stream_without_a_decoder_is_refused() -> None:
    """By name, not by a traceback."""
    stream = FakeStream()
    stream.codec_context = None
    with pytest.raises(SourceError, match="cam: has no video in it that can be decoded"):
        Decoder(stream, "cam", Intake())
