"""`scripts/accuracy DATA [--write]`: what INT8 loses and gains, calibrated on one split and scored on the other.

DATA is any folder with labelled pictures: COCO jsons, CSVs of classes, or folders per class. Two splits that lie side
by side are used both ways, and a set without splits is divided in two. Calibrating sees one split alone. FP32 and INT8
are then compared on all of the other, paired, on OpenVINO at float32, and timed by turns on one thread.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from agent.commands._fetch import pull_with_bar
from agent.commands._measuring import bars
from agent.exits import EX_INTERRUPTED
from calibration.errors import CalibrationError
from calibration.evaluation import Stages, evaluate, open_to_measure
from calibration.measures import Comparison
from calibration.measures.choose import measure_for
from calibration.pictures import Sample, Way, distinct, from_folder, limited, split
from calibration.pipeline import Order, calibrate
from calibration.proof import Speed
from calibration.search.auto import AUTO
from calibration.search.methods import checked
from calibration.speeds import speeds
from calibration.truth.read import read_truth
from engines.assembly import write_model
from engines.backends.openvino import Config
from engines.card import Card, sha256_of
from engines.catalogue import Url, entry
from engines.errors import EngineError
from engines.model import task_config
from engines.results import Result
from engines.store import ModelStore, default_root
from tests.prove.record import section, table
from tests.support.datasets import Dataset, Kind, Part, datasets

MET, MISSED, NOT_MEASURED = 0, 1, 2
"""Exit statuses."""
_PICTURES_AT_ONCE = 1_000
_QUICK = "percentile 99.99"


@dataclass(frozen=True)
class Target:
    """What INT8 of a model must reach."""

    kind: Kind
    loss: float
    """Points of 100 of top-1 or AP that may be lost, at most."""
    speed: float
    """Times as fast as float32 on one thread, at least."""
    bfloat16: Literal["not slower", "faster"] | None = None
    """Than bfloat16 alone, with bfloat16 for what stays in float; where the processor has it."""


TARGETS = {
    "efficientnet-lite0": Target("classes", 0.5, 2.0),
    "person-ssdlite": Target("boxes", 0.5, 2.0),
    "nanodet-m": Target("boxes", 0.5, 1.35, "not slower"),
    "yolox-nano": Target("boxes", 0.8, 1.35, "faster"),
}


@dataclass(frozen=True)
class Half:
    """The pictures of a split that are labelled, and their labels."""

    name: str
    samples: Sequence[Sample]
    labels: Path


@dataclass(frozen=True)
class Figures:
    """What was measured of one model in one direction."""

    compared: Comparison
    speed: Speed
    method: str
    kept_float: int
    operations: int
    refused: bool
    """Whether `calibrate` would not have installed it, by what its own held-out pictures say."""


@dataclass(frozen=True)
class Check:
    """One target: what was measured, and whether it is met."""

    said: str
    met: bool


def verdict(target: Target, figures: Figures) -> list[Check]:
    """All that the target asks for. Pure: the same figures give the same answer."""
    compared, speed = figures.compared, figures.speed
    low, high = compared.interval
    checks = [
        Check(
            f"loses {compared.loss:.2f} points of {compared.metric} ({compared.a:.2f} to {compared.b:.2f}, 95 %: "
            f"{low:.2f} to {high:.2f}), {target.loss:g} allowed",
            compared.loss <= target.loss,
        ),
        Check(f"{speed.ratio:.2f} times f32, {target.speed:g} wanted", speed.ratio >= target.speed),
    ]
    if target.bfloat16 is not None and speed.bf16_ms is not None and speed.int8_bf16_ms is not None:
        faster = speed.int8_bf16_ms < speed.bf16_ms
        met = faster or (target.bfloat16 == "not slower" and speed.int8_bf16_ms == speed.bf16_ms)
        said = f"{speed.int8_bf16_ms:.2f} ms with bf16, bf16 alone {speed.bf16_ms:.2f}, {target.bfloat16} wanted"
        checks.append(Check(said, met))
    if figures.refused:
        checks.append(Check("calibrate refuses it: outside the budget on its own held-out pictures", met=False))
    return checks


def exit_status(checks: Sequence[Check], *, complete: bool) -> int:
    """1 if a target is missed; else 2 if something could not be measured; else 0."""
    if not all(check.met for check in checks):
        return MISSED
    return MET if complete and checks else NOT_MEASURED


def model_of(name: str, folder: Path | None) -> tuple[Card, Path]:
    """A model of the catalogue: the installed one, else of a weights file in the folder, else fetched.

    Raises EngineError.
    """
    store, wanted = ModelStore(default_root()), entry(name).fetch
    if name in store.names():
        return store.find(name)
    if isinstance(wanted, Url) and folder is not None and folder.is_dir():
        known = {wanted.sha256, *wanted.also}
        for path in sorted(folder.iterdir()):
            if path.is_file() and sha256_of(path) in known:
                return pull_with_bar(name, store, path)
    return pull_with_bar(name, store)


def halves(dataset: Dataset, card: Card, way: Way, most: int | None, stages: Stages) -> tuple[Half, Half]:
    """Both splits, those pictures of them that have labels. Raises DatasetError."""
    if len(dataset.parts) == 1:
        (part,) = dataset.parts
        kept = distinct(_labelled(part, card, way, stages), stages("looking for pictures that show the same")).kept
        divided = split(kept if most is None else limited(kept, 2 * most), 0.5, salt="halves")
        return (
            Half(f"{dataset.name}, half 1", divided.calibration, part.labels),
            Half(f"{dataset.name}, half 2", divided.held_out, part.labels),
        )
    first, second = (
        Half(_called(dataset, part), _labelled(part, card, way, stages, most), part.labels) for part in dataset.parts
    )
    # A picture that is in both would have calibrated what it scores.
    seen = {sample.digest for sample in first.samples}
    return first, replace(second, samples=[sample for sample in second.samples if sample.digest not in seen])


def _called(dataset: Dataset, part: Part) -> str:
    shared = len({part.folder for part in dataset.parts}) == 1
    return part.labels.stem if shared else part.folder.name


def _labelled(part: Part, card: Card, way: Way, stages: Stages, most: int | None = None) -> list[Sample]:
    samples = from_folder(part.folder, way, stages(f"reading {part.folder.name}"))
    known = read_truth(part.labels, samples, card.labels, task_config(card).finds_boxes, partial=True).of
    found = [sample for sample in samples if sample.name in known]
    return found if most is None else limited(found, most)


@dataclass(frozen=True)
class Settings:
    """How everything is measured."""

    work: Path
    way: Way
    method: str
    budget: float | None
    samples: int | None
    quick: bool


def measured(card: Card, folder: Path, one: Half, other: Half, settings: Settings, stages: Stages) -> Figures:
    """Calibrate on one split alone, score on the other. Raises CalibrationError, EngineError."""
    work = settings.work / card.name / one.name.replace("/", "-").replace(" ", "-")
    work.mkdir(parents=True, exist_ok=True)
    order = Order(
        card, folder, one.samples, one.name,
        way=settings.way, labels=one.labels, method=settings.method,
        budget=TARGETS[card.name].loss if settings.budget is None else settings.budget,
    )  # fmt: skip
    outcome = calibrate(order, work, stages)
    made = card.model_copy(
        update={"files": {**card.files, "int8": write_model(outcome.int8, work / "model.int8.onnx")}}
    )
    folders = {"fp32": folder, "int8": work}
    truth = read_truth(other.labels, other.samples, card.labels, task_config(card).finds_boxes)
    fp32 = _results(made, folders, "fp32", other, stages)
    int8 = _results(made, folders, "int8", other, stages)
    return Figures(
        compared=measure_for(card, other.samples, truth, fp32).compare(fp32, int8),
        speed=speeds(made, folders, other.samples[0], stages("timing by turns, one thread")),
        method=outcome.proof.method,
        kept_float=len(outcome.table.kept_float),
        operations=len(outcome.proof.layers),
        refused=not outcome.proof.measured.inside,
    )


def _results(
    card: Card, folders: dict[str, Path], precision: Literal["fp32", "int8"], half: Half, stages: Stages
) -> list[Result]:
    config = Config(float_precision="f32").shared(len(os.sched_getaffinity(0)), _PICTURES_AT_ONCE)
    model = open_to_measure(card, folders[precision], precision, config)
    try:
        return evaluate(model, half.samples, stages(f"{precision} on {half.name}"))
    finally:
        model.close()


@dataclass(frozen=True)
class Line:
    """One direction of one model on one set."""

    model: str
    calibrated: str
    scored: str
    figures: Figures | None
    why_not: str = ""


def lines(names: Sequence[str], data: Path, models: Path | None, settings: Settings) -> Iterator[Line]:
    """Measure every model on every set of its kind, both ways; what cannot be measured says why."""
    try:
        sets = datasets(data, entry("efficientnet-lite0").label_names())
    except CalibrationError as error:
        yield from (Line(name, "", "", None, str(error)) for name in names)
        return
    for name in names:
        fitting = [dataset for dataset in sets if dataset.kind == TARGETS[name].kind]
        if not fitting:
            wants = "COCO json" if TARGETS[name].kind == "boxes" else "CSV of classes and no folder per class"
            yield Line(name, "", "", None, f"{data}: has no {wants} with pictures")
        for dataset in fitting:
            yield from _both_ways(name, dataset, models, settings)


def _both_ways(name: str, dataset: Dataset, models: Path | None, settings: Settings) -> Iterator[Line]:
    try:
        card, folder = model_of(name, models)
        with bars() as stages:
            first, second = halves(dataset, card, settings.way, settings.samples, stages)
    except (CalibrationError, EngineError) as error:
        yield Line(name, dataset.name, dataset.name, None, str(error))
        return
    ways = [(first, second), (second, first)]
    for one, other in ways[:1] if settings.quick else ways:
        print(f"{name}: calibrating on {one.name}, scoring on {other.name}", file=sys.stderr, flush=True)
        try:
            with bars() as stages:
                figures = measured(card, folder, one, other, settings, stages)
        except (CalibrationError, EngineError) as error:
            yield Line(name, one.name, other.name, None, str(error))
        else:
            yield Line(name, one.name, other.name, figures)


def row(line: Line) -> tuple[str, ...]:
    """A line of the table."""
    if line.figures is None:
        return (line.model, line.calibrated, line.scored, *[""] * 7, f"not measured: {line.why_not}")
    compared, speed, target = line.figures.compared, line.figures.speed, TARGETS[line.model]
    bfloat16 = "none here"
    if speed.bf16_ms is not None and speed.int8_bf16_ms is not None:
        bfloat16 = f"{speed.bf16_ms:.2f} / {speed.int8_bf16_ms:.2f}"
    kept = f"{line.figures.kept_float} of {line.figures.operations}; {line.figures.method}"
    checks = verdict(target, line.figures)
    return (
        line.model,
        line.calibrated,
        f"{line.scored} ({compared.pictures})",
        f"{compared.a:.2f}",
        f"{compared.b:.2f}",
        f"{compared.loss:.2f} ({compared.interval[0]:.2f} to {compared.interval[1]:.2f}); {target.loss:g}",
        f"{speed.fp32_ms:.2f} / {speed.int8_ms:.2f}",
        f"{speed.ratio:.2f}; {target.speed:g}",
        bfloat16,
        kept,
        "met" if all(check.met for check in checks) else "MISSED",
    )


HEADER = (
    "model", "calibrated on", "scored on", "FP32", "INT8", "loses (95 %); allowed", "ms f32 / INT8", "times; wanted",
    "bf16: ms FP32 / INT8", "operations in float; method", "",
)  # fmt: skip


def in_words(line: Line) -> list[str]:
    """Each target of a line, and whether it is met."""
    where = f"{line.model}, {line.calibrated} -> {line.scored}" if line.calibrated else line.model
    if line.figures is None:
        return [f"- {where}: not measured: {line.why_not}"]
    checks = verdict(TARGETS[line.model], line.figures)
    return [f"- {where}: {'met' if check.met else 'MISSED'}: {check.said}" for check in checks]


def report(found: Sequence[Line]) -> str:
    """The table, and each target in words."""
    said = [text for line in found for text in in_words(line)]
    devices = sorted({line.figures.speed.device for line in found if line.figures is not None})
    on = f"Points of 100; medians of one thread by turns, on {', '.join(devices)}.\n\n" if devices else ""
    return on + table(HEADER, [row(line) for line in found]) + "\n" + "\n".join(said) + "\n"


def main() -> int:
    """Measure, print, and with `--write` record in docs/measurements.md."""
    parser = argparse.ArgumentParser(prog="scripts/accuracy", description=__doc__)
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with labelled pictures, however deep")
    parser.add_argument("--only", choices=TARGETS, action="append", help="only this model; may be repeated")
    parser.add_argument("--samples", type=int, metavar="N", help="at most so many pictures of each split")
    parser.add_argument("--models", type=Path, metavar="DIR", help="weights files, instead of fetching them")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keeps what was found, for a run that goes on")
    parser.add_argument("--budget", type=float, metavar="X", help="points, for calibrate; else what may be lost")
    parser.add_argument("--method", type=_method, default=AUTO, help="how ranges are found, for calibrate")
    parser.add_argument("--as", dest="way", choices=("bgr", "i420"), default="i420", help="pixels of the models")
    parser.add_argument("--quick", action="store_true", help=f"one direction, {_QUICK} alone: does it run at all?")
    parser.add_argument("--write", action="store_true", help="record in docs/measurements.md")
    # The script works in the project's root; folders are meant where it was called.
    parser.add_argument("--here", type=Path, default=Path(), help=argparse.SUPPRESS)
    options = parser.parse_args()
    shared = os.environ.get("SIGHTWIRE_SHARED")
    models = options.here / options.models if options.models else (Path(shared) / "models" if shared else None)
    with tempfile.TemporaryDirectory(prefix="accuracy-") as temporary:
        settings = Settings(
            work=options.here / options.work if options.work else Path(temporary),
            way=options.way,
            method=_QUICK if options.quick else options.method,
            budget=options.budget,
            samples=options.samples,
            quick=options.quick,
        )
        try:
            found = []
            for line in lines(options.only or list(TARGETS), options.here / options.data, models, settings):
                found.append(line)
                print("\n".join(in_words(line)), file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            goes_on = f"; the same with --work {options.work} goes on" if options.work else "; --work DIR would keep it"
            print(f"interrupted{goes_on}", file=sys.stderr)
            return EX_INTERRUPTED
    body = report(found)
    print(body)
    if options.write:
        # A run of some models leaves the section of all as it is.
        name = "-".join(["accuracy", *(options.only or ())])
        section(
            name,
            ", ".join(["Accuracy of INT8 across splits", *(options.only or ())]),
            f"scripts/accuracy {_arguments(options)}",
            body,
        )
    checks = [check for line in found if line.figures for check in verdict(TARGETS[line.model], line.figures)]
    return exit_status(checks, complete=all(line.figures is not None for line in found))


def _method(name: str) -> str:
    try:
        return checked(name)
    except CalibrationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _arguments(options: argparse.Namespace) -> str:
    """What matters of how it was called, without folders of this machine."""
    said = ["DATA", *(f"--only {name}" for name in options.only or ())]
    said += [f"--{name} {value}" for name in ("samples", "budget") if (value := getattr(options, name)) is not None]
    said += [f"--method '{options.method}'"] if options.method != AUTO else []
    said += ["--as bgr"] if options.way == "bgr" else []
    return " ".join([*said, *(["--quick"] if options.quick else [])])


if __name__ == "__main__":
    sys.exit(main())
