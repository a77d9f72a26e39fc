"""Runs a user's file beside what it became, on the same pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from engines import graph
from engines.errors import ModelFileError
from engines.graph import Normalisation
from engines.importing.export import Export
from engines.importing.settling import Settled
from engines.numerics import Outputs, difference, judge, on_openvino, runner
from engines.opset import nodes_of

TOLERANCE = 1e-3
"""Of the largest value of an output's column."""
HALF_TOLERANCE = 3e-2
"""For files that compute in half precision, which has 11 bits: ours computes in float32."""
_RANKING = {"TopK", "NonMaxSuppression"}
_DECIDING = {"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "NonMaxSuppression", "TopK"}
"""What they leave of noise may be nothing at all, which any two networks have in common: their inputs are compared."""


def compare(export: Export, settled: Settled, baked: onnx.ModelProto, *, half: bool, int8: bool) -> dict[str, Any]:
    """Return `judge`, `difference` and `tolerance` of a card.

    OpenVINO, which will run the model, is compared with the judge too, but not on INT8, where it rounds elsewhere, nor
    where the graph ranks boxes, which a last bit reorders.
    Raises ModelFileError if they differ by more than the tolerance, or if the file gives what is not a number.
    """
    where = str(export.path)
    kind = helper.tensor_dtype_to_np_dtype(export.input.type.tensor_type.elem_type)
    ranks = any(node.op_type in _RANKING for node in nodes_of(export.model.graph))
    probes = _probes(export.model, settled.network)
    original = runner(_with_outputs(export.model, probes), where)
    runs = {judge(): runner(baked, where)}
    if probes:
        network = graph.bake(_with_outputs(settled.network, probes), settled.normalisation, where)
        runs[f"{judge()}, inside"] = runner(network, where)
    if not (int8 or ranks or judge().startswith("openvino")):
        runs["OpenVINO"] = on_openvino(baked, where)
    tolerance = HALF_TOLERANCE if half else TOLERANCE
    worst = 0.0
    for pictures in _pictures(settled.into.height, settled.into.width):
        pictures = np.repeat(pictures, max(settled.batch, 1), axis=0)
        expected = original(_normalised(pictures, settled.normalisation, kind))
        _check_numbers({name: array for name, array in expected.items() if name not in probes}, where)
        for who, run in runs.items():
            found, name = _farthest(expected, run(pictures), ordered=not ranks)
            worst = max(worst, found)
            if found > tolerance:
                raise ModelFileError(
                    f"{where}: what became of it computes something else: {name} differs by {found:.2g} on {who}, "
                    f"{tolerance:g} is allowed; please report this file"
                )
    return {"judge": judge(), "difference": float(f"{worst:.1e}"), "tolerance": tolerance}


def _farthest(expected: Mapping[str, NDArray[Any]], actual: Outputs, *, ordered: bool) -> tuple[float, str]:
    return max((difference(expected[name], array, ordered=ordered), name) for name, array in actual.items())


def _probes(model: onnx.ModelProto, network: onnx.ModelProto) -> list[str]:
    """Tensors that a file and its plain network both have, and from which the graph decides what boxes are left."""
    here = {name for node in network.graph.node for name in node.output}
    wanted = [name for node in model.graph.node if node.op_type in _DECIDING for name in node.input[:2]]
    outputs = {value.name for value in model.graph.output}
    return [name for name in dict.fromkeys(wanted) if name in here and name not in outputs]


def _with_outputs(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    more = onnx.ModelProto()
    more.CopyFrom(model)
    more.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return more


def _pictures(height: int, width: int) -> list[NDArray[np.uint8]]:
    """Three pictures (1, 3, H, W): noise, patches of colour, and one half dark and half light."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (1, 3, height, width), np.uint8)
    rows, columns = (np.arange(side) * 6 // side for side in (height, width))
    patches = rng.integers(0, 256, (1, 3, 6, 6), np.uint8)[:, :, rows][:, :, :, columns]
    halves = np.full((1, 3, height, width), 30, np.uint8)
    halves[..., width // 2 :] = 220
    return [noise, patches, halves]


def _normalised(pictures: NDArray[np.uint8], normalisation: Normalisation, kind: np.dtype[Any]) -> NDArray[Any]:
    """What the file itself wants of pictures (N, 3, H, W) uint8 RGB.

    In float32 with the factors that `graph.bake` writes: a network that ranks candidates may tell the last bit.
    """
    values = pictures[:, ::-1] if normalisation.channels == "bgr" else pictures
    mean, std = (np.asarray(numbers, np.float64) for numbers in (normalisation.mean, normalisation.std))
    scale, offset = ((np.broadcast_to(v, 3).astype(np.float32).reshape(1, 3, 1, 1)) for v in (1 / std, -mean / std))
    floats = values.astype(np.float32) * scale + offset
    if normalisation.layout == "nhwc":
        floats = floats.transpose(0, 2, 3, 1)
    if np.issubdtype(kind, np.integer):
        floats = np.clip(np.rint(floats), 0, 255)
    return np.ascontiguousarray(floats.astype(kind))


def _check_numbers(outputs: Outputs, where: str) -> None:
    for name, array in outputs.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            what = "NaN" if np.isnan(array).any() else "infinite"
            raise ModelFileError(
                f"{where}: output {name} is {what} on ordinary pictures: a half-precision export that overflows, or "
                "broken weights; export it again in float32"
            )
