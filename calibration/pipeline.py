"""From pictures to an INT8 model with its proof, or to a refusal with the same proof.

    outcome = calibrate(Order(card, folder, samples, source="photos/"), work, stages)
    install(outcome, folder)

What was measured is written down in `work` as it is found, so that a run that was interrupted goes on there.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from calibration.differing import Answers, threshold_of
from calibration.errors import CalibrationError
from calibration.evaluation import Stages, evaluate, on_all_threads, open_to_measure, unnamed
from calibration.forward import Tensor
from calibration.journal import Journal, key_of
from calibration.layers import layers_of
from calibration.measures import Comparison, Measure
from calibration.measures.choose import measure_for
from calibration.pictures import Sample, Split, Way, distinct, enough, limited, set_hash, split, tensor
from calibration.proof import Data, Measured, Point, Proof, Set, Speed
from calibration.report import SideBySide, write_report
from calibration.report.page import require_jinja2
from calibration.search.auto import AUTO, SEARCH, Candidate, Found, Search
from calibration.search.choice import choose, worthwhile
from calibration.search.recipe import Recipe
from calibration.speeds import speeds
from calibration.truth import Boxes, Truth
from calibration.truth.read import read_truth
from calibration.versions import versions
from engines.assembly import check_card, write_model
from engines.backends.openvino import Config
from engines.card import CARD_FILE, Card, ModelFile, Quantisation, model_file, read_card, write_card
from engines.errors import CardError
from engines.graph import load, serialise
from engines.model import task_config
from engines.qdq import LARGEST_SHARE, WRITER, Table, already_quantised, lint, quantised_nodes
from engines.quiet import import_onnxruntime
from engines.results import Result
from engines.store import ModelStore

CALIBRATING = 32
HELD_OUT = 32
"""Different pictures that a run needs at least, of each kind."""
REPORT = "report.html"
_INT8 = "model.int8.onnx"


@dataclass(frozen=True)
class Order:
    """What is to be calibrated, and with what."""

    card: Card
    folder: Path
    samples: Sequence[Sample]
    source: str
    """Where the samples came from, for people; no credentials."""
    way: Way = "i420"
    labels: Path | None = None
    """What `calibration.truth.read` reads; None: FP32 itself is what INT8 is measured against."""
    most: int | None = None
    """Look at no more pictures than that."""
    budget: float | None = None
    """Points that may be lost; None: what the measure has for its own."""
    method: str = AUTO
    keep: tuple[str, ...] = ()
    """Operations that stay in float whatever is found."""
    held_out: float = 0.5
    """Share of the pictures that prove."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """An INT8 model and its proof; whether it may be installed is `proof.measured.inside`."""

    order: Order
    proof: Proof
    table: Table
    int8: onnx.ModelProto
    worst: tuple[SideBySide, ...]


def calibrate(order: Order, work: Path, stages: Stages = unnamed) -> Outcome:
    """Search for a table and prove it on pictures that took no part in the search.

    The same order on the same machine gives the same table and the same INT8 bytes. `work`: a folder for what is found
    on the way, kept by the caller until a run has ended well. Raises CalibrationError, EngineError.
    """
    return _Run(order, work, stages).outcome()


class _Run:
    def __init__(self, order: Order, work: Path, stages: Stages) -> None:
        self._order, self._stages = order, stages
        self._card = order.card
        # What would end the run after hours ends it now.
        import_onnxruntime()
        require_jinja2()
        path = model_file(order.card, order.folder, "fp32")
        self._fp32 = load(path)
        if node := already_quantised(self._fp32):
            raise CalibrationError(f"{path}: is quantised already ({node}); calibrate the float model it was made from")
        _check_kept(order.keep, self._fp32)
        self._found = distinct(order.samples, stages("looking for pictures that show the same"))
        self._parts, self._truth = self._divided()
        known = key_of(
            self._card.files["fp32"].sha256,
            self._card.input.model_dump(),
            self._card.task,
            self._card.labels,
            order.way,
            [sample.digest for sample in self._parts.calibration],
            [sample.digest for sample in self._parts.held_out],
            None if self._truth is None else [key_of(_told(self._truth, one.name)) for one in self._parts.held_out],
            order.method,
            order.keep,
            (versions(), WRITER, SEARCH),
        )
        self._journal = Journal(work / known[:16])

    def _divided(self) -> tuple[Split, Truth | None]:
        """Divide the pictures in those that calibrate and those, labelled if there are labels, that prove."""
        order = self._order
        kept = list(self._found.kept)
        if order.most is not None:
            kept = limited(kept, order.most)
        parts, truth = split(kept, order.held_out), None
        if order.labels is not None:
            finds_boxes = task_config(self._card).finds_boxes
            truth = read_truth(order.labels, kept, self._card.labels, finds_boxes, partial=True)
            labelled = tuple(sample for sample in parts.held_out if sample.name in truth.of)
            parts = Split(parts.calibration, labelled, parts.share)
        enough(parts, CALIBRATING, HELD_OUT)
        return parts, truth

    def outcome(self) -> Outcome:
        held_out = self._parts.held_out
        fp32 = self._results(self._card, self._order.folder, "fp32", "FP32 on the held-out pictures")
        # Before the search, which takes long: labels that are wrong show here.
        measure = measure_for(self._card, held_out, self._truth, fp32)
        budget = measure.budget if self._order.budget is None else self._order.budget
        search = Search(self._fp32, self._tensors(), set_hash(self._parts.calibration), self._journal, self._stages)
        found = search.run(self._order.method, self._order.keep)
        losses = self._losses(search, found, measure, fp32)
        place = choose([loss for loss, _ in losses], budget)
        inside = place is not None
        if place is None:
            place = min(range(len(losses)), key=lambda index: losses[index][0])
        else:
            total = sum(found.macs[str(node.name)] for node in quantised_nodes(self._fp32))
            place = worthwhile(
                place,
                [candidate.output_db for candidate in found.ladder],
                [candidate.float_macs / max(total, 1) for candidate in found.ladder],
                [loss <= budget for loss, _ in losses],
            )
        recipe = found.ladder[place].recipe
        table, int8 = search.table(recipe), search.int8(recipe)
        lint(int8)
        self._check_share(table)
        written = self._written(int8)
        results = self._int8_results(written, "INT8 on the held-out pictures")
        comparison = measure.compare(fp32, results)
        threshold = threshold_of(task_config(self._card))
        answers = Answers(held_out, fp32, results, self._card.labels, self._truth, threshold)
        proof = Proof(
            model=self._card.name,
            fp32_sha256=self._card.files["fp32"].sha256,
            int8_sha256=written[1].sha256,
            table_sha256=hashlib.sha256(table.text().encode()).hexdigest(),
            method=recipe.words,
            data=self._data(),
            measured=_measured(comparison, budget, inside=inside and comparison.loss <= budget),
            layers=layers_of(self._fp32, int8, table, found, search.tuning, self._stages),
            trade_off=_points(found, losses, place),
            speed=self._speed(written),
            worst=answers.worst(measure),
            versions=versions(),
        )
        return Outcome(self._order, proof, table, int8, tuple(answers.side_by_side(proof.worst)))

    def _tensors(self) -> list[Callable[[], Tensor]]:
        def made(sample: Sample) -> Tensor:
            return tensor(sample, self._card.input)[0]

        return [partial(made, sample) for sample in self._parts.calibration]

    def _losses(
        self, search: Search, found: Found, measure: Measure, fp32: Sequence[Result]
    ) -> list[tuple[float, tuple[float, float]]]:
        """What each rung of the ladder loses on the held-out pictures, and its interval."""
        losses = []
        progress = self._stages("proving how many operations must stay in float")
        for done, candidate in enumerate(found.ladder, 1):
            recipe = candidate.recipe

            def lost(recipe: Recipe = recipe) -> tuple[float, tuple[float, float]]:
                comparison = measure.compare(fp32, self._int8_results(self._written(search.int8(recipe))))
                return comparison.loss, comparison.interval

            key = key_of("loss", measure.name, recipe.words, recipe.kept_float)
            loss, (low, high) = self._journal.answer(key, lost)
            losses.append((float(loss), (float(low), float(high))))
            progress(done, len(found.ladder))
        return losses

    def _int8_results(self, written: tuple[Path, ModelFile], stage: str | None = None) -> list[Result]:
        """Results of a written network on the held-out pictures, by the engine that the agent would run it on."""
        folder, entry = written
        card = self._card.model_copy(update={"files": {"int8": entry}})
        return self._results(card, folder, "int8", stage)

    def _written(self, int8: onnx.ModelProto) -> tuple[Path, ModelFile]:
        """Write a network into the run's folder, in place of the one before: where, and its entry of a card."""
        folder = self._journal.folder / "candidate"
        try:
            folder.mkdir(exist_ok=True)
            return folder, write_model(int8, folder / _INT8)
        except OSError as error:
            raise CalibrationError(f"{folder}: cannot be written ({error.strerror}): make room there") from None

    def _results(self, card: Card, folder: Path, precision: Any, stage: str | None) -> list[Result]:
        model = open_to_measure(card, folder, precision, on_all_threads(Config()))
        try:
            progress = unnamed("") if stage is None else self._stages(stage)
            return evaluate(model, self._parts.held_out, progress)
        finally:
            model.close()

    def _speed(self, written: tuple[Path, ModelFile]) -> Speed:
        folder, entry = written
        card = self._card.model_copy(update={"files": {**self._card.files, "int8": entry}})
        folders = {"fp32": self._order.folder, "int8": folder}
        return speeds(card, folders, self._parts.held_out[0], self._stages("timing both by turns, one thread"))

    def _check_share(self, table: Table) -> None:
        share = table.share(len(serialise(self._fp32)))
        if share > LARGEST_SHARE:
            raise CalibrationError(
                f"{self._card.name}: the table would be {share:.2%} of the model's size, at most "
                f"{LARGEST_SHARE:.0%} are allowed"
            )

    def _data(self) -> Data:
        return Data(
            source=self._order.source,
            way=self._order.way,
            found=len(self._order.samples),
            duplicates=len(self._found.dropped),
            calibration=_set(self._parts.calibration),
            held_out=_set(self._parts.held_out),
            labelled=self._truth is not None,
        )


def install(outcome: Outcome, target: Path) -> Path:
    """Make `target` the folder of the model with its INT8 file, proof and report; returns its card's path.

    It is replaced as a whole or stays as it was. Raises CalibrationError where the proof is not inside its budget or
    the disk is full, CardError where `target` is something else than a model.
    """
    order, proof = outcome.order, outcome.proof
    if not proof.measured.inside:
        raise CalibrationError(f"{proof.model}: not installed, its INT8 form is outside the budget")
    source = model_file(order.card, order.folder, "fp32")
    try:
        with ModelStore(target.parent).install(target.name) as folder:
            shutil.copyfile(source, folder / order.card.files["fp32"].path)
            (folder / "table.json").write_text(outcome.table.text(), encoding="utf-8")
            entry = write_model(outcome.int8, folder / _INT8)
            files = {**order.card.files, "int8": entry.model_copy(update={"quantisation": _quantisation(outcome)})}
            card = order.card.model_copy(update={"files": files})
            check_card(card, outcome.int8)
            write_report(proof, outcome.worst, folder / REPORT)
            write_card(card, folder)
    except OSError as error:
        raise CalibrationError(f"{target}: cannot be written ({error.strerror}); what was there is as it was") from None
    return target / CARD_FILE


def check_target(target: Path, name: str) -> None:
    """Raise CardError, CalibrationError where the model of that name may not or cannot become the folder `target`.

    What `install` would refuse, asked before a search that takes long.
    """
    if (target / CARD_FILE).is_file():
        if (there := read_card(target).name) != name:
            raise CalibrationError(f"{target}: is the folder of another model, {there}; name another one")
    elif target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise CardError(f"{target}: is there already, and is no model (it has no {CARD_FILE}); move it away")
    nearest = next(folder for folder in target.parents if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise CalibrationError(f"{target}: cannot be written: {nearest} is no folder that you may write to")


def _check_kept(keep: Sequence[str], fp32: onnx.ModelProto) -> None:
    """Raise CalibrationError for an operation that INT8 would not take anyway, and where nothing is left for INT8."""
    known = [str(node.name) for node in quantised_nodes(fp32)]
    for name in keep:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, known[:5]))}, …"
            raise CalibrationError(f"--keep {name}: the model has no such operation that INT8 could do; {hint}")
    if known and set(known) <= set(keep):
        raise CalibrationError(f"--keep names all {len(known)} operations that INT8 could do: nothing is left to do")


def _told(truth: Truth, name: str) -> Any:
    """What is true of a picture, as JSON."""
    told = truth.of[name]
    return [part.tolist() for part in vars(told).values()] if isinstance(told, Boxes) else int(told)


def _set(samples: Sequence[Sample]) -> Set:
    return Set(pictures=len(samples), hash=set_hash(samples))


def _measured(comparison: Comparison, budget: float, *, inside: bool) -> Measured:
    return Measured(
        metric=comparison.metric,
        fp32=comparison.a,
        int8=comparison.b,
        loss=comparison.loss,
        interval=comparison.interval,
        pictures=comparison.pictures,
        budget=budget,
        inside=inside,
        resolved=comparison.resolves(budget),
        resolution=comparison.resolution,
        pictures_needed=comparison.pictures_needed(budget),
        details=comparison.details,
    )


def _points(found: Found, losses: Sequence[tuple[float, tuple[float, float]]], place: int) -> tuple[Point, ...]:
    def point(candidate: Candidate, **more: Any) -> Point:
        return Point(
            method=candidate.recipe.words,
            kept_float=candidate.recipe.kept_float,
            float_macs=candidate.float_macs,
            output_db=candidate.output_db,
            **more,
        )

    climbed = [
        point(candidate, loss=loss, interval=interval, chosen=index == place)
        for index, (candidate, (loss, interval)) in enumerate(zip(found.ladder, losses, strict=True))
    ]
    return (*(point(candidate) for candidate in found.tried), *climbed)


def _quantisation(outcome: Outcome) -> Quantisation:
    proof, table = outcome.proof, outcome.table
    measured = proof.measured
    return Quantisation(
        table=proof.table_sha256,
        method=table.method,
        calibration_set=table.calibration_set,
        pictures=table.pictures,
        kept_float=table.kept_float,
        accuracy={
            "metric": measured.metric,
            "fp32": round(measured.fp32 / 100, 4),
            "int8": round(measured.int8 / 100, 4),
            "interval": [round(edge / 100, 4) for edge in measured.interval],
            "pictures": measured.pictures,
            "set": proof.data.held_out.hash,
        },
        proof=proof.model_dump(mode="json", by_alias=True),
    )
