"""Measures how large activations get on real pictures, and writes the calibration table.

python -m calibration.ranges person-ssdlite --images photos/ --out person-ssdlite.table.json
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import typer
from rich.console import Console
from rich.progress import track

from calibration.dataset import pictures_in, pictures_of_coco, prepare, set_hash, spread
from calibration.errors import CalibrationError
from engines.card import Card, model_file
from engines.errors import EngineError
from engines.graph import INPUT, load, serialise
from engines.qdq import Table, activations, quantised_nodes, scale_of
from engines.quiet import import_onnxruntime
from engines.store import ModelStore, default_root

Show = Callable[[Sequence[Path]], Iterable[Path]]
"""Passes pictures on, and may show how far they are."""


def calibrate(
    card: Card, fp32: onnx.ModelProto, pictures: Sequence[Path], keep: Sequence[str] = (), show: Show = iter
) -> Table:
    """Return a table by min-max: every activation's scale covers the largest magnitude seen on any picture.

    `keep` names nodes to leave in float.
    Raises DatasetError for an unreadable picture, BackendError without onnxruntime.
    """
    tensors = activations(quantised_nodes(fp32, keep))
    session = _session(fp32, tensors)
    largest = dict.fromkeys(tensors, 0.0)
    for path in show(pictures):
        tensor, _ = prepare(path, card.input)
        for name, values in zip(tensors, session.run(tensors, {INPUT: tensor}), strict=True):
            largest[name] = max(largest[name], float(np.abs(values).max()))
    return Table(
        model=hashlib.sha256(serialise(fp32)).hexdigest(),
        method="min-max",
        calibration_set=set_hash(pictures),
        pictures=len(pictures),
        kept_float=tuple(keep),
        scales={name: scale_of(value) for name, value in largest.items()},
    )


def depthwise_and_last_convolutions(fp32: onnx.ModelProto) -> list[str]:
    """Names of depthwise convolutions, and of those that no other convolution follows.

    Their channels differ too much for one scale: what detectors of the YOLOX kind lose to INT8, they lose here
    (docs/measurements.md).
    """
    weights = {tensor.name: tensor.dims for tensor in fp32.graph.initializer}
    leads_to_conv: set[str] = set()
    kept = []
    for node in reversed(fp32.graph.node):
        if node.op_type == "Conv":
            groups = next((entry.i for entry in node.attribute if entry.name == "group"), 1)
            if (groups > 1 and weights[node.input[1]][1] == 1) or node.output[0] not in leads_to_conv:
                kept.append(str(node.name))
        if node.op_type == "Conv" or leads_to_conv.intersection(node.output):
            leads_to_conv.update(node.input)
    return kept[::-1]


def _session(fp32: onnx.ModelProto, tensors: Sequence[str]) -> Any:
    """Return an ONNX Runtime session that also gives out `tensors`; unoptimised, so that each of them exists."""
    ort = import_onnxruntime()
    model = onnx.ModelProto()
    model.CopyFrom(fp32)
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in known)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(serialise(model), options, providers=["CPUExecutionProvider"])


def main(
    model: Annotated[str, typer.Argument(help="Name of a pulled model, or path of a card.")],
    images: Annotated[Path, typer.Option(help="Folder of pictures like those the cameras will see.")],
    out: Annotated[Path, typer.Option(help="Table to write.")],
    coco: Annotated[Path | None, typer.Option(help="COCO json: use only the pictures that it lists.")] = None,
    samples: Annotated[int | None, typer.Option(help="Use only so many pictures, evenly spread by name.")] = None,
    weights: Annotated[
        str, typer.Option(help="pair-safe, or full: only for devices that never saturate.")
    ] = "pair-safe",
    keep_depthwise: Annotated[bool, typer.Option(help="Leave depthwise and last convolutions in float.")] = False,
) -> None:
    """Measure activation ranges by min-max and write a calibration table."""
    if weights not in ("pair-safe", "full"):
        raise typer.BadParameter("expected pair-safe or full", param_hint="--weights")
    try:
        card, folder = ModelStore(default_root()).find(model)
        fp32 = load(model_file(card, folder, "fp32"))
        paths = list(pictures_of_coco(coco, images)) if coco else pictures_in(images)
        paths = spread(paths, samples) if samples else paths
        keep = depthwise_and_last_convolutions(fp32) if keep_depthwise else []
        table = calibrate(card, fp32, paths, keep, _show)
        table = Table.model_validate(table.model_dump(by_alias=True) | {"weights": weights})
        out.write_text(table.text(), encoding="utf-8")
    except (CalibrationError, EngineError) as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    print(f"{out}: {len(table.scales)} scales from {table.pictures} pictures, {len(table.kept_float)} nodes in float")  # noqa: T201


def _show(paths: Sequence[Path]) -> Iterable[Path]:
    return track(paths, "measuring", console=Console(stderr=True), transient=True)


if __name__ == "__main__":
    typer.run(main)
