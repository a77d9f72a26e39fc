"""How many operations stay in float: the fewest with which the budget is kept, and kept not by chance."""

from __future__ import annotations

from collections.abc import Sequence

AIM = 1 / 3
"""Of the budget. One of a dozen candidates may well be inside on a few hundred pictures by luck; other pictures are
held to the whole budget."""
HALF_DB = 3.0
NEARLY_FREE = 0.01
"""Of the network's arithmetic."""


def choose(losses: Sequence[float], budget: float) -> int | None:
    """Index of the first candidate that keeps the budget; None if none does.

    `losses`: points that candidates lose on the held-out pictures, from the fewest operations in float to the most.
    More operations in float never lose more, except by chance: candidates are judged by the non-increasing sequence
    that is nearest to the losses (isotonic regression). The first is taken that is within a third of the budget so,
    and within the budget itself; where there is none, the first within the budget both ways.
    """
    fitted = non_increasing(losses)
    for limit in (AIM * budget, budget):
        for index, (loss, fit) in enumerate(zip(losses, fitted, strict=True)):
            if loss <= budget and fit <= limit:
                return index
    return None


def worthwhile(place: int, output_db: Sequence[float], float_shares: Sequence[float], inside: Sequence[bool]) -> int:
    """Index of the candidate to take where `place` keeps the budget: the same, or a later one that is nearly free.

    Accuracy on few pictures hardly sees noise that other pictures may. As long as the next candidate has half of it or
    less for a hundredth of the arithmetic or less and is itself `inside` the budget, that one is taken.
    """
    for index in range(place, len(output_db) - 1):
        gained, paid = output_db[index + 1] - output_db[index], float_shares[index + 1] - float_shares[index]
        if gained < HALF_DB or paid > NEARLY_FREE or not inside[index + 1]:
            return index
    return len(output_db) - 1


def non_increasing(values: Sequence[float]) -> list[float]:
    """Nearest non-increasing sequence by least squares: pools adjacent violators (Barlow et al. 1972)."""
    pools: list[tuple[float, int]] = []
    for value in values:
        pools.append((value, 1))
        while len(pools) > 1 and pools[-1][0] > pools[-2][0]:
            (later, n), (earlier, m) = pools.pop(), pools.pop()
            pools.append(((later * n + earlier * m) / (n + m), n + m))
    return [mean for mean, count in pools for _ in range(count)]
