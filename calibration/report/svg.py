"""Drawing in SVG, inside a page: elements, axes, and the words that appear over what is pointed at.

Colours come from the page's style sheet by class, so that a drawing follows light, dark and print. What a mark says
when it is hovered over, tapped or focused is a text of its own beside it, shown by the style sheet: no script.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class Drawn(str):
    """Markup that is escaped already; templates put it in as it is."""

    __slots__ = ()

    def __html__(self) -> Drawn:
        return self


def tag(name: str, *children: str, **attributes: str | float | None) -> Drawn:
    """Return an element. Text is escaped, `Drawn` is not; `class_` is `class`, `stroke_width` is `stroke-width`."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Drawn(f"<{name}{written}>{joined(children)}</{name}>")


def joined(parts: Iterable[str]) -> Drawn:
    """Elements and texts one after another."""
    return Drawn("".join(part if isinstance(part, Drawn) else html.escape(part) for part in parts))


def breakable(name: str) -> Drawn:
    """A path or a layer's name that may go on in the next line behind its separators."""
    return Drawn(re.sub(r"([/._:-]+)", r"\1<wbr>", html.escape(name)))


def _value(value: str | float) -> str:
    """Coordinates to a hundredth of a pixel: more only makes the page larger."""
    if isinstance(value, str):
        return html.escape(value)
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def text(x: float, y: float, words: str, class_: str = "", anchor: str = "start") -> Drawn:
    """Words at a place; `anchor`: start, middle or end of them is there."""
    return tag("text", words, x=x, y=y, class_=class_ or None, text_anchor=None if anchor == "start" else anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Drawn:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def rect(left: float, top: float, width: float, height: float, class_: str) -> Drawn:
    """A rectangle; one without any height is drawn as half a pixel, since it is there."""
    return tag("rect", x=left, y=top, width=max(width, 0.5), height=max(height, 0.5), class_=class_)


def chart(width: float, height: float, title: str, said: str, children: Iterable[str], class_: str = "") -> Drawn:
    """Return a whole drawing. `said` is what it shows, in words, for those who cannot see it."""
    return tag(
        "svg", tag("title", title), tag("desc", said), *children,
        viewBox=f"0 0 {_value(width)} {_value(height)}", role="img", aria_label=f"{title}. {said}",
        class_=f"chart {class_}".strip(),
    )  # fmt: skip


def told(x: float, width: float, lines: Sequence[str], size: float = 15) -> Drawn:
    """Lines at the top of a drawing, near `x`, that stay hidden until the mark they belong to is pointed at."""
    place = "start" if x < width / 3 else "end" if x > 2 * width / 3 else "middle"
    return tag(
        "g", *(text(x, size * (index + 1) - 2, words, anchor=place) for index, words in enumerate(lines)), class_="tip"
    )


def hint(x: float) -> Drawn:
    """What stands where marks speak, until one does."""
    return text(x, 13, "Point at a mark, or tap it, for its figures.", "hint")


def mark(*children: str) -> Drawn:
    """What can be pointed at; `tabindex` -1 lets a tap select it and keeps it out of the way of the keyboard."""
    return tag("g", *children, class_="mark", tabindex="-1")


@dataclass(frozen=True)
class Axis:
    """Values to pixels: `low` is drawn at `start`, `high` at `stop`."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """Pixel of a value; of one outside the axis, its end."""
        part = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + part * (self.stop - self.start)


def span(values: Iterable[float], *also: float) -> tuple[float, float]:
    """Lowest and highest of what is a number at all, a little apart if they are the same."""
    known = [value for value in (*values, *also) if math.isfinite(value)] or [0.0]
    low, high = min(known), max(known)
    return (low, high) if high - low > 1e-9 else (low - 0.5, high + 0.5)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values from `low` to `high`: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / max(about, 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def tick_text(value: float, low: float, high: float) -> str:
    """As few digits as tell the ticks apart."""
    digits = max(0, -math.floor(math.log10((high - low) / 5))) if high - low < 5 else 0
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}") if value else "0"


def rows(axis: Axis, left: float, right: float, about: int = 4) -> list[Drawn]:
    """Lines across for the ticks of a vertical axis, their values at the left."""
    drawn = []
    for value in ticks(axis.low, axis.high, about):
        y = axis(value)
        drawn.append(line(left, y, right, y, "grid"))
        drawn.append(text(left - 6, y + 4, tick_text(value, axis.low, axis.high), "tick", "end"))
    return drawn
