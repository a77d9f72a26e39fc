"""A model: a task over an engine."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from pydantic import ValidationError

from engines.backends import BackendConfig
from engines.base import Engine, Raw
from engines.card import Card, Precision, model_file
from engines.errors import BackendError, CardError, ModelFileError
from engines.parts import find_part, find_parts
from engines.pixels import Box, Geometry, Image, Picture, fit
from engines.results import Result
from engines.tasks import Options, Task, TaskConfig, misfit

TASKS = ("engines.tasks", "sightwire.tasks")
"""Where tasks are found: package and entry point group."""
LINT = 2
"""Version of `engines.qdq.lint`: older verdicts do not count."""


class Model:
    """Pictures in, results out. Owned by one thread, as its engine is."""

    def __init__(self, card: Card, precision: Precision, engine: Engine, task: Task) -> None:
        self.card, self.precision, self.engine, self.task = card, precision, engine, task

    @property
    def name(self) -> str:
        """As it stands in payloads: `person-ssdlite@int8`. An engine may run another of the card's files than asked."""
        return f"{self.card.name}@{self.engine.description.get('precision', self.precision)}"

    def geometry(self, image: Image, region: Box | None) -> Geometry:
        """Where that region of the picture lies in the model's input."""
        return fit(image.size, region, self.card.input)

    def __call__(self, pictures: Sequence[Picture]) -> list[Result]:
        """Results of up to `engine.max_batch` pictures, waited for."""
        geometries = [self.geometry(p.image, p.region) for p in pictures]
        return self.read(self.engine(pictures, geometries), geometries)

    def read(self, raw: Raw, geometries: Sequence[Geometry]) -> list[Result]:
        """The task's results. Raises BackendError where there are none because the outputs are not numbers."""
        results = self.task.read(raw, geometries)
        # Tasks leave out what is not a number, so a network that overflows seems to see nothing, for ever.
        if not any(len(result) for result in results):
            for name, array in raw.items():
                if np.isnan(array.sum()):
                    raise BackendError(
                        f"{self.name}: output {name} is not a number (NaN): the network overflows or its file is "
                        "damaged; try it with 'sightwire models try', in fp32 or with another float_precision"
                    )
        return results

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()


def task_config(card: Card) -> TaskConfig:
    """The card's `task:`, validated. Raises CardError naming what is wrong."""
    kind = card.task.get("type")
    config = find_part(*TASKS, kind)
    if config is None:
        raise CardError(
            f"{card.name}: task.type: {kind!r} is not known, known: {', '.join(sorted(find_parts(*TASKS)))}"
        )
    try:
        return cast(TaskConfig, config.model_validate(card.task))
    except ValidationError as error:
        mistakes = "; ".join(f"task.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise CardError(f"{card.name}: {mistakes}") from None


def open_model(
    card: Card,
    folder: Path,
    precision: Precision,
    backend: BackendConfig,
    options: Options | None = None,
    *,
    serve: bool = False,
) -> Model:
    """Check the card's file of that precision, compile it and bind it to its task.

    `serve`: with whatever engine answers at once, where the one asked for is not to be had or takes long to make.
    Raises CardError, ModelFileError (LintError for INT8 that would be misread), BackendError.
    """
    config = task_config(card)
    try:
        task = config.open(card.labels, options or Options())
    except CardError as error:
        raise CardError(f"{card.name}: {error}") from None
    path = model_file(card, folder, precision)
    _check_graph(card, path, precision)
    engine = (backend.serve if serve else backend.build)(card, path, precision)
    try:
        _check_outputs(card, path, engine, config)
    except ModelFileError:
        engine.close()
        raise
    return Model(card, precision, engine, task)


def _check_graph(card: Card, path: Path, precision: Precision) -> None:
    """INT8 must be well-formed and proved, before any backend sees it."""
    if precision != "int8":
        return
    entry = card.files[precision]
    proved = entry.quantisation is not None and entry.quantisation.accuracy is not None
    if not (proved or entry.unproven):
        raise CardError(f"{card.name}: its INT8 file carries no accuracy proof; say `unproven: true` to run it anyway")
    # The same bytes (their sha256 was just compared) get the same verdict; not parsing them again saves a running
    # agent onnx: 0.15 s and 35 MB.
    stamp, verdict = f"{entry.sha256} {LINT}", path.with_suffix(".linted")
    if verdict.is_file() and verdict.read_text(encoding="utf-8", errors="replace") == stamp:
        return
    from engines.qdq import lint_file

    lint_file(path)
    with contextlib.suppress(OSError):  # a store that cannot be written to is linted each time
        verdict.write_text(stamp, encoding="utf-8")


def _check_outputs(card: Card, path: Path, engine: Engine, config: TaskConfig) -> None:
    found = {spec.name: spec.shape[1:] for spec in engine.outputs}
    if wrong := misfit(config, len(card.labels), (card.input.width, card.input.height), found):
        raise ModelFileError(f"{path}: {wrong}: the card does not fit it")
