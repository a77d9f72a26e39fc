"""The picture of a soak: memory, descriptors, threads and ages over time, with a mark for each fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, PANEL, LEFT, RIGHT, TOP, GAP = 900, 110, 70, 20, 46, 34
MARKS = {
    "camera": "#d97706",
    "burst": "#a16207",
    "broker": "#2563eb",
    "reload": "#16a34a",
}
"""First word of a fault's kind -> the colour of its mark."""


@dataclass(frozen=True)
class Line:
    """One curve."""

    name: str
    colour: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Panel:
    """Curves over one scale."""

    title: str
    lines: Sequence[Line]
    from_zero: bool = True


def svg(at_s: Sequence[float], panels: Sequence[Panel], marks: Sequence[tuple[float, str]], warm_s: float) -> str:
    """`at_s`: of the values; `marks`: when and what kind of fault; `warm_s`: the end of the warm-up."""
    height = TOP + len(panels) * (PANEL + GAP)
    span_s = max(at_s[-1], 1.0)

    def x(second: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * second / span_s

    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        *_legend(),
    ]
    for index, panel in enumerate(panels):
        top = TOP + index * (PANEL + GAP)
        drawn.append(f'<rect x="{LEFT}" y="{top}" width="{x(warm_s) - LEFT:.1f}" height="{PANEL}" fill="#f3f4f6"/>')
        for second, kind in marks:
            colour = MARKS[kind.split()[0]]
            drawn.append(
                f'<path d="M{x(second):.1f} {top}v{PANEL}" stroke="{colour}" stroke-width=".7" opacity=".55"/>'
            )
        drawn += _panel(panel, at_s, x, top)
    bottom = height - GAP + 16
    for part in range(7):
        second = span_s * part / 6
        label = f"{second / 60:.0f} min" if span_s > 600 else f"{second:.0f} s"
        drawn.append(f'<text x="{x(second):.1f}" y="{bottom}" text-anchor="middle" fill="#555">{label}</text>')
    return "\n".join([*drawn, "</svg>"]) + "\n"


def _legend() -> list[str]:
    drawn, at = [], LEFT
    for name, colour in MARKS.items():
        drawn.append(f'<path d="M{at} 14h16" stroke="{colour}" stroke-width="3"/>')
        drawn.append(f'<text x="{at + 20}" y="18">{name}</text>')
        at += 90
    drawn.append(f'<rect x="{at}" y="8" width="16" height="12" fill="#e5e7eb"/>')
    drawn.append(f'<text x="{at + 20}" y="18">warm-up</text>')
    return drawn


def _panel(panel: Panel, at_s: Sequence[float], x: Callable[[float], float], top: int) -> list[str]:
    known = [value for line in panel.lines for value in line.values if value is not None]
    low, high = (0.0 if panel.from_zero else min(known)), max(known)
    margin = max((high - low) * 0.08, 1.0)
    low, high = (low if panel.from_zero else low - margin), high + margin

    def y(value: float) -> float:
        return top + PANEL * (1 - (value - low) / (high - low))

    drawn = [f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{PANEL}" fill="none" stroke="#999"/>']
    for value in (low, (low + high) / 2, high):
        text = f"{value:.0f}" if high - low >= 2 else f"{value:.1f}"
        drawn.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end" fill="#555">{text}</text>')
    drawn.append(f'<text x="{LEFT}" y="{top - 6}">{panel.title}</text>')
    at = LEFT + 12 * len(panel.title) * 0.55 + 20
    for line in panel.lines:
        if len(panel.lines) > 1:
            drawn.append(f'<text x="{at:.0f}" y="{top - 6}" fill="{line.colour}">{line.name}</text>')
            at += 8 * len(line.name) + 16
        points = [(x(second), y(value)) for second, value in zip(at_s, line.values, strict=True) if value is not None]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="1.3"/>')
    return drawn
