"""Boxes over a picture that is on the page once and drawn several times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calibration.report.svg import Drawn, rect, tag
from calibration.report.words import shortened

_LETTER = 0.56
"""Width of a letter over its height, about."""
_Corners = tuple[float, float, float, float]
"""left, top, right, bottom in pixels of the embedded picture."""


@dataclass(frozen=True)
class Box:
    """One object, in source pixels."""

    xyxy: Sequence[float]
    kind: str
    """both, lost, new or truth: its class in the style sheet."""
    name: str
    """Written beside it."""
    told: str
    """Shown when it is pointed at."""


class Canvas:
    """Draws the embedded picture once more, with boxes over it."""

    def __init__(self, key: str, size: tuple[int, int], source: tuple[int, int]) -> None:
        self._key, self.size = key, size
        self._scale = size[0] / source[0], size[1] / source[1]
        self._letter = max(size) / 34
        self._shown: list[_Corners] = []

    def drawn(self, said: str, boxes: Sequence[Box] = ()) -> Drawn:
        """Return the drawing; `said` is what it shows, in words."""
        width, height = self.size
        return tag(
            "svg", tag("use", href=f"#{self._key}", width=width, height=height), *self._marks(boxes),
            viewBox=f"0 0 {width} {height}", preserveAspectRatio="xMinYMin meet", class_="picture", role="img",
            aria_label=said,
        )  # fmt: skip

    def _marks(self, boxes: Sequence[Box]) -> list[Drawn]:
        """All lines before all names, the best last, so that it lies on top."""
        placed = [(box, self._corners(box.xyxy)) for box in boxes]
        self._shown = [corners for _, corners in placed]
        lines = [self._outline(box, corners) for box, corners in reversed(placed)]
        return lines + [self._name(box, corners) for box, corners in placed]

    def _corners(self, xyxy: Sequence[float]) -> _Corners:
        sx, sy = self._scale
        left, top, right, bottom = xyxy
        return left * sx, top * sy, right * sx, bottom * sy

    def _outline(self, box: Box, corners: _Corners) -> Drawn:
        left, top, right, bottom = corners
        width, height = right - left, bottom - top
        return tag(
            "g", tag("title", box.told), rect(left, top, width, height, "edge"),
            rect(left, top, width, height, f"box {box.kind}"),
        )  # fmt: skip

    def _name(self, box: Box, corners: _Corners) -> Drawn:
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
        room = min(rooms, key=lambda room: sum(hidden(one, room) for one in self._shown))
        self._shown.append(room)
        return tag(
            "g", tag("title", box.told), rect(room[0], room[1], wide, high, f"plate {box.kind}"),
            tag("text", words, x=room[0] + self._letter * _LETTER / 2, y=room[1] + self._letter,
                font_size=self._letter, class_=f"name {box.kind}"),
        )  # fmt: skip


def hidden(one: _Corners, room: _Corners) -> float:
    """Share of a box or a name that lies under `room`."""
    width = min(one[2], room[2]) - max(one[0], room[0])
    height = min(one[3], room[3]) - max(one[1], room[1])
    area = (one[2] - one[0]) * (one[3] - one[1])
    return width * height / area if width > 0 and height > 0 and area > 0 else 0.0
