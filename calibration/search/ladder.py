"""From all in INT8 to nearly all in float, the operation first that costs most accuracy for its arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

_OVERHEAD = 0.01
"""Of the network's arithmetic: what converting to float and back costs, so that small operations are not free."""
_MOST_FLOAT = 0.85
"""Of the arithmetic: with more in float INT8 is not worth its trouble."""


def order(alone_db: Mapping[str, float], macs: Mapping[str, int]) -> list[str]:
    """Operations, those first that should be in float first.

    `alone_db`: operation -> signal-to-noise of the network's predictions when it alone is INT8. Noise of different
    operations adds up, being independent, so that each one's share of all noise is known.
    """
    total = max(sum(macs[name] for name in alone_db), 1)
    harm = {name: 10 ** (-db / 10) / (macs[name] / total + _OVERHEAD) for name, db in alone_db.items()}
    return sorted(harm, key=lambda name: (-harm[name], name))


def rungs(ordered: Sequence[str], macs: Mapping[str, int]) -> Iterator[tuple[str, ...]]:
    """Sets of operations to keep in float, each with all of the one before: 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, ..."""
    total = max(sum(macs[name] for name in ordered), 1)
    for size in _sizes(len(ordered)):
        kept = tuple(ordered[:size])
        if sum(macs[name] for name in kept) > _MOST_FLOAT * total:
            return
        yield kept


def _sizes(most: int) -> Iterator[int]:
    yield from range(min(4, most))
    size = 4
    while size < most:
        yield size
        if size * 3 // 2 < most:
            yield size * 3 // 2
        size *= 2
