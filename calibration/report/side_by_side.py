"""A picture as two models see it: embedded once, with the boxes or classes of each drawn over it."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.errors import CalibrationError
from calibration.report.matching import matches
from calibration.report.overlay import Box, Canvas
from calibration.report.svg import Drawn, tag
from calibration.report.words import count, number
from calibration.truth import Boxes
from engines.card import Input
from engines.pixels import Image, Picture, TensorWriter, fit
from engines.results import Classification, Detections, Result

_LARGEST = 560
"""Longer side of an embedded picture, pixels: what a column of the page has on a screen of double density."""
_QUALITY = 80
_BOXES = 40
"""Boxes drawn over one picture, best first."""
_NAMED = 6
"""Objects that a line of text lists."""
_CLASSES = 5


@dataclass(frozen=True, eq=False)
class SideBySide:
    """A picture, what two models say of it, and what is right if that is known."""

    name: str
    """As in `Worst.picture`."""
    image: Image
    """All of it, in any pixel format: what `Sample.read` gives."""
    a: Result
    """FP32, or the first of two that are compared; of `b`'s kind."""
    b: Result
    """INT8, or the second."""
    labels: Sequence[str]
    truth: Boxes | int | None = None
    """What is there: boxes, or the class's index; None: nobody said."""
    threshold: float = 0.3
    """Least score of a box that is shown: measures look at boxes that no user would see."""


@dataclass(frozen=True)
class Bar:
    """A class in a list."""

    label: str
    score: float
    right: bool
    """It is the picture's class."""


@dataclass(frozen=True)
class View:
    """One column: a heading over boxes in a picture, or over a list of classes."""

    heading: str
    drawn: Drawn | None = None
    bars: Sequence[Bar] = ()


@dataclass(frozen=True)
class Shown:
    """A picture of the page."""

    name: str
    symbol: Drawn
    """The pixels, drawn nowhere yet."""
    plain: Drawn | None
    """The picture itself, where nothing is drawn over it."""
    views: Sequence[View]
    differences: str
    """In words."""


def jpeg(image: Image) -> tuple[bytes, tuple[int, int]]:
    """JPEG of a picture, smaller where it is larger than a page needs, and its size (width, height).

    Pixels go the way that they go into a network (`engines.pixels`), so that what is seen here is what it saw.
    """
    width, height = image.size
    scale = min(1.0, _LARGEST / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    rgb: NDArray[np.uint8] = np.empty((3, size[1], size[0]), np.uint8)
    geometry = fit(image.size, None, Input(width=size[0], height=size[1], fit="stretch"))
    TensorWriter().write(Picture(image), geometry, rgb)
    done, data = cv2.imencode(".jpg", cv2.merge(list(rgb[::-1])), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise CalibrationError("a picture of the report cannot be encoded as JPEG")
    return data.tobytes(), size


def show(pair: SideBySide, names: tuple[str, str], number_: int) -> Shown:
    """Draw a pair; `number_` tells its pixels from those of the page's other pictures."""
    data, size = jpeg(pair.image)
    key = f"picture-{number_}"
    url = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    pixels = tag("image", href=url, width=size[0], height=size[1])
    symbol = tag("symbol", pixels, id=key, viewBox=f"0 0 {size[0]} {size[1]}")
    canvas = Canvas(key, size, pair.image.size)
    if isinstance(pair.a, Detections) and isinstance(pair.b, Detections):
        return _boxes(pair, pair.a, pair.b, names, symbol, canvas)
    if isinstance(pair.a, Classification) and isinstance(pair.b, Classification):
        return _classes(pair, pair.a, pair.b, names, symbol, canvas)
    raise ValueError(f"{pair.name}: a {type(pair.a).__name__} beside a {type(pair.b).__name__}")


def _boxes(
    pair: SideBySide, a: Detections, b: Detections, names: tuple[str, str], symbol: Drawn, canvas: Canvas
) -> Shown:
    a, b = (found[found.score >= pair.threshold][:_BOXES] for found in (a, b))
    forth = matches(a, b)
    back = {column: row for row, column in forth.items()}
    seen = [
        list(_seen(a, b, forth, names, "lost", pair.labels)),
        list(_seen(b, a, back, names[::-1], "new", pair.labels)),
    ]
    said = [_alt(name, found, pair.labels) for name, found in zip(names, (a, b), strict=True)]
    views = [View(name, canvas.drawn(words, boxes)) for name, words, boxes in zip(names, said, seen, strict=True)]
    if isinstance(pair.truth, Boxes):
        there = canvas.drawn(_truth_alt(pair.truth, pair.labels), list(_truths(pair.truth, pair.labels)))
        views.insert(0, View("What is there", there))
    return Shown(pair.name, symbol, None, views, _difference(a, b, forth, names, pair.labels))


def _seen(
    own: Detections, other: Detections, same: dict[int, int], names: Sequence[str], alone: str, labels: Sequence[str]
) -> Iterator[Box]:
    for row, (xyxy, score, label) in enumerate(
        zip(own.xyxy.tolist(), own.score.tolist(), own.label.tolist(), strict=True)
    ):
        place = ", ".join(number(edge, 1) for edge in xyxy)
        told = f"{labels[label]}\n{names[0]} {number(score, 4)}, box {place}"
        if row in same:
            told += f"\n{names[1]} {number(float(other.score[same[row]]), 4)}"
        else:
            told += f"\n{names[1]}: not found"
        yield Box(xyxy, "both" if row in same else alone, f"{labels[label]} {number(score)}", told)


def _truths(truth: Boxes, labels: Sequence[str]) -> Iterator[Box]:
    for xyxy, label, crowd in zip(truth.xyxy.tolist(), truth.label.tolist(), truth.crowd.tolist(), strict=True):
        name = f"{labels[label]}{' (crowd)' if crowd else ''}"
        yield Box(xyxy, "truth", name, f"{name}\nbox {', '.join(number(edge, 1) for edge in xyxy)}")


def _listed(names: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _scored(found: Detections, rows: Sequence[int], labels: Sequence[str]) -> str:
    return _listed([f"{labels[found.label[row]]} {number(float(found.score[row]))}" for row in rows])


def _alt(who: str, found: Detections, labels: Sequence[str]) -> str:
    if not len(found):
        return f"{who} finds nothing."
    return f"{who} finds {count(len(found), 'object')}: {_scored(found, range(len(found)), labels)}."


def _truth_alt(truth: Boxes, labels: Sequence[str]) -> str:
    if not len(truth.label):
        return "Nothing is there."
    return f"There: {_listed([labels[label] for label in truth.label.tolist()])}."


def _difference(
    a: Detections, b: Detections, forth: dict[int, int], names: tuple[str, str], labels: Sequence[str]
) -> str:
    lost = [row for row in range(len(a)) if row not in forth]
    new = [row for row in range(len(b)) if row not in forth.values()]
    said = f"{names[0]} finds {count(len(a), 'object')}, {names[1]} {len(b)}."
    if lost:
        said += f" Only {names[0]}: {_scored(a, lost, labels)}."
    if new:
        said += f" Only {names[1]}: {_scored(b, new, labels)}."
    if forth:
        row, column = max(forth.items(), key=lambda both: abs(float(a.score[both[0]]) - float(b.score[both[1]])))
        before, after = number(float(a.score[row])), number(float(b.score[column]))
        if before != after:
            said += f" Largest change of a score: {labels[a.label[row]]} {before} → {after}."
    return said


def _classes(
    pair: SideBySide, a: Classification, b: Classification, names: tuple[str, str], symbol: Drawn, canvas: Canvas
) -> Shown:
    truth = pair.truth if isinstance(pair.truth, int) else None
    views = [
        View(
            name,
            bars=[
                Bar(pair.labels[label], score, label == truth)
                for label, score in zip(found.label[:_CLASSES].tolist(), found.score[:_CLASSES].tolist(), strict=True)
            ],
        )
        for name, found in zip(names, (a, b), strict=True)
    ]
    said = []
    if len(a) and len(b):
        scores = [number(float(found.score[0]), 3) for found in (a, b)]
        best = [pair.labels[found.label[0]] for found in (a, b)]
        if best[0] == best[1]:
            said.append(f"Both say {best[0]}: {scores[0]} and {scores[1]}.")
        else:
            said.append(f"{names[0]} says {best[0]} ({scores[0]}), {names[1]} {best[1]} ({scores[1]}).")
    if truth is not None:
        said.append(f"It is {pair.labels[truth]}.")
    return Shown(pair.name, symbol, canvas.drawn(f"The picture {pair.name}"), views, " ".join(said))
