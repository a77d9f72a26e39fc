"""Figures as people read them: a true minus, units, and a word for what was not measured."""

from __future__ import annotations

import math

MINUS = "\N{MINUS SIGN}"
UNKNOWN = "not measured"


def number(value: float, digits: int = 2) -> str:
    """Fixed digits, and never a minus before zeros."""
    if not math.isfinite(value):
        return "no number" if math.isnan(value) else f"{MINUS if value < 0 else ''}\N{INFINITY}"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)


def points(value: float | None) -> str:
    """Points of 100; two digits, since budgets are down to .5 and losses below a tenth of that."""
    return UNKNOWN if value is None else number(value)


def interval(ends: tuple[float, float]) -> str:
    """`−0.12 to 0.70`."""
    return f"{number(ends[0])} to {number(ends[1])}"


def decibels(value: float | None) -> str:
    """`31.4 dB`; no noise at all is `exact`."""
    if value is None or math.isnan(value):
        return UNKNOWN
    return "exact" if value == math.inf else f"{number(value, 1)} dB"


def noise(decibel: float) -> str:
    """Size of the noise against that of the signal: 20 dB is a tenth."""
    if decibel < 0:
        return "noise larger than the signal"
    part = 10 ** (-decibel / 20)
    return f"noise of {number(100 * part, 1 if part < 0.1 else 0)} % of the signal"


def share(part: float, whole: float) -> str:
    """`12.3 %`; what is there but rounds to nothing is said to be there."""
    if whole <= 0:
        return UNKNOWN
    percent = 100 * part / whole
    return "under 0.1 %" if 0 < percent < 0.05 else f"{number(percent, 1)} %"


def macs(value: int) -> str:
    """`1.25 M`, of multiplications and additions."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return str(value)


def milliseconds(value: float) -> str:
    """`3.54 ms`."""
    return f"{number(value)} ms"


def count(many: int, thing: str) -> str:
    """`1 picture`, `79 pictures`."""
    return f"{many} {thing}{'' if many == 1 else 's'}"


def shortened(text: str, length: int) -> str:
    """The text, its middle cut out where it is longer: names of layers tell apart at both ends."""
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"
