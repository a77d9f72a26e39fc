"""Runs a user's file beside what it became, on the same pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from engines.errors import ModelFileError
from engines.graph import Normalisation, shape_of
from engines.importing.export import Export
from engines.numerics import Outputs, difference, judge, on_openvino, runner
from engines.opset import nodes_of

TOLERANCE = 1e-3
"""Of the largest value of an output's column."""
HALF_TOLERANCE = 3e-2
"""For files that compute in half precision, which has 11 bits: ours computes in float32."""
_RANKING = {"TopK", "NonMaxSuppression"}


def compare(
    export: Export, baked: onnx.ModelProto, normalisation: Normalisation, *, batch: int, half: bool, int8: bool
) -> dict[str, Any]:
    """Return `judge`, `difference` and `tolerance` of a card.

    `batch`: pictures that the file takes at once. OpenVINO, which will run the model, is compared with the judge too,
    but not on INT8, where it rounds elsewhere, nor where the graph ranks boxes, which a last bit reorders.
    Raises ModelFileError if they differ by more than the tolerance, or if the file gives what is not a number.
    """
    where = str(export.path)
    (value,) = baked.graph.input
    _, _, height, width = shape_of(value)
    kind = helper.tensor_dtype_to_np_dtype(export.input.type.tensor_type.elem_type)
    original, ours = runner(export.model, where), runner(baked, where)
    ranks = any(node.op_type in _RANKING for node in nodes_of(export.model.graph))
    engine = on_openvino(baked, where) if not (int8 or ranks or judge().startswith("openvino")) else None
    tolerance = HALF_TOLERANCE if half else TOLERANCE
    worst = 0.0
    for pictures in _pictures(height, width):
        pictures = np.repeat(pictures, batch, axis=0)
        expected = original(_normalised(pictures, normalisation, kind))
        _check_numbers(expected, where)
        for run, who in ((ours, judge()), (engine, "OpenVINO")):
            if run is not None:
                actual = run(pictures)
                found = max((difference(expected[n], actual[n], ordered=not ranks), n) for n in actual)
                worst = max(worst, found[0])
                if found[0] > tolerance:
                    raise ModelFileError(
                        f"{where}: what became of it computes something else: output {found[1]} differs by "
                        f"{found[0]:.2g} on {who}, {tolerance:g} is allowed; please report this file"
                    )
    return {"judge": judge(), "difference": float(f"{worst:.1e}"), "tolerance": tolerance}


def _pictures(height: int, width: int) -> list[NDArray[np.uint8]]:
    """Three pictures (1, 3, H, W): noise, soft blobs, and one half dark and half light."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (1, 3, height, width), np.uint8)
    rows, columns = (np.arange(side) * 6 // side for side in (height, width))
    blobs = rng.integers(0, 256, (1, 3, 6, 6), np.uint8)[:, :, rows][:, :, :, columns]
    halves = np.full((1, 3, height, width), 30, np.uint8)
    halves[..., width // 2 :] = 220
    return [noise, blobs, halves]


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
