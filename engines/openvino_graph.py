"""ONNX networks as OpenVINO's graphs, INT8 in the form that OpenVINO computes right.

OpenVINO reads a pair of Q and DQ as four operations: FakeQuantize to the levels, Convert to int8, Convert to float,
Multiply by the scale. Where such a Q reads a Concat, the pass `MoveFakeQuantize` moves the first two before it
and loses the scale: values come out rounded to whole numbers (docs/adr/0025). One FakeQuantize from floats to floats
says the same, and is the form that OpenVINO's own quantiser writes.

Its INT8 kernels take unsigned activations; signed ones are shifted by 128, which is made good for in every sum. A
tensor that is never negative needs no shift: its levels 0 to 127 are taken as the lower half of 0 to 255.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.quiet import import_openvino

FORM = 3
"""Raised whenever a network is compiled from another graph than before: compiled copies that are kept depend on it."""

_SAME_RANGE = ("MaxPool", "AvgPool", "ReduceMean", "Reshape", "Transpose", "Split", "VariadicSplit", "Slice")
"""Operations that give no value outside of what they get (padding apart, which is 0 or left out)."""


def read_graph(source: Path | bytes) -> Any:
    """Return an ONNX file, or its content, as an `openvino.Model`. Raises OSError, RuntimeError or ValueError.

    Not by `Core.read_model`: of a file that is no ONNX it asks every other reader, which print what they think of it.
    """
    ov = import_openvino()
    reader = ov.frontend.FrontEndManager().load_by_framework("onnx")
    content = source if isinstance(source, bytes) else source.read_bytes()
    graph = reader.convert(reader.load(io.BytesIO(_rewritten(content))))
    _join_pairs(ov, graph)
    return graph


def _rewritten(content: bytes) -> bytes:
    """Return the network with fewer passes over its tensors; what is no network is left for OpenVINO to complain of."""
    # Only here, since a compiled copy is read without them: they take 8 MB and a tenth of a second.
    import onnx
    from google.protobuf.message import DecodeError

    from engines.rewrites import rewritten

    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError:
        return content
    changed = rewritten(model)
    return content if changed is model else bytes(changed.SerializeToString())


def _join_pairs(ov: Any, graph: Any) -> None:
    """Make each Q/DQ pair of an activation one FakeQuantize that gives the same values."""
    for quantise in graph.get_ordered_ops():
        if quantise.get_type_name() != "FakeQuantize":
            continue
        for levels in _readers(quantise, "Convert"):
            for values in _readers(levels, "Convert"):
                for node, zero in [(values, np.float32(0)), *_with_constant(values, "Subtract")]:
                    for scaled, scale in _with_constant(node, "Multiply"):
                        _join(ov, quantise, zero, scale, scaled)


def _join(ov: Any, quantise: Any, zero: NDArray[Any], scale: NDArray[Any], scaled: Any) -> None:
    """Replace `scaled`, which is (levels - zero) * scale, by a FakeQuantize that gives it."""
    ends = [_value(quantise.input_value(port)) for port in (3, 4)]
    if any(end is None for end in ends):
        return
    data, *ranges = (quantise.input_value(port) for port in range(3))
    values = [((end - zero) * scale).astype(np.float32) for end in ends if end is not None]
    if not zero.any() and scale.size == 1 and values[0].min() < 0 and _lowest(data) >= 0:
        most = float(values[1].max())
        if _highest(data) > most + 0.49 * scale.item():  # else it is rounded to 127 levels at most as it is
            data = ov.opset1.minimum(data, ov.opset1.constant(np.float32(most))).output(0)
        values = [np.float32(0), np.float32(2 * most + scale.item())]  # 255 levels: twice 127, and one
        ranges = [ov.opset1.constant(value).output(0) for value in values]
    made = [ov.opset1.constant(value).output(0) for value in values]
    joined = ov.opset1.fake_quantize(data, *ranges, *made, quantise.get_attributes()["levels"])
    joined.set_friendly_name(scaled.get_friendly_name())
    joined.output(0).set_names(scaled.output(0).get_names())
    for reader in scaled.output(0).get_target_inputs():
        reader.replace_source_output(joined.output(0))


def _lowest(output: Any) -> float:
    """Return a bound that no value of a tensor is below, as far as the operations next to it tell."""
    node = output.get_node()
    kind = node.get_type_name()
    if kind == "Constant":
        return float(node.data.min())
    if kind in ("Relu", "Sigmoid"):
        return 0.0
    if kind in _SAME_RANGE:
        return _lowest(node.input_value(0))
    if kind in ("Maximum", "Minimum", "Concat"):
        return (max if kind == "Maximum" else min)(_lowest(source) for source in node.input_values())
    return -np.inf


def _highest(output: Any) -> float:
    """Return a bound that no value of a tensor is above, if it is cut off there or comes of such a one."""
    node = output.get_node()
    kind = node.get_type_name()
    if kind == "Constant":
        return float(node.data.max())
    if kind == "Sigmoid":
        return 1.0
    if kind in _SAME_RANGE:
        return _highest(node.input_value(0))
    return min(_highest(source) for source in node.input_values()) if kind == "Minimum" else np.inf


def _readers(node: Any, kind: str) -> list[Any]:
    found = [port.get_node() for port in node.output(0).get_target_inputs()]
    return [reader for reader in found if reader.get_type_name() == kind]


def _with_constant(node: Any, kind: str) -> list[tuple[Any, NDArray[Any]]]:
    """Return the operations of a kind that have `node` first and a constant second, and that constant."""
    pairs = [(reader, _value(reader.input_value(1))) for reader in _readers(node, kind)]
    return [(reader, value) for reader, value in pairs if value is not None]


def _value(output: Any) -> NDArray[Any] | None:
    """Return what a constant holds, also through a conversion to float; None of what is not constant."""
    node = output.get_node()
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    return node.data.astype(np.float32) if node.get_type_name() == "Constant" else None
