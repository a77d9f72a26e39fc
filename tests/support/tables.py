"""Tables for the networks of tests: ranges that are measured, and every field filled where one is wanted."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx

from engines.graph import Normalisation, bake, constants, free_batch, serialise
from engines.qdq import (
    Table,
    activations,
    equalisable,
    equalised,
    pack_correction,
    pack_exponents,
    quantised_nodes,
    scale_of,
)
from engines.qdq.nodes import output_axis
from tests.support.models import SIZE, branching_network, run_onnx, tiny_network


def tiny_fp32(seed: int = 0) -> onnx.ModelProto:
    """The tiny network as the catalogue would have it."""
    return free_batch(bake(tiny_network(seed=seed), Normalisation(mean=(127,), std=(128,)), "tiny"))


def branching_fp32(seed: int = 0) -> onnx.ModelProto:
    """The branching network as the catalogue would have it."""
    return free_batch(bake(branching_network(seed), Normalisation(mean=(127,), std=(128,)), "branching"))


def noise(count: int = 4, seed: int = 1, side: int = SIZE) -> np.ndarray:
    """Pictures: (count, 3, side, side) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), np.uint8)


def blank_table(fp32: onnx.ModelProto, **fields: object) -> Table:
    """A table of that network, with those fields and without what was measured."""
    content = {
        "model": hashlib.sha256(serialise(fp32)).hexdigest(),
        "method": "min-max",
        "calibration_set": "0" * 64,
        "pictures": 1,
        "scales": {},
    }
    return Table.model_validate({**content, **fields})


def measured_table(fp32: onnx.ModelProto, **fields: object) -> Table:
    """A table with the ranges of noise, after equalisation."""
    table = blank_table(fp32, **fields)
    names = activations(quantised_nodes(fp32, table.kept_float))
    seen = run_onnx(equalised(fp32, table), noise(), *names)
    scales = {name: scale_of(float(np.abs(array).max())) for name, array in zip(names, seen, strict=True)}
    return Table.model_validate(table.model_dump(by_alias=True) | {"scales": scales})


def unmeasured_table(fp32: onnx.ModelProto, **fields: object) -> Table:
    """A table whose scales are made up, so that nothing but the writer decides about its bytes."""
    table = blank_table(fp32, **fields)
    names = activations(quantised_nodes(fp32, table.kept_float))
    return Table.model_validate(table.model_dump(by_alias=True) | {"scales": dict.fromkeys(names, 0.0625)})


def everything(
    fp32: onnx.ModelProto, seed: int = 0, most: int = 3, kept_float: tuple[str, ...] = ()
) -> dict[str, object]:
    """Exponents for every tensor that can have them, and a correction for every convolution; at random."""
    rng = np.random.default_rng(seed)
    arrays = constants(fp32)
    nodes = [node for node in quantised_nodes(fp32, kept_float) if node.op_type in ("Conv", "Gemm")]
    return {
        "kept_float": kept_float,
        "equalisation": {
            name: pack_exponents(rng.integers(-most, most + 1, place.channels))
            for name, place in equalisable(fp32, kept_float).items()
        },
        "bias_corrections": {
            node.name: pack_correction(rng.normal(0, 0.02, arrays[node.input[1]].shape[output_axis(node)]))
            for node in nodes
        },
    }
