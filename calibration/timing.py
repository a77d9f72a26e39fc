"""How long networks take for one picture, measured side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from calibration.pictures import Progress
from calibration.pictures.sample import nobody
from engines.model import Model
from engines.pixels import Picture

ROUNDS = 60
_WARM_UP = 5
_FEWEST = 15


@dataclass(frozen=True)
class Timed:
    """One of the models."""

    ms: float
    """Median of its rounds: the network alone, from a prepared tensor to its outputs."""
    device: str
    """What it ran on, in the engine's words."""


def take_turns(
    models: Mapping[str, Model],
    picture: Picture,
    progress: Progress = nobody,
    rounds: int = ROUNDS,
    seconds: float = 10.0,
) -> dict[str, Timed]:
    """Run each model on the picture in turn, so that noise meets them alike, every other round in reverse order.

    Open them with one thread each. After `seconds` it ends early, but not before a few rounds. `progress` is
    called with the rounds done and planned. Raises EngineError.
    """
    batches = {
        name: model.engine.prepare([picture], [model.geometry(picture.image, picture.region)])
        for name, model in models.items()
    }
    tickets = {}
    taken: dict[str, list[float]] = {name: [] for name in models}
    order = list(models)
    started = time.monotonic()
    try:
        for done in range(_WARM_UP + rounds):
            for name in order:
                began_ns = time.perf_counter_ns()
                tickets[name] = models[name].engine.submit(batches[name])
                tickets[name].result()
                taken[name].append((time.perf_counter_ns() - began_ns) / 1e6)
            order.reverse()
            progress(done + 1, _WARM_UP + rounds)
            if done >= _WARM_UP + _FEWEST and time.monotonic() - started > seconds:
                break
    finally:
        for ticket in tickets.values():
            ticket.release()
    return {
        name: Timed(round(float(np.median(values[_WARM_UP:])), 3), str(models[name].engine.description["device"]))
        for name, values in taken.items()
    }
