"""Proves what INT8 loses against FP32, on pictures that did not calibrate.

    python -m calibration.old_proof efficientnet-lite0 --images photos/ --table new.table.json --rest-of 200
    python -m calibration.old_proof person-ssdlite --images val2017/ --coco instances_val2017.json

Prints JSON: the `accuracy` of a catalogue entry. Both networks run on OpenVINO at explicit float32.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from calibration.dataset import pictures_in, pictures_of_coco, prepare, set_hash, spread
from calibration.errors import CalibrationError, DatasetError
from calibration.measures.coco import average_precision
from engines.batch import compile_model
from engines.card import Card, model_file
from engines.errors import EngineError
from engines.graph import load
from engines.model import task_config
from engines.qdq import Table, apply
from engines.results import Classification, Result
from engines.store import ModelStore, default_root
from engines.tasks import Options, Task

_THRESHOLD = 0.01
"""Least score that counts for average precision; a detector's own threshold is for users."""
_TOP = 100
"""Detections a picture, as COCO has it."""
_SPEED_RUNS = 200


def results(card: Card, task: Task, model: onnx.ModelProto, paths: Sequence[Path]) -> list[Result]:
    """Return what a model says of each picture."""
    run = compiled(model)
    found = []
    for path in track(paths, "measuring", console=Console(stderr=True), transient=True):
        tensor, geometry = prepare(path, card.input)
        found += task.read(run(tensor), [geometry])
    return found


def compiled(model: onnx.ModelProto, threads: int = 0) -> Callable[[NDArray[np.uint8]], dict[str, Any]]:
    """Return the model on this CPU at explicit float32: a tensor in, output name -> array out."""
    request = compile_model(model, threads).create_infer_request()

    def run(tensor: NDArray[np.uint8]) -> dict[str, Any]:
        return {name: array for port, array in request.infer([tensor]).items() for name in port.get_names()}

    return run


def agreement(fp32: Sequence[Result], int8: Sequence[Result]) -> dict[str, Any]:
    """Share of pictures whose best class is the same."""
    pairs = list(zip(fp32, int8, strict=True))
    same = sum(
        a.label[0] == b.label[0] for a, b in pairs if isinstance(a, Classification) and isinstance(b, Classification)
    )
    return {"metric": "top-1 agreement with FP32", "fp32": 1.0, "int8": round(same / len(pairs), 4)}


def top1(labels: Path, paths: Sequence[Path], fp32: Sequence[Result], int8: Sequence[Result]) -> dict[str, Any]:
    """Share of pictures whose best class is the one that a CSV (columns `file`, `class_index`) says."""
    try:
        with labels.open(newline="", encoding="utf-8") as file:
            truth = {row["file"]: int(row["class_index"]) for row in csv.DictReader(file)}
        wanted = [truth[path.name] for path in paths]
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"{labels}: expected columns file, class_index with every picture: {error!r}") from None

    def right(found: Sequence[Result]) -> float:
        pairs = zip(found, wanted, strict=True)
        return round(sum(int(a.label[0]) == b for a, b in pairs if isinstance(a, Classification)) / len(wanted), 4)

    return {"metric": "top-1", "fp32": right(fp32), "int8": right(int8), "agreement": agreement(fp32, int8)["int8"]}


def speed(models: dict[str, onnx.ModelProto], tensor: NDArray[np.uint8]) -> dict[str, float]:
    """Median milliseconds a picture on one thread, the models taking turns so that noise meets them alike."""
    runs = {name: compiled(model, threads=1) for name, model in models.items()}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(_SPEED_RUNS):
        for name, run in runs.items():
            started = time.perf_counter()
            run(tensor)
            taken[name].append((time.perf_counter() - started) * 1e3)
    return {name: round(float(np.median(values)), 3) for name, values in taken.items()}


def prove(
    card: Card,
    fp32: onnx.ModelProto,
    int8: onnx.ModelProto,
    paths: Sequence[Path],
    coco: Path | None = None,
    labels: Path | None = None,
) -> dict[str, Any]:
    """Metric of FP32 and INT8 on the same pictures.

    AP where `coco` has their boxes, top-1 where `labels` has their classes, else agreement of the best class.
    """
    task = task_config(card).open(card.labels, Options(threshold=_THRESHOLD if coco else None, top=_TOP))
    found = {name: results(card, task, model, paths) for name, model in (("fp32", fp32), ("int8", int8))}
    if labels is not None:
        measured = top1(labels, paths, found["fp32"], found["int8"])
    elif coco is None:
        measured = agreement(found["fp32"], found["int8"])
    else:
        ids = list(pictures_of_coco(coco, paths[0].parent).values())
        measured = {"metric": "AP .50:.95"}
        measured |= {name: average_precision(coco, card.labels, ids, rows) for name, rows in found.items()}
    return measured | {"pictures": len(paths), "set": set_hash(paths)}


def main(
    model: Annotated[str, typer.Argument(help="Name of a pulled model, or path of a card.")],
    images: Annotated[Path, typer.Option(help="Folder of pictures.")],
    coco: Annotated[Path | None, typer.Option(help="COCO json with the pictures' boxes.")] = None,
    labels: Annotated[Path | None, typer.Option(help="CSV (file, class_index) with the pictures' classes.")] = None,
    table: Annotated[Path | None, typer.Option(help="Table to prove; without it the installed INT8 file.")] = None,
    rest_of: Annotated[int, typer.Option(help="Leave out what 'ranges --samples' of this number took.")] = 0,
    with_speed: Annotated[bool, typer.Option("--speed", help="Time both on one thread as well.")] = False,
) -> None:
    """Measure FP32 against INT8 and print it as JSON."""
    try:
        card, folder = ModelStore(default_root()).find(model)
        fp32 = load(model_file(card, folder, "fp32"))
        if table is None:
            int8 = load(model_file(card, folder, "int8"))
        else:
            int8 = apply(fp32, Table.parse(table.read_bytes(), str(table)))
        paths = list(pictures_of_coco(coco, images)) if coco else pictures_in(images)
        if rest_of:
            calibrated = set(spread(paths, rest_of))
            paths = [path for path in paths if path not in calibrated]
        proof = prove(card, fp32, int8, paths, coco, labels)
        if with_speed:
            proof["ms"] = speed({"fp32": fp32, "int8": int8}, prepare(paths[0], card.input)[0])
    except (CalibrationError, EngineError) as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    print(json.dumps(proof, indent=1))  # noqa: T201


if __name__ == "__main__":
    typer.run(main)
