"""The search itself: observe, find the best recipe, find out what each operation costs, climb the ladder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.cost import macs
from calibration.errors import CalibrationError
from calibration.evaluation import Stages
from calibration.forward import Tensor
from calibration.journal import Journal, key_of
from calibration.ranges import METHODS, Observed, load, observe, save
from calibration.roles import depthwise, prediction_layers
from calibration.search.corrections import corrections
from calibration.search.equalise import exponents
from calibration.search.ladder import order, rungs
from calibration.search.noise import Noise
from calibration.search.recipe import Recipe, Seen, Step
from engines.qdq import LARGEST_SHARE, Table, activations, apply, equalised, pack_exponents, quantised_nodes, shiftable

AUTO = "auto"
SEARCH = 1
"""Raised whenever the search measures something else under an old name: what interrupted runs left is then void."""
TUNING = 24
"""Calibration pictures on which candidates are compared; evenly spread."""
_ALONE = 8
"""Of them, for what single operations cost: there are as many of those as operations."""
_BETTER_DB = 0.05
"""By which something must lessen the noise to be done."""


@dataclass(frozen=True)
class Candidate:
    """A recipe, and what is known of it before any accuracy is measured."""

    recipe: Recipe
    float_macs: int
    output_db: float


@dataclass(frozen=True)
class Found:
    """What the search brings to the proof."""

    tried: tuple[Candidate, ...]
    """Recipes that were compared."""
    ladder: tuple[Candidate, ...]
    """The best recipe, with more and more operations in float."""
    alone_db: dict[str, float]
    macs: dict[str, int]


class Search:
    """One network, its calibration pictures, and what was found out so far."""

    def __init__(
        self,
        fp32: onnx.ModelProto,
        pictures: Sequence[Callable[[], Tensor]],
        calibration_set: str,
        journal: Journal,
        stages: Stages,
    ) -> None:
        """`pictures`: make the tensors of all calibration pictures, anew each time; raise DatasetError."""
        self._fp32, self._journal, self._stages = fp32, journal, stages
        self._pictures = pictures
        step = max(1, len(pictures) // TUNING)
        self.tuning = [make() for make in pictures[::step][:TUNING]]
        """(1, 3, H, W) pictures on which candidates are compared."""
        self._size = fp32.ByteSize()
        self._nodes = [str(node.name) for node in quantised_nodes(fp32)]
        if not self._nodes:
            raise CalibrationError("the model has no convolution, matrix product or addition that INT8 could do")
        self._tensors = activations(quantised_nodes(fp32))
        self.macs = macs(fp32)
        observed = self._observe(fp32, "observed.npz", "observing activations")
        scaled = exponents(fp32, observed)
        self._seen = Seen(fp32, observed, {}, scaled, calibration_set, len(pictures))
        if scaled:
            trial = self._seen.table(Recipe(next(iter(METHODS)), feedback=False))
            graph = equalised(
                fp32,
                trial.model_copy(update={"equalisation": {name: pack_exponents(row) for name, row in scaled.items()}}),
            )
            self._seen = replace(
                self._seen, equalised=self._observe(graph, "equalised.npz", "observing what is equalised")
            )
        self._noise = Noise(fp32, self.tuning)
        self._corrections: dict[Recipe, dict[str, NDArray[np.float64]]] = {}

    def run(self, method: str = AUTO, keep: Sequence[str] = ()) -> Found:
        """Search with one method of finding ranges or with all; `keep` names operations that stay in float anyway."""
        fixed = tuple(name for name in self._nodes if name in set(keep))
        tried, best = self._best(tuple(METHODS) if method == AUTO else (method,), fixed)
        alone = self._alone(best, fixed)
        ladder = []
        steps = list(rungs(order(alone, self.macs), self.macs))
        progress = self._stages("comparing how many operations stay in float")
        for done, extra in enumerate(steps, 1):
            ladder.append(self._candidate(best.keeping(self._in_order({*fixed, *extra}))))
            progress(done, len(steps))
        return Found(tuple(tried), tuple(ladder), alone, self.macs)

    def table(self, recipe: Recipe) -> Table:
        """Return the table of a recipe."""
        return self._seen.table(recipe, self._shifts(recipe) if recipe.corrected else None)

    def int8(self, recipe: Recipe) -> onnx.ModelProto:
        """Return the INT8 network of a recipe."""
        return apply(self._fp32, self.table(recipe))

    def _best(self, methods: Sequence[str], fixed: tuple[str, ...]) -> tuple[list[Candidate], Recipe]:
        """Compare recipes where depthwise convolutions and prediction layers stay in float.

        With all in INT8 the few operations that will stay in float anyway would outshout all the others.
        """
        careful = self._in_order({*fixed, *depthwise(self._fp32), *prediction_layers(self._fp32)})
        steps: list[Step] = ["feedback"]
        if self._seen.exponents:
            steps.append("equalised")
        if shiftable(self._fp32, careful):
            steps.append("shifted")
        steps.append("corrected")
        tried: list[Candidate] = []
        progress = self._stages("comparing ways to find ranges and to round")

        def measured(recipe: Recipe) -> float:
            tried.append(self._candidate(recipe.keeping(careful)))
            progress(len(tried), len(methods) + len(steps))
            return tried[-1].output_db

        feedback = self._fits(Recipe(methods[0], kept_float=fixed))
        scores = {method: measured(Recipe(method, feedback)) for method in methods}
        best = Recipe(max(methods, key=lambda method: scores[method]), feedback)
        score = scores[best.method]
        for change in steps:
            other = best.changed(change)
            if not self._fits(other.keeping(fixed)):
                continue
            found = measured(other)
            if found > score + _BETTER_DB:
                best, score = other, found
        return tried, best

    def _fits(self, recipe: Recipe) -> bool:
        """Whether its table stays within the share of the model's size that a table may have."""
        return self.table(recipe).share(self._size) <= LARGEST_SHARE

    def _alone(self, recipe: Recipe, fixed: tuple[str, ...]) -> dict[str, float]:
        """Operation -> noise in dB when it alone is INT8."""
        free = [name for name in self._nodes if name not in fixed]
        recipe = replace(recipe, corrected=False)  # it changes little here, and would be found anew for each
        progress = self._stages("measuring what each operation costs")
        found = {}
        for done, name in enumerate(free, 1):
            others = tuple(other for other in self._nodes if other != name)
            found[name] = self._measured(recipe.keeping(others), _ALONE)
            progress(done, len(free))
        return found

    def _candidate(self, recipe: Recipe) -> Candidate:
        return Candidate(recipe, sum(self.macs[name] for name in recipe.kept_float), self._measured(recipe))

    def _measured(self, recipe: Recipe, most: int | None = None) -> float:
        key = key_of("noise", recipe.words, recipe.kept_float, most)
        return float(self._journal.answer(key, lambda: self._noise.of(self.int8(recipe), most)))

    def _shifts(self, recipe: Recipe) -> dict[str, NDArray[np.float64]]:
        """Return bias corrections, each of which depends on what becomes of its own node's input only.

        That is the same whatever stays in float, unless tensors can be shifted.
        """
        plain = replace(recipe, corrected=False, kept_float=recipe.kept_float if recipe.shifted else ())
        if plain not in self._corrections:
            self._corrections[plain] = corrections(self._fp32, self._seen.table(plain), self.tuning)
        return self._corrections[plain]

    def _observe(self, graph: onnx.ModelProto, name: str, stage: str) -> dict[str, Observed]:
        """Observe the network, or read what an interrupted run observed."""
        path = self._journal.folder / name
        if path.exists():
            try:
                return load(path)
            except CalibrationError:  # cut short by a full disk, say: observed anew
                path.unlink()
        progress, count = self._stages(stage), len(self._pictures)
        inputs = (make() for make in self._pictures)
        observed = observe(graph, self._tensors, inputs, lambda done: progress(done, count))
        save(observed, path)
        return observed

    def _in_order(self, names: set[str]) -> tuple[str, ...]:
        return tuple(name for name in self._nodes if name in names)
