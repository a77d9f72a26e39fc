"""Draws results on pictures: boxes with labels, or the best classes on a panel.

Pure: BGR pixels and a result in, new BGR pixels out. Lines and letters grow with the picture; each label has a colour
of its own, the same in every picture, and letters are dark or light, whichever reads better on it.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.quiet import quiet_opencv
from engines.results import Classification, Detections, Result

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]
"""Blue, green, red."""
_FONT = cv2.FONT_HERSHEY_DUPLEX
_GOLDEN = 0.61803398875
"""Steps of it round the colour circle never come near each other (Knuth, TAOCP 3, 6.4)."""
_LETTERS = 0.5
"""Height of names, as OpenCV counts it, in a picture of 640x480."""
_STACKED = 4
"""Names that are put under each other where boxes crowd, at most."""
_PANEL = 0.62
"""How much darker a picture is under its panel."""


def draw(picture: Pixels, result: Result, labels: Sequence[str]) -> Pixels:
    """Return a copy of a picture (H, W, 3) BGR with what a model saw in it."""
    canvas: Pixels = np.array(picture, np.uint8, order="C")
    scale = _scale(canvas)
    if isinstance(result, Detections):
        _boxes(canvas, result, labels, scale)
    elif isinstance(result, Classification):
        _panel(canvas, result, labels, scale)
    return canvas


def colour_of(label: int) -> Colour:
    """Colour of a label's number: bright, and far from those of its neighbours."""
    hue = (0.58 + label * _GOLDEN) % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85 - 0.25 * (label // 8 % 2), 1.0 - 0.12 * (label // 4 % 2))
    return round(255 * blue), round(255 * green), round(255 * red)


def _scale(canvas: Pixels) -> float:
    """1 for a picture of 640x480, with the square root of its area."""
    height, width = canvas.shape[:2]
    return max(0.5, float(np.sqrt(height * width / (640 * 480))))


def _ink(colour: Colour) -> Colour:
    """Black or white, whichever stands out: luma of BT.601."""
    blue, green, red = colour
    return (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 140 else (255, 255, 255)


def _boxes(canvas: Pixels, found: Detections, labels: Sequence[str], scale: float) -> None:
    """Best last, so that it lies on top; all boxes before all names, so that no line crosses a name."""
    thick = max(1, round(2 * scale))
    rows = list(zip(found.xyxy.tolist(), found.score.tolist(), found.label.tolist(), strict=True))
    for box, _, label in reversed(rows):
        left, top, right, bottom = (round(edge) for edge in box)
        # A dark edge keeps a bright line visible on a bright wall.
        cv2.rectangle(canvas, (left, top), (right, bottom), (20, 20, 20), thick + 2, cv2.LINE_AA)
        cv2.rectangle(canvas, (left, top), (right, bottom), colour_of(label), thick, cv2.LINE_AA)
    tags: list[Tag] = []
    for box, score, label in rows:
        tags.append(_placed(canvas, f"{labels[label]} {score:.2f}", box, tags, scale))
    for tag, (_, _, label) in reversed(list(zip(tags, rows, strict=True))):
        _tag(canvas, tag, colour_of(label), scale)


class Tag(NamedTuple):
    """A name and the pixels that it takes."""

    text: str
    left: int
    top: int
    right: int
    bottom: int

    def over(self, other: Tag) -> bool:
        """Whether they share pixels."""
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.bottom <= other.top or other.bottom <= self.top)


def _placed(canvas: Pixels, text: str, box: Sequence[float], tags: Sequence[Tag], scale: float) -> Tag:
    """Put a name where it hides no better one: over its box, else in it, under it, beside it; inside the picture."""
    (width, height), baseline = cv2.getTextSize(text, _FONT, _LETTERS * scale, 1)
    pad = _pad(scale)
    width, height = width + 2 * pad, height + baseline + 2 * pad
    left, top, right, bottom = (round(edge) for edge in box)
    places = [
        (left, top - height), (right - width, top - height), (left, top), (right - width, top), (left, bottom),
        (left, bottom - height), (right - width, bottom), (right, top), (left, (top + bottom - height) // 2),
        *((left, bottom + step * height) for step in range(1, _STACKED)),
    ]  # fmt: skip
    if top < height:  # over it would be out of the picture
        places = [*places[2:], *places[:2]]
    found = []
    for x, y in places:
        x, y = _inside(x, canvas.shape[1] - width), _inside(y, canvas.shape[0] - height)
        found.append(Tag(text, x, y, x + width, y + height))
    return next((tag for tag in found if not any(tag.over(other) for other in tags)), found[0])


def _inside(start: int, last: int) -> int:
    return max(0, min(start, last))


def _pad(scale: float) -> int:
    return max(2, round(3 * scale))


def _tag(canvas: Pixels, tag: Tag, colour: Colour, scale: float) -> None:
    """Write a name on its colour."""
    pad = _pad(scale)
    height = cv2.getTextSize(tag.text, _FONT, _LETTERS * scale, 1)[0][1]
    cv2.rectangle(canvas, (tag.left, tag.top), (tag.right - 1, tag.bottom - 1), colour, cv2.FILLED)
    _write(canvas, tag.text, (tag.left + pad, tag.top + pad + height), _LETTERS * scale, _ink(colour), scale)


def _write(canvas: Pixels, text: str, at: tuple[int, int], size: float, ink: Colour, scale: float) -> None:
    thick = max(1, round(scale * 0.9))
    cv2.putText(canvas, text, at, _FONT, size, ink, thick, cv2.LINE_AA)


def _panel(canvas: Pixels, found: Classification, labels: Sequence[str], scale: float) -> None:
    """The best classes with a bar each, at the lower left, on what is darkened for them."""
    rows = [(labels[label], score) for label, score in zip(found.label.tolist(), found.score.tolist(), strict=True)]
    if not rows:
        return
    height, width = canvas.shape[:2]
    size, pad = 0.55 * scale, max(4, round(8 * scale))
    line = round(26 * scale)
    rows = rows[: max(1, (height - 2 * pad) // line)]
    room = width - 4 * pad
    names = [_fitted(f"{name}", size, room * 2 // 3) for name, _ in rows]
    text = max(cv2.getTextSize(name, _FONT, size, 1)[0][0] for name in names)
    number = cv2.getTextSize("0.00", _FONT, size, 1)[0][0]
    bar = max(8, min(round(110 * scale), room - text - number - 2 * pad))
    panel = (min(width, text + number + bar + 4 * pad), len(rows) * line + 2 * pad)
    top = height - panel[1]
    part = canvas[max(0, top) :, : panel[0]]
    part[:] = (part * (1 - _PANEL)).astype(np.uint8)
    for row, (name, (_, score)) in enumerate(zip(names, rows, strict=True)):
        base = top + pad + row * line + round(19 * scale)
        ink: Colour = (255, 255, 255) if row == 0 else (205, 205, 205)
        _write(canvas, name, (pad, base), size, ink, scale)
        _write(canvas, f"{score:.2f}", (2 * pad + text, base), size, ink, scale)
        x = 3 * pad + text + number
        middle = base - round(6 * scale)
        half = max(2, round(5 * scale))
        cv2.rectangle(canvas, (x, middle - half), (x + bar, middle + half), (90, 90, 90), cv2.FILLED)
        full = round(bar * min(1.0, max(0.0, score)))
        cv2.rectangle(canvas, (x, middle - half), (x + full, middle + half), colour_of(0), cv2.FILLED)


def _fitted(text: str, size: float, width: int) -> str:
    """The text, cut where it would be wider."""
    if cv2.getTextSize(text, _FONT, size, 1)[0][0] <= width:
        return text
    while len(text) > 1 and cv2.getTextSize(f"{text}...", _FONT, size, 1)[0][0] > width:
        text = text[:-1]
    return f"{text.rstrip()}..."


def read_picture(path: Path) -> Pixels | None:
    """Return a picture file's pixels (H, W, 3) BGR, or the first frame of a video; None for anything else."""
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        video = quiet_opencv().VideoCapture(str(path))
        _, pixels = video.read()
        video.release()
    return cast("Pixels | None", pixels)
