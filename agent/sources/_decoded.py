"""From packets to Images: what FFmpeg decoded, as views of its planes, less what is damaged."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from agent.errors import SourceError
from agent.secrets import redact
from agent.sources import Intake
from agent.sources._h264 import FrameNumbers
from engines import MOST_PIXELS
from engines.pixels import Image, Matrix, PixelFormat, Plane, Range

#: FFmpeg's name -> ours, and whether the name itself says full range
_FORMATS: dict[str, tuple[PixelFormat, bool]] = {
    "yuv420p": ("i420", False),
    "yuvj420p": ("i420", True),
    "nv12": ("nv12", False),
    "gray": ("gray", False),
    "bgr24": ("bgr", True),
    "rgb24": ("rgb", True),
}
_CHANNELS = {"bgr": 3, "rgb": 3}
#: ITU-T H.273 table 4: 9 and 10 are BT.2020, whose coefficients are next to those of 709
_BT709, _UNSPECIFIED, _LIKE_709 = 1, 2, (1, 9, 10)
_JPEG_RANGE = 2
_MOST_AWAITED = 300
"""Frames to wait for a key frame: ten seconds. Some encoders never send a second one, but refresh bit by bit."""


def decoding() -> dict[str, str]:
    """Options for `av.open`: no decoder makes room for pictures larger than those that are let in from files."""
    return {"max_pixels": str(MOST_PIXELS)}


class Decoder:
    """Decodes a stream's packets; leaves out, and counts, pictures that are damaged or predicted from such.

    Raises SourceError where FFmpeg knows no decoder for the stream.
    """

    def __init__(self, stream: Any, label: str, intake: Intake) -> None:
        context = stream.codec_context
        # FFmpeg plays text files as ANSI art, which is video to nobody.
        if context is None or context.name == "ansi":
            raise SourceError(f"{label}: has no video in it that can be decoded")
        context.options = {**context.options, **decoding()}
        context.thread_count = 1  # the engines have the other cores, and each further thread holds one more frame back
        self._label, self._intake = label, intake
        self._size = (0, 0)
        self._awaited: int | None = 0
        """Frames skipped since the last good one; None while the pictures are good."""
        self._damaged = False
        self.at_work_ns: int | None = None
        """When FFmpeg last gave a picture, good or not, `time.monotonic_ns`."""
        self.whole_ns: int | None = None
        """When the last good one came."""
        # In files, packets have another form, and are not lost one by one.
        annex_b = context.name == "h264" and bytes(context.extradata or b"")[:1] != b"\1"
        self._numbers = FrameNumbers(context.extradata) if annex_b else None
        self.rate = float(stream.average_rate or stream.guessed_rate or 25)
        intake.facts.update(codec=context.name, rate=f"{self.rate:g}")

    def decode(self, packet: Any) -> list[Any]:
        """The whole pictures (av.VideoFrame) that the packet completes; an empty packet brings the last ones."""
        import av

        if self._numbers is not None and self._numbers.is_gap(packet):
            self.damage("lost on its way")
        try:
            frames: list[Any] = packet.decode()
        except av.error.FFmpegError as error:
            self.damage(error.strerror or type(error).__name__)
            return []
        whole = [frame for frame in frames if self._is_whole(frame)]
        if frames:
            self.at_work_ns = time.monotonic_ns()
            self.whole_ns = self.at_work_ns if whole else self.whole_ns
        return whole

    def damage(self, what: str) -> None:
        """Something is lost: what comes now is predicted from it, up to the next key frame."""
        self._skip(what)
        self._awaited, self._damaged = 0, True

    def image(self, frame: Any) -> Image:
        """See image_of; notes the size of the pictures, which is known for certain only now."""
        image = image_of(frame, self._intake)
        if image.size != self._size:
            self._size = image.size
            self._intake.facts["size"] = "{}x{}".format(*image.size)
        return image

    def _is_whole(self, frame: Any) -> bool:
        if frame.is_corrupt:
            self.damage("damaged: parts of it were lost")
            return False
        if self._awaited is None:
            return True
        if frame.key_frame or self._awaited >= _MOST_AWAITED:
            self._awaited, self._damaged = None, False
            return True
        self._awaited += 1
        if self._damaged:
            self._skip("predicted from a damaged one")
        return False

    def _skip(self, what: str) -> None:
        self._intake.skip(f"{self._label}: {redact(what)}")


def image_of(frame: Any, intake: Intake) -> Image:
    """An av.VideoFrame as an Image; its planes are views that keep the frame alive.

    A format that the engines do not read (4:2:2, ten bits, ...) is converted to 4:2:0 first, or to RGB if it is a kind
    of RGB; that costs a copy.
    """
    name = frame.format.name
    full = name.startswith("yuvj") or frame.color_range == _JPEG_RANGE
    colorspace = frame.colorspace
    if name not in _FORMATS:
        target = "rgb24" if frame.format.is_rgb else "yuvj420p" if full else "yuv420p"
        intake.facts.setdefault("converted", f"{name} to {target}")
        frame = frame.reformat(format=target)
        name = target
    pixels, named_full = _FORMATS[name]
    width, height = frame.width, frame.height
    planes = tuple(_view(plane, pixels, index) for index, plane in enumerate(frame.planes))
    level: Range = "full" if full or named_full else "limited"
    return Image(planes, pixels, matrix_of(colorspace, width, height), level, (width, height))


def _view(plane: Any, pixels: PixelFormat, index: int) -> Plane:
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    channels = 2 if pixels == "nv12" and index else _CHANNELS.get(pixels, 1)
    view = rows[:, : plane.width * channels]
    return view.reshape(plane.height, plane.width, channels) if channels > 1 else view


def matrix_of(colorspace: int, width: int, height: int) -> Matrix:
    """By the number in ITU-T H.273. Streams that do not say are taken as players take them: 709 for high definition."""
    if colorspace in _LIKE_709:
        return "709"
    if colorspace == _UNSPECIFIED and (width >= 1280 or height > 576):
        return "709"
    return "601"
