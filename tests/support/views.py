"""What made cameras see: a place under changing light, who passes, what happens to the lens, what an encoder leaves.

A `Shot` is a camera's picture over time; functions change it. Everything follows from its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from agent.frame import Timestamp
from agent.sight.settings import BlindSection
from agent.sight.sight import Blindness, Sight
from agent.sources import Intake
from agent.sources._decoded import image_of
from engines.pixels import Image

Luma = NDArray[np.float32]
RATE = 4.0
"""Frames a second: as many as are judged."""
Change = Callable[[Luma, float], Luma]
"""(luma 0 to 255, seconds since the beginning) -> luma."""


@dataclass(frozen=True)
class Place:
    """Somewhere a camera looks: walls, doors, signs, bushes; wider than the picture, to turn the camera."""

    seed: int
    size: tuple[int, int] = (320, 180)
    contrast: float = 1.0

    @cached_property
    def reflects(self) -> Luma:
        """(H, 3 W) 0 to 1."""
        rng, (width, height) = np.random.default_rng(self.seed), self.size
        out = np.full((height, 3 * width), 0.5, np.float32)
        out += np.linspace(0.15, -0.15, height, dtype=np.float32)[:, None]
        scale = width / 320
        for _ in range(150):
            x, y = rng.uniform(-20, 3 * width), rng.uniform(-20, height)
            w, h = rng.gamma(2, 18, 2) * scale + 4
            turn = rng.normal(0, 8)
            box = cv2.boxPoints(((float(x), float(y)), (float(w), float(h)), float(turn)))
            cv2.fillPoly(out, [np.rint(box * 8).astype(np.int32)], float(rng.uniform(0.1, 0.95)), cv2.LINE_8, 3)
        bushes = cv2.resize(rng.normal(0, 1, (height // 3, width)).astype(np.float32), (3 * width, height))
        where = cv2.resize(rng.uniform(-1, 1, (5, 12)).astype(np.float32), (3 * width, height)) > 0.4
        out = cv2.GaussianBlur(out, (0, 0), 0.6 * scale)
        out[where] += 0.1 * bushes[where]
        return np.clip(0.5 + (out - 0.5) * self.contrast, 0.03, 1)

    def seen(self, turned: float = 0.0) -> Luma:
        """Reflectance in the picture of a camera that is turned by that share of its width."""
        width = self.size[0]
        left = width + round(turned * width)
        return self.reflects[:, left : left + width]


@dataclass(frozen=True)
class Shot:
    """One camera for a while."""

    place: Place
    seconds: float
    light: Callable[[float], float] = lambda _: 200.0
    """Luma of what reflects everything."""
    noise: float = 2.5
    """Standard deviation of luma at half brightness."""
    turned: Callable[[float], float] = lambda _: 0.0
    changes: Sequence[Change] = ()
    after: Sequence[Change] = ()
    """What comes after the sensor's noise."""
    frozen: Callable[[float], bool] = lambda _: False
    """The sensor stands still; what encodes its picture does not."""
    stuck: Callable[[float], bool] = lambda _: False
    """The stream repeats its last picture."""
    grey: Callable[[float], bool] = lambda _: False
    encoder: dict[str, Any] | None = None
    """Of H.264, over FFmpeg: `crf`, `gop`, ...; None: nothing encodes."""
    begins: float = 0.0
    """Seconds on the clock that all functions of time are told."""
    infrared: bool = False
    """While it is grey another light falls on another reflectance."""

    def but(self, **changes: Any) -> Shot:
        """The same, but for that."""
        return replace(self, **changes)

    def pictures(self) -> Iterator[tuple[float, Image]]:
        """(seconds, picture) of all frames, as they come out of the camera."""
        raw, last = self._raw(), None
        for t, image in ((t, self._image(luma, t)) for t, luma in raw) if self.encoder is None else self._coded(raw):
            last = image if last is None or not self.stuck(t) else last
            yield t, last

    def _raw(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        rng = np.random.default_rng(self.place.seed + 1)
        width, height = self.place.size
        bank = rng.normal(0, 1, (5, height + 64, width + 64)).astype(np.float32)
        heat = _infrared(self.place) if self.infrared else None
        last: NDArray[np.uint8] | None = None
        for n in range(round(self.seconds * RATE)):
            t = self.begins + n / RATE
            index, x, y = rng.integers(5), rng.integers(64), rng.integers(64)
            if last is None or not self.frozen(t):
                luma = self.place.seen(self.turned(t)) * np.float32(self.light(t))
                if heat is not None and self.grey(t):
                    luma = heat
                for change in self.changes:
                    luma = change(luma, t)
                if self.noise:
                    strength = cv2.sqrt(np.clip(luma, 0, 255) * np.float32(1 / 128) + np.float32(0.1))
                    luma = luma + strength * bank[index, y : y + height, x : x + width] * np.float32(self.noise)
                last = cv2.convertScaleAbs(np.maximum(luma, 0))
            luma = last
            for change in self.after:
                luma = np.clip(change(luma.astype(np.float32), t), 0, 255).astype(np.uint8)
            yield t, luma

    def _image(self, luma: NDArray[np.uint8], t: float) -> Image:
        return Image((luma, *self._chroma(t)), "i420", "709", "full", self.place.size)

    def _chroma(self, t: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return self._greys if self.grey(t) else self._tints

    @cached_property
    def _greys(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        width, height = self.place.size
        grey = np.full((height // 2, width // 2), 128, np.uint8)
        return grey, grey

    @cached_property
    def _tints(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        width, height = self.place.size
        tint = cv2.resize(self.place.seen(), (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        return (110 + 20 * tint).astype(np.uint8), (150 - 25 * tint).astype(np.uint8)

    def _coded(self, raw: Iterator[tuple[float, NDArray[np.uint8]]]) -> Iterator[tuple[float, Image]]:
        """Through an encoder and a decoder, without B frames: one comes out for each that goes in."""
        assert self.encoder is not None
        options = {name: str(value) for name, value in self.encoder.items()}
        out, into = av.CodecContext.create("libx264", "w"), av.CodecContext.create("h264", "r")
        out.width, out.height, out.pix_fmt = *self.place.size, "yuvj420p"
        out.framerate, out.time_base = round(RATE), Fraction(1, round(RATE))
        out.gop_size, out.max_b_frames, out.thread_count = int(options.pop("gop", 8)), 0, 1
        if "bit_rate" in options:
            out.bit_rate = int(options.pop("bit_rate"))
        out.options = {"preset": "superfast", "tune": "zerolatency", "forced-idr": "1", **options}
        into.thread_count = 1
        times: list[float] = []
        for n, (t, luma) in enumerate(raw):
            times.append(t)
            frame = av.VideoFrame.from_ndarray(
                np.concatenate([luma.ravel(), *(c.ravel() for c in self._chroma(t))]).reshape(-1, self.place.size[0]),
                "yuvj420p",
            )
            frame.pts = n
            for packet in out.encode(frame):
                for shown in into.decode(packet):
                    yield times.pop(0), image_of(shown, Intake())


def _infrared(place: Place) -> Luma:
    """The same things under a lamp beside the lens: near is bright, far is dark, and plants shine."""
    width, height = place.size
    rng = np.random.default_rng(place.seed + 2)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    spot = np.exp(-(((x / width - 0.5) / 0.45) ** 2) - ((y / height - 0.7) / 0.55) ** 2)
    other = cv2.resize(rng.uniform(0.6, 1.4, (height // 20, width // 20)).astype(np.float32), (width, height))
    return place.seen() * other * (25 + 190 * spot)


Told = list[tuple[float, Blindness]]


def judged(shot: Shot, settings: BlindSection | None = None) -> Told:
    """What is told of a shot, and when, in seconds."""
    return judged_by(Sight(settings or BlindSection()), shot)


def judged_by(sight: Sight, shot: Shot) -> Told:
    """The same, by a sight that may have seen something before."""
    told: Told = []
    for t, image in shot.pictures():
        at_ns = round(t * 1e9)
        told += [(t, change) for change in sight.look(image, Timestamp(at_ns, at_ns, "file", None))]
    return told


# -- what happens in front of a camera


def walkers(seed: int, size: tuple[int, int], many: int = 3) -> Change:
    """People who walk through the picture, in the lower half."""
    rng, (width, height) = np.random.default_rng(seed), size
    speed, phase, shade = rng.uniform(0.02, 0.12, many), rng.uniform(0, 3, many), rng.uniform(20, 230, many)
    level = rng.uniform(0.4, 0.8, many)

    def change(luma: Luma, t: float) -> Luma:
        out = luma.copy()
        for n in range(many):
            x, y = ((t * speed[n] + phase[n]) % 3 - 1) * width, level[n] * height
            cv2.rectangle(
                out, (round(x), round(y)), (round(x + width / 25), round(y + height / 5)), float(shade[n]), -1
            )
        return out

    return change


def traffic(seed: int, pause_s: float) -> Change:
    """Somebody passes now and then, and there is nothing between: for `pause_s` in the mean."""
    starts = np.cumsum(np.random.default_rng(seed).exponential(pause_s, 1000) + 4)

    def change(luma: Luma, t: float) -> Luma:
        since = t - starts[max(0, int(np.searchsorted(starts, t)) - 1)]
        if not 0 <= since < 4:
            return luma
        out, (height, width) = luma.copy(), luma.shape
        x, y = round(width * since / 4), round(height * 0.5)
        out[y : y + height // 4, x : x + width // 20] = 30.0
        return out

    return change


def rain(seed: int) -> Change:
    """Streaks, other ones in each frame."""
    rng = np.random.default_rng(seed)

    def change(luma: Luma, _t: float) -> Luma:
        out, (height, width) = luma.copy(), luma.shape
        for _ in range(250):
            x, y, length = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(4, 14) * height / 180
            cv2.line(out, (round(x), round(y)), (round(x + length / 6), round(y + length)), 215.0, 1)
        return cv2.addWeighted(out, 0.6, luma, 0.4, 0)

    return change


def passing(start: float, seconds: float, seed: int, share: float = 1.0) -> Change:
    """A lorry, or somebody who comes near the lens: drives in, stays, and drives out, `seconds` in all."""
    rng = np.random.default_rng(seed)
    shade, stripes = rng.uniform(40, 220), rng.uniform(0.1, 0.9, 3)

    def change(luma: Luma, t: float) -> Luma:
        if not start <= t <= start + seconds:
            return luma
        height, width = luma.shape
        there = min(1.0, (t - start) / 1.0, (start + seconds - t) / 1.0)
        out, right, top = luma.copy(), round(width * there), round(height * (1 - share))
        out[top:, :right] = shade
        for stripe in stripes:
            out[top + round((height - top) * stripe) :, :right][:3] = 255 - shade
        return out

    return change


def lamp(times: Sequence[float], seed: int, power: float = 60.0) -> Change:
    """Switched on and off at those times; its light falls unevenly."""
    rng = np.random.default_rng(seed)
    x0, y0, spread = *rng.uniform(0.2, 0.8, 2), rng.uniform(0.3, 0.6)

    def change(luma: Luma, t: float) -> Luma:
        if not sum(t >= at for at in times) % 2:
            return luma
        height, width = luma.shape
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        near = np.exp(-((x / width - x0) ** 2 + (y / height - y0) ** 2) / spread**2)
        return luma * (1 + power / 60 * near)

    return change


def clock(luma: Luma, t: float) -> Luma:
    """The time of day, drawn into the picture: changes each second."""
    out = luma.astype(np.uint8)
    cv2.putText(out, f"{int(t) // 60:02d}:{int(t) % 60:02d}", (4, 14), cv2.FONT_HERSHEY_PLAIN, 0.9, 255.0, 1)
    return out.astype(np.float32)


# -- what happens to a camera


def between(start: float, end: float) -> Callable[[float], bool]:
    """Whether it is then."""
    return lambda t: start <= t < end


def only(change: Change, start: float, end: float) -> Change:
    """That change, for that time."""
    return lambda luma, t: change(luma, t) if start <= t < end else luma


def level(value: float) -> Change:
    """One level all over: a lens cap, a light in the face."""
    return lambda luma, _t: np.full_like(luma, value)


def out_of_focus(sigma: float) -> Change:
    """Blurred by that many pixels."""
    return lambda luma, _t: cv2.GaussianBlur(luma, (0, 0), sigma)


def covered(seed: int, strength: float = 1.0) -> Change:
    """A cloth, a hand, paint on the lens: bright here and dark there, without edges."""
    rng = np.random.default_rng(seed)
    patches, shade = rng.uniform(-40, 40, (3, 4)).astype(np.float32), rng.uniform(40, 190)

    def change(luma: Luma, _t: float) -> Luma:
        cloth = shade + cv2.resize(patches, luma.shape[::-1], interpolation=cv2.INTER_CUBIC)
        return luma * (1 - strength) + cloth * strength

    return change
