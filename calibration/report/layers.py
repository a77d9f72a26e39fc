"""The layers of a network in graph order: how noisy INT8 makes each, how much each hurts, and which stay in float."""

from __future__ import annotations

import math
from collections.abc import Sequence

from calibration.proof import Layer
from calibration.report.svg import Axis, Drawn, chart, hint, line, mark, rect, rows, span, tag, text, ticks, told
from calibration.report.verdict import by_sensitivity
from calibration.report.words import count, decibels, macs, shortened

_WIDTH = 940.0
_LEFT, _RIGHT = 52.0, 10.0
_TOP = 54.0
"""Room for what a mark says."""
_HIGH = 150.0
_GAP = 34.0
_STRIP = 12.0
_LEAST_PITCH = 3.0
"""Pixels a layer takes at least; a network of more layers than fit makes the drawing wider, and it scrolls."""
_NAMED = 5
"""Most sensitive layers that get their number in the table over their dot."""


def draw(layers: Sequence[Layer]) -> Drawn | None:
    """Bars of the noise in each layer's output over dots of its sensitivity; None without a layer."""
    if not layers:
        return None
    return _Chart(layers).drawn()


class _Chart:
    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers
        self._pitch = max((_WIDTH - _LEFT - _RIGHT) / len(layers), _LEAST_PITCH)
        self._right = _LEFT + self._pitch * len(layers)
        self._ranks = {id(layer): rank for rank, layer in enumerate(by_sensitivity(layers)[:_NAMED], 1)}
        self._noise = self._axis([layer.signal_to_noise_db for layer in layers], _TOP)
        alone = [layer.alone_db for layer in layers]
        top = _TOP if self._noise is None else _TOP + _HIGH + _GAP
        self._alone = self._axis(alone, top)
        panels = sum(axis is not None for axis in (self._noise, self._alone))
        self._strip = _TOP + panels * _HIGH + max(panels - 1, 0) * _GAP + 8

    @staticmethod
    def _axis(values: Sequence[float | None], top: float) -> Axis | None:
        known = [value for value in values if value is not None and math.isfinite(value)]
        if not known:
            return None
        low, high = span(known, 0.0)
        return Axis(low, high + (high - low) * 0.08, top + _HIGH, top)

    def drawn(self) -> Drawn:
        parts = [hint(_LEFT), *self._float_bands(), *self._frames()]
        parts += [self._mark(index, layer) for index, layer in enumerate(self._layers)]
        parts += self._numbers()
        return chart(
            self._right + _RIGHT, self._strip + _STRIP + 36, "Layers in graph order", self._said(), parts, "wide"
        )

    def _x(self, index: int) -> float:
        return _LEFT + self._pitch * index

    def _float_bands(self) -> list[Drawn]:
        """Behind everything, one for neighbours together."""
        drawn, start = [], None
        for index in range(len(self._layers) + 1):
            is_float = index < len(self._layers) and self._layers[index].precision == "float"
            if is_float and start is None:
                start = index
            elif not is_float and start is not None:
                drawn.append(rect(self._x(start), _TOP, self._x(index) - self._x(start), self._strip - _TOP, "band"))
                start = None
        return drawn

    def _frames(self) -> list[Drawn]:
        drawn: list[Drawn] = []
        for axis, title in (
            (self._noise, "signal-to-noise of each layer's output, dB"),
            (self._alone, "network's outputs when only this layer is INT8, dB: low is sensitive"),
        ):
            if axis is not None:
                drawn += rows(axis, _LEFT, self._right)
                drawn.append(text(_LEFT, axis.stop - 8, title, "axis"))
        return drawn

    def _mark(self, index: int, layer: Layer) -> Drawn:
        x, pitch = self._x(index), self._pitch
        kind = "float" if layer.precision == "float" else "int8"
        parts = [rect(x, _TOP, pitch, self._strip + _STRIP - _TOP, "hit")]
        inset = min(1.0, pitch * 0.15)
        if (
            self._noise is not None
            and layer.signal_to_noise_db is not None
            and not math.isnan(layer.signal_to_noise_db)
        ):
            y, zero = self._noise(layer.signal_to_noise_db), self._noise(0.0)
            parts.append(rect(x + inset, min(y, zero), pitch - 2 * inset, abs(y - zero), f"bar {kind}"))
        if self._alone is not None and layer.alone_db is not None and not math.isnan(layer.alone_db):
            y = self._alone(layer.alone_db)
            parts.append(line(x + pitch / 2, self._alone.start, x + pitch / 2, y, f"stem {kind}"))
            parts.append(tag("circle", cx=x + pitch / 2, cy=y, r=min(4.0, 2 + pitch / 8), class_=f"dot {kind}"))
        parts.append(rect(x + inset / 2, self._strip, pitch - inset, _STRIP, f"bar {kind}"))
        parts.append(told(x + pitch / 2, self._right, _words(index, layer)))
        return mark(*parts)

    def _numbers(self) -> list[Drawn]:
        """Ticks below, and the ranks of the most sensitive."""
        drawn = []
        axis = self._alone or self._noise
        for index, layer in enumerate(self._layers):
            rank = self._ranks.get(id(layer))
            value = layer.alone_db if self._alone else layer.signal_to_noise_db
            if rank is not None and axis is not None and value is not None:
                middle = self._x(index) + self._pitch / 2
                drawn.append(text(middle, axis(value) - 8, str(rank), "rank", "middle"))
        bottom = self._strip + _STRIP
        for tick in map(int, ticks(1, max(len(self._layers), 2), min(10, len(self._layers)))):
            if 1 <= tick <= len(self._layers):
                drawn += [text(self._x(tick - 1) + self._pitch / 2, bottom + 15, str(tick), "tick", "middle")]
        drawn.append(text(_LEFT, bottom + 31, "layer, in graph order; strip: INT8 or float", "axis"))
        return drawn

    def _said(self) -> str:
        kept = sum(layer.precision == "float" for layer in self._layers)
        said = f"{count(len(self._layers), 'layer')}, {kept} of them in float."
        worst = by_sensitivity(self._layers)[:3]
        if worst:
            said += " Most sensitive: " + ", ".join(
                f"{layer.name} ({decibels(layer.alone_db if self._alone else layer.signal_to_noise_db)})"
                for layer in worst
            )
            said += "."
        return said


def _words(index: int, layer: Layer) -> list[str]:
    """What a layer says of itself when it is pointed at."""
    kind = f"{'depthwise ' if layer.depthwise else ''}{layer.operator}"
    state = "INT8" if layer.precision == "int8" else f"float: {shortened(layer.reason or 'no reason given', 70)}"
    return [
        f"{index + 1}. {shortened(layer.name, 64)} · {kind} · {macs(layer.macs)} MACs",
        f"output {_exact(layer.signal_to_noise_db)} · alone in INT8 {_exact(layer.alone_db)} · {state}",
    ]


def _exact(value: float | None) -> str:
    return decibels(value) if value is None or not math.isfinite(value) else f"{value:.3f} dB"
