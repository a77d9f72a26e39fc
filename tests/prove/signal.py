"""`scripts/prove signal MODEL --images DIR [--write]`: whether signal-to-noise orders candidates as accuracy does.

Every method of ranges times nothing, depthwise, prediction layers or both in float. Signal-to-noise is measured on a
few of the pictures that calibrate; accuracy, against what FP32 says, on those that do not. In exact arithmetic: no
kernel of a CPU has a part in it.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import onnx

from calibration.forward import Tensor, Values, forward
from calibration.measures import choose
from calibration.pictures import Sample, distinct, from_folder, limited, split, tensor
from calibration.ranges import METHODS, observe
from calibration.roles import depthwise, prediction_layers
from calibration.signal import output_signal_to_noise, outputs, predictions
from engines.card import Card, model_file
from engines.graph import load, serialise
from engines.model import task_config
from engines.pixels import Geometry
from engines.qdq import Table, activations, apply, quantised_nodes, scale_of
from engines.results import Result
from engines.store import ModelStore, default_root
from tests.prove.record import section, table


def tensors(card: Card, samples: Sequence[Sample]) -> Iterator[Tensor]:
    """Each sample prepared for the model, read when it is wanted."""
    return (tensor(sample, card.input)[0] for sample in samples)


def results(card: Card, model: onnx.ModelProto, samples: Sequence[Sample]) -> list[Result]:
    """What the model says of each sample."""
    config = task_config(card)
    task = config.open(card.labels, choose.reading(config))
    names = [value.name for value in model.graph.output]

    geometries: list[Geometry] = []

    def inputs() -> Iterator[Tensor]:
        for sample in samples:
            picture, geometry = tensor(sample, card.input)
            geometries.append(geometry)
            yield picture

    def read(number: int, values: Values) -> Result:
        return task.read(values, [geometries[number]])[0]

    return list(forward(model, names, inputs(), read))


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's, equals by their order."""
    ranks = [np.argsort(np.argsort(values, kind="stable")) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def main() -> None:
    """Measure, print and with `--write` record."""
    parser = argparse.ArgumentParser(prog="scripts/prove signal", description=__doc__)
    parser.add_argument("model", help="name of a pulled model")
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--calibration", type=int, default=40, help="pictures that calibrate (40)")
    parser.add_argument("--signal", type=int, default=16, help="of them, pictures of the signal-to-noise (16)")
    parser.add_argument("--held-out", type=int, default=80, help="pictures of the accuracy (80)")
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    options = parser.parse_args()

    card, folder = ModelStore(default_root()).find(options.model)
    fp32 = load(model_file(card, folder, "fp32"))
    parts = split(distinct(from_folder(options.images, "bgr")).kept, held_out=0.6)
    calibration, held_out = limited(parts.calibration, options.calibration), limited(parts.held_out, options.held_out)

    observed = observe(fp32, activations(quantised_nodes(fp32)), tensors(card, calibration))
    measure = choose.measure_for(card, held_out, reference=results(card, fp32, held_out))
    spoken, few = predictions(fp32), calibration[: options.signal]
    reference = outputs(fp32, spoken, tensors(card, few))

    able = {node.name for node in quantised_nodes(fp32)}
    roles = {
        "nothing": [],
        "depthwise": depthwise(fp32),
        "prediction": prediction_layers(fp32),
        "both": depthwise(fp32) + prediction_layers(fp32),
    }
    rows: list[tuple[str, str, float, float]] = []
    for (method, clip), (role, nodes) in product(METHODS.items(), roles.items()):
        candidate = Table(
            model=hashlib.sha256(serialise(fp32)).hexdigest(),
            method=method,
            calibration_set="0" * 64,
            pictures=len(calibration),
            kept_float=tuple(name for name in dict.fromkeys(nodes) if name in able),
            scales={name: scale_of(clip(one)) for name, one in observed.items()},
        )
        int8 = apply(fp32, candidate)
        decibels = output_signal_to_noise(reference, outputs(int8, spoken, tensors(card, few)))
        rows.append((method, role, decibels, measure.score(results(card, int8, held_out))))
        print(*rows[-1], flush=True)

    rows.sort(key=lambda row: -row[3])
    better = rows[: len(rows) // 2]
    whole, half = (rank_correlation([row[2] for row in some], [row[3] for row in some]) for some in (rows, better))
    body = (
        f"{len(calibration)} pictures calibrate, {len(held_out)} are held out. "
        f"Rank correlation {whole:.2f}, among the better half {half:.2f}.\n\n"
    )
    header = ("method", "in float", "signal-to-noise, dB", measure.name)
    body += table(header, [(method, role, f"{db:.1f}", f"{points:.1f}") for method, role, db, points in rows])
    print(body)
    if options.write:
        command = f"scripts/prove signal {options.model} --images DIR"
        section(f"signal-{options.model}", f"Signal-to-noise and accuracy: {options.model}", command, body)


if __name__ == "__main__":
    main()
