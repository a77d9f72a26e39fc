"""A picture as two models see it: embedded once, with the boxes or classes of each drawn over it."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.errors import CalibrationError
from calibration.report.svg import Drawn, rect, tag
from calibration.report.words import count, number, shortened
from calibration.truth import Boxes
from engines.card import Input
from engines.pixels import Image, Picture, TensorWriter, fit
from engines.results import Classification, Detections, Result

_LARGEST = 560
"""Longer side of an embedded picture, pixels: what a column of the page has on a screen of double density."""
_QUALITY = 80
_SAME = 0.5
"""Least overlap (IoU) of two boxes of one label that are one object."""
_BOXES = 40
"""Boxes drawn over one picture, best first."""
_NAMED = 6
"""Objects that a line of text lists."""
_CLASSES = 5
_LETTER = 0.56
"""Width of a letter over its height, about."""


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
    canvas = _Canvas(key, size, pair.image.size)
    if isinstance(pair.a, Detections) and isinstance(pair.b, Detections):
        return _boxes(pair, pair.a, pair.b, names, symbol, canvas)
    if isinstance(pair.a, Classification) and isinstance(pair.b, Classification):
        return _classes(pair, pair.a, pair.b, names, symbol, canvas)
    raise ValueError(f"{pair.name}: a {type(pair.a).__name__} beside a {type(pair.b).__name__}")


_Corners = tuple[float, float, float, float]
"""left, top, right, bottom in pixels of the embedded picture."""


class _Canvas:
    """The picture once more, with boxes over it."""

    def __init__(self, key: str, size: tuple[int, int], source: tuple[int, int]) -> None:
        self._key, self.size = key, size
        self._scale = size[0] / source[0], size[1] / source[1]
        self._letter = max(size) / 34
        self._shown: list[_Corners] = []

    def drawn(self, said: str, marks: Sequence[Drawn] = ()) -> Drawn:
        width, height = self.size
        return tag(
            "svg", tag("use", href=f"#{self._key}", width=width, height=height), *marks,
            viewBox=f"0 0 {width} {height}", preserveAspectRatio="xMinYMin meet", class_="picture", role="img",
            aria_label=said,
        )  # fmt: skip

    def marks(self, boxes: Sequence[_Box]) -> list[Drawn]:
        """All lines before all names, the best last, so that it lies on top."""
        placed = [(box, self._corners(box.xyxy)) for box in boxes]
        self._shown = [corners for _, corners in placed]
        lines = [self._outline(box, corners) for box, corners in reversed(placed)]
        return lines + [self._name(box, corners) for box, corners in placed]

    def _corners(self, xyxy: Sequence[float]) -> _Corners:
        sx, sy = self._scale
        left, top, right, bottom = xyxy
        return left * sx, top * sy, right * sx, bottom * sy

    def _outline(self, box: _Box, corners: _Corners) -> Drawn:
        left, top, right, bottom = corners
        width, height = right - left, bottom - top
        return tag(
            "g", tag("title", box.told), rect(left, top, width, height, "edge"),
            rect(left, top, width, height, f"box {box.kind}"),
        )  # fmt: skip

    def _name(self, box: _Box, corners: _Corners) -> Drawn:
        """A name where it hides least of other names and of boxes: over its box, in it, under it or beside it."""
        left, top, right, bottom = corners
        high = self._letter * 1.3
        words = shortened(box.name, 26)
        wide = self._letter * _LETTER * (len(words) + 1)
        places = [
            (left, top - high), (left, top), (right - wide, top), (left, bottom), (right, top), (left - wide, top),
            (right, bottom - high), (left - wide, bottom - high), (left, bottom - high),
        ]  # fmt: skip
        rooms: list[_Corners] = []
        for x, y in places:
            x = min(max(x, 0.0), max(self.size[0] - wide, 0.0))
            y = min(max(y, 0.0), max(self.size[1] - high, 0.0))
            rooms.append((x, y, x + wide, y + high))
        room = min(rooms, key=lambda room: sum(_hidden(one, room) for one in self._shown))
        self._shown.append(room)
        return tag(
            "g", tag("title", box.told), rect(room[0], room[1], wide, high, f"plate {box.kind}"),
            tag("text", words, x=room[0] + self._letter * _LETTER / 2, y=room[1] + self._letter,
                font_size=self._letter, class_=f"name {box.kind}"),
        )  # fmt: skip


def _hidden(one: _Corners, room: _Corners) -> float:
    """Share of a box or a name that lies under `room`."""
    width = min(one[2], room[2]) - max(one[0], room[0])
    height = min(one[3], room[3]) - max(one[1], room[1])
    area = (one[2] - one[0]) * (one[3] - one[1])
    return width * height / area if width > 0 and height > 0 and area > 0 else 0.0


@dataclass(frozen=True)
class _Box:
    xyxy: Sequence[float]
    kind: str
    """both, lost, new or truth: its class in the style sheet."""
    name: str
    told: str


def matches(a: Detections, b: Detections) -> dict[int, int]:
    """Rows of `a` -> rows of `b` that are the same object: of one label, best scores of `a` choosing first."""
    overlap = _iou(a.xyxy, b.xyxy)
    overlap[a.label[:, None] != b.label[None, :]] = 0
    found: dict[int, int] = {}
    for row in np.argsort(-a.score, kind="stable").tolist():
        if len(found) == len(b):
            break
        column = int(np.argmax(overlap[row]))
        if overlap[row, column] >= _SAME:
            found[row] = column
            overlap[:, column] = 0
    return found


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, M) intersection over union."""
    one, two = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    sides = np.clip(np.minimum(one[..., 2:], two[..., 2:]) - np.maximum(one[..., :2], two[..., :2]), 0, None)
    common = sides[..., 0] * sides[..., 1]
    areas = [np.prod(x[..., 2:] - x[..., :2], axis=-1) for x in (one, two)]
    return np.asarray(common / np.maximum(areas[0] + areas[1] - common, 1e-9), np.float64)


def _boxes(
    pair: SideBySide, a: Detections, b: Detections, names: tuple[str, str], symbol: Drawn, canvas: _Canvas
) -> Shown:
    a, b = (found[found.score >= pair.threshold][:_BOXES] for found in (a, b))
    forth = matches(a, b)
    back = {column: row for row, column in forth.items()}
    views = [
        View(
            names[0],
            canvas.drawn(
                _alt(names[0], a, pair.labels), canvas.marks(list(_marks(a, b, forth, names, "lost", pair.labels)))
            ),
        ),
        View(
            names[1],
            canvas.drawn(
                _alt(names[1], b, pair.labels), canvas.marks(list(_marks(b, a, back, names[::-1], "new", pair.labels)))
            ),
        ),
    ]
    if isinstance(pair.truth, Boxes):
        truth = pair.truth
        views.insert(
            0,
            View(
                "What is there",
                canvas.drawn(_truth_alt(truth, pair.labels), canvas.marks(list(_truths(truth, pair.labels)))),
            ),
        )
    return Shown(pair.name, symbol, None, views, _difference(a, b, forth, names, pair.labels))


def _marks(
    own: Detections, other: Detections, same: dict[int, int], names: Sequence[str], alone: str, labels: Sequence[str]
) -> Iterator[_Box]:
    for row, (xyxy, score, label) in enumerate(
        zip(own.xyxy.tolist(), own.score.tolist(), own.label.tolist(), strict=True)
    ):
        place = ", ".join(number(edge, 1) for edge in xyxy)
        told = f"{labels[label]}\n{names[0]} {number(score, 4)}, box {place}"
        if row in same:
            told += f"\n{names[1]} {number(float(other.score[same[row]]), 4)}"
        else:
            told += f"\n{names[1]}: not found"
        yield _Box(xyxy, "both" if row in same else alone, f"{labels[label]} {number(score)}", told)


def _truths(truth: Boxes, labels: Sequence[str]) -> Iterator[_Box]:
    for xyxy, label, crowd in zip(truth.xyxy.tolist(), truth.label.tolist(), truth.crowd.tolist(), strict=True):
        name = f"{labels[label]}{' (crowd)' if crowd else ''}"
        yield _Box(xyxy, "truth", name, f"{name}\nbox {', '.join(number(edge, 1) for edge in xyxy)}")


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
    pair: SideBySide, a: Classification, b: Classification, names: tuple[str, str], symbol: Drawn, canvas: _Canvas
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
