"""What a model says of the pictures of a set: run as the agent runs it, read as measures need it."""

from __future__ import annotations

import contextlib
import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from calibration.measures.choose import reading
from calibration.pictures import Progress, Sample, limited
from calibration.pictures.sample import nobody
from calibration.truth import Truth
from engines.backends import BackendConfig
from engines.base import Ticket
from engines.card import Card, Precision
from engines.errors import EngineError
from engines.model import Model, open_model, task_config
from engines.pixels import Geometry, Image, Picture
from engines.results import Result

Stages = Callable[[str], Progress]
"""Called with the name of what begins; what it returns is told how far that is."""
_MANY = 1_000
"""Pictures that may be asked about at once: as many as keep every thread busy."""


def unnamed(stage: str) -> Progress:  # noqa: ARG001  # nobody wants to see it
    """Stages that nobody wants to see."""
    return nobody


@dataclass(frozen=True)
class Choice:
    """A model that is here, one of its files, and the backend to run it on."""

    name: str
    """For people; not that of another choice."""
    card: Card
    folder: Path
    precision: Precision
    backend: BackendConfig

    def open(self, only: Sequence[str] | None = None, threads: int | None = None) -> Model:
        """Open it to be measured: on all of the machine's threads for many pictures, or on `threads` for one at a time.

        Raises EngineError naming the choice.
        """
        backend = on_all_threads(self.backend) if threads is None else self.backend.shared(threads, 1)
        try:
            return open_to_measure(self.card, self.folder, self.precision, backend, only)
        except EngineError as error:
            raise type(error)(f"{self.name}: {error}") from None


def on_all_threads(backend: BackendConfig) -> BackendConfig:
    """Return the backend as it answers most pictures a second."""
    return backend.shared(len(os.sched_getaffinity(0)), _MANY)


def open_to_measure(
    card: Card, folder: Path, precision: Precision, backend: BackendConfig, only: Sequence[str] | None = None
) -> Model:
    """Open a model whose results are read as measures need them; its INT8 file needs no proof: this is how it gets one.

    `only`: labels that are reported at all. Raises as `engines.model.open_model`.
    """
    if precision in card.files:
        entry = card.files[precision].model_copy(update={"unproven": True})
        card = card.model_copy(update={"files": {**card.files, precision: entry}})
    options = reading(task_config(card)).model_copy(update={"only": None if only is None else tuple(only)})
    return open_model(card, folder, precision, backend, options)


def evaluate(model: Model, samples: Sequence[Sample], progress: Progress = nobody) -> list[Result]:
    """One result for each sample, in their order.

    As many batches are under way as the engine allows; pictures are read ahead of it, on as many threads as there are.
    Raises DatasetError for a picture that cannot be read, EngineError, both naming the picture.
    """
    results: list[Result] = []
    flights: deque[tuple[Ticket, list[Geometry], str]] = deque()

    def land() -> None:
        ticket, geometries, name = flights[0]
        try:
            results.extend(model.read(ticket.result(), geometries))
        except EngineError as error:
            raise type(error)(f"{name}: {error}") from None
        ticket.release()
        flights.popleft()
        progress(len(results), len(samples))

    try:
        with contextlib.closing(_read_ahead(samples)) as images:
            for first in range(0, len(samples), model.engine.max_batch):
                name = samples[first].name
                pictures = [Picture(image) for image in islice(images, model.engine.max_batch)]
                if len(flights) == model.engine.depth:
                    land()
                try:
                    geometries = [model.geometry(picture.image, picture.region) for picture in pictures]
                    ticket = model.engine.submit(model.engine.prepare(pictures, geometries))
                except EngineError as error:
                    raise type(error)(f"{name}: {error}") from None
                flights.append((ticket, geometries, name))
        while flights:
            land()
    finally:  # after a failure: the engine's slots are free again for its next user
        for ticket, _, _ in flights:
            with contextlib.suppress(EngineError):
                ticket.result()
            ticket.release()
    return results


def _read_ahead(samples: Sequence[Sample]) -> Generator[Image, None, None]:
    """The samples' pictures in order, no more of them in memory than the threads need to be busy."""
    threads = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(threads, thread_name_prefix="read") as pool:
        waiting: deque[Future[Image]] = deque()
        for sample in samples:
            waiting.append(pool.submit(sample.read))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def engine_in_words(model: Model) -> str:
    """`openvino 2026.4.0, f32, AMD EPYC`."""
    said = model.engine.description
    return ", ".join(str(said[key]) for key in ("backend", "float_precision", "device") if key in said)


def chosen(samples: Sequence[Sample], truth: Truth | None, most: int | None) -> list[Sample]:
    """The samples that have a truth, if there is any, and at most so many of them: by their content, not by name."""
    known = list(samples) if truth is None else [sample for sample in samples if sample.name in truth.of]
    return known if most is None else limited(known, most)


def common_labels(a: Sequence[str], b: Sequence[str]) -> tuple[str, ...]:
    """Labels that both have, in the order of `a`; of lists that differ, without those that stand twice in one."""
    if tuple(a) == tuple(b):
        return tuple(a)
    once = [{label for label, count in Counter(labels).items() if count == 1} for labels in (a, b)]
    return tuple(label for label in a if label in once[0] and label in once[1])


def relabelled(results: Sequence[Result], labels: Sequence[str], wanted: Sequence[str]) -> list[Result]:
    """Results of a model with `labels`, their rows numbered by `wanted`; rows of other labels are gone."""
    if tuple(labels) == tuple(wanted):
        return list(results)
    places = {label: index for index, label in enumerate(wanted)}
    number = np.array([places.get(label, -1) for label in labels], np.int32)
    kept = [result[number[result.label] >= 0] for result in results]
    return [replace(result, label=number[result.label]) for result in kept]
