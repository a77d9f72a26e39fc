"""Which operators make the numbers of an output, looking past those that only move them about."""

from __future__ import annotations

import onnx

_MOVE = {
    "Concat", "Transpose", "Reshape", "Slice", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Cast", "Split", "Gather",
    "Expand", "Pad",
}  # fmt: skip


def ends(model: onnx.ModelProto) -> dict[str, frozenset[str]]:
    """Output name -> operator types."""
    makers = {name: node for node in model.graph.node for name in node.output}
    return {value.name: _ends(value.name, makers) for value in model.graph.output}


def _ends(output: str, makers: dict[str, onnx.NodeProto]) -> frozenset[str]:
    found, waiting, seen = set(), [output], set()
    while waiting:
        name = waiting.pop()
        node = makers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type in _MOVE:
            waiting += node.input if node.op_type == "Concat" else node.input[:1]
        else:
            found.add(node.op_type)
    return frozenset(found)
