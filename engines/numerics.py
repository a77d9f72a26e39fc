"""How far two runs of a network are apart, and what runs it for the comparison."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from engines.batch import compile_model
from engines.errors import ModelFileError
from engines.graph import serialise
from engines.quiet import import_onnxruntime, openvino_core

Outputs = dict[str, NDArray[Any]]
Run = Callable[[NDArray[Any]], Outputs]
_FLOOR = 0.01
"""Values below it are compared absolutely: a score of 0.000001 is nothing, whatever it is a multiple of."""


def difference(expected: NDArray[Any], actual: NDArray[Any], *, ordered: bool = True) -> float:
    """Return the largest difference, relative to the largest value of its column (all along the longest axis).

    A tensor with boxes in pixels and scores beside them is so compared to each column's own measure. Infinite where the
    shapes differ, or one has a NaN where the other has none. Not `ordered`: each column is sorted first, for networks
    that rank rows themselves, where the last bit decides between two that are as good.
    """
    if expected.shape != actual.shape:
        return float("inf")
    if not expected.size:
        return 0.0
    a, b = expected.astype(np.float64), actual.astype(np.float64)
    if np.any(np.isfinite(a) != np.isfinite(b)):
        return float("inf")
    with np.errstate(invalid="ignore"):  # equal infinities
        distance = np.nan_to_num(np.abs(a - b), nan=0.0, posinf=0.0)
    sizes = np.nan_to_num(np.abs(a), nan=0.0, posinf=0.0)
    axis = int(np.argmax(a.shape)) if a.ndim else None
    if not ordered and axis is not None:
        distance = np.nan_to_num(np.abs(np.sort(a, axis) - np.sort(b, axis)), nan=0.0, posinf=0.0)
    return float((distance / (sizes.max(axis=axis, keepdims=True) + _FLOOR)).max())


def judge() -> str:
    """What `runner` runs on: ONNX Runtime, the reference, where it is installed; else OpenVINO."""
    from importlib.metadata import version

    return f"onnxruntime {version('onnxruntime')}" if find_spec("onnxruntime") else f"openvino {version('openvino')}"


def runner(model: onnx.ModelProto, where: str) -> Run:
    """Return the network on the judge. Raises ModelFileError if it does not load; running it raises so too."""
    return _onnxruntime(model, where) if find_spec("onnxruntime") else on_openvino(model, where)


def _onnxruntime(model: onnx.ModelProto, where: str) -> Run:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # The graph as it is written: an optimiser's mistake or rounding would blur what is compared.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(serialise(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  # it has a tree of exceptions under none but Exception
        raise ModelFileError(f"{where}: ONNX Runtime does not take the network: {_short(error)}") from None
    names = [output.name for output in session.get_outputs()]
    (source,) = (value.name for value in session.get_inputs())

    def run(tensor: NDArray[Any]) -> Outputs:
        try:
            return dict(zip(names, session.run(None, {source: tensor}), strict=True))
        except Exception as error:  # noqa: BLE001  # as above
            raise ModelFileError(f"{where}: the network does not run: {_short(error)}") from None

    return run


def output_shapes(model: onnx.ModelProto, where: str) -> dict[str, tuple[int, ...]]:
    """Output name -> shape as OpenVINO infers it, -1 where it is free. Raises ModelFileError."""
    try:
        ports = openvino_core().read_model(serialise(model)).outputs
    except (RuntimeError, ValueError) as error:  # ValueError: a name that is no text
        raise ModelFileError(f"{where}: OpenVINO does not read the network: {_last(error)}") from None
    found: dict[str, tuple[int, ...]] = {}
    for value, port in zip(model.graph.output, ports, strict=True):
        shape = port.get_partial_shape()
        if shape.rank.is_dynamic:
            raise ModelFileError(f"{where}: output {value.name} has no fixed number of dimensions")
        found[value.name] = tuple(side.get_length() if side.is_static else -1 for side in shape)
    return found


def on_openvino(model: onnx.ModelProto, where: str) -> Run:
    """Return the network on this CPU by OpenVINO at explicit float32. Raises ModelFileError, as running it does."""
    names = [value.name for value in model.graph.output]
    try:
        request = compile_model(model).create_infer_request()
    except ModelFileError as error:
        raise ModelFileError(f"{where}: {error}") from None

    def run(tensor: NDArray[Any]) -> Outputs:
        try:
            return {n: array.copy() for n, array in zip(names, request.infer([tensor]).values(), strict=True)}
        except RuntimeError as error:
            raise ModelFileError(f"{where}: the network does not run: {_last(error)}") from None

    return run


def _short(error: Exception) -> str:
    """ONNX Runtime starts with `[ONNXRuntimeError] : 1 : FAIL : `."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rpartition(" : ")[2][:200]


def _last(error: Exception) -> str:
    """OpenVINO starts with where in its sources it was; what went wrong is last."""
    return ([line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"])[-1][:200]
