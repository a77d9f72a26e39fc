"""Reads frozen TensorFlow graphs (GraphDef, .pb) without tensorflow.

Protocol buffer wire format: https://protobuf.dev/programming-guides/encoding. Field numbers are those of
tensorflow/core/framework/{graph,node_def,attr_value,tensor,tensor_shape}.proto.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelFileError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?"}
_MOST_NUMBERS = 1 << 26
"""In one tensor; what says more is forged."""


@dataclass(frozen=True)
class Node:
    """One operation: its inputs are names of others, attributes are ints, floats, bytes, arrays or lists of them."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: dict[str, Any]


def read_graph(data: bytes, where: str) -> dict[str, Node]:
    """Name -> node. Raises ModelFileError naming `where` if the bytes are cut short or no GraphDef."""
    try:
        nodes = [_node(value) for number, value in _fields(memoryview(data)) if number == 1]
    except (ValueError, TypeError, struct.error, OverflowError) as error:
        raise ModelFileError(f"{where}: not a readable TensorFlow graph: {error}") from None
    if not nodes:
        raise ModelFileError(f"{where}: not a TensorFlow graph, it has no nodes")
    return {node.name: node for node in nodes}


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        if position >= len(data):
            raise ValueError("it is cut short")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, position
        shift += 7
    raise ValueError("a number has no end")


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """Field number and value (int, or memoryview of the bytes) of every field of a message."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        wire = tag & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield tag >> 3, value
            continue
        if wire == _BYTES:
            length, position = _varint(data, position)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {position}")
        if position + length > len(data):
            raise ValueError("it is cut short")
        yield tag >> 3, data[position : position + length]
        position += length


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _integers(value: int | memoryview) -> list[int]:
    """Return a repeated integer field: one number, or many packed."""
    if isinstance(value, int):
        return [_signed(value)]
    numbers, position = [], 0
    while position < len(value):
        number, position = _varint(value, position)
        numbers.append(_signed(number))
    return numbers


def _text(value: Any) -> str:
    return bytes(value).decode("utf-8")


def _node(data: memoryview) -> Node:
    name, op, inputs, attributes = "", "", [], {}
    for number, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2:
            op = _text(value)
        elif number == 3:
            inputs.append(_text(value))
        elif number == 5:
            entry = dict(_fields(value))
            attributes[_text(entry.get(1, b""))] = _attribute(entry.get(2, memoryview(b"")))
    return Node(name, op, tuple(inputs), attributes)


def _attribute(data: memoryview) -> Any:
    """Return the value of an AttrValue, whichever of its kinds it is; None for those that no converter reads."""
    for number, value in _fields(data):
        if number == 1:
            return [item for kind, entry in _fields(value) if kind == 3 for item in _integers(entry)]
        if number == 2:
            return bytes(value)
        if number in (3, 6):
            return _signed(value)
        if number == 4:
            return float(struct.unpack("<f", value)[0])
        if number == 5:
            return bool(value)
        if number == 8:
            return _tensor(value)
    return None


def _tensor(data: memoryview) -> NDArray[Any] | None:
    """Return a TensorProto; None for types that hold no numbers."""
    kind, content = 1, memoryview(b"")
    shape: tuple[int, ...] = ()
    numbers: list[float] | list[int] = []
    for number, value in _fields(data):
        if number == 1:
            kind = value
        elif number == 2:
            dimensions = [dict(_fields(entry)) for key, entry in _fields(value) if key == 2]
            shape = tuple(_signed(dimension.get(1, 0)) for dimension in dimensions)
        elif number == 4:
            content = value
        elif number in (5, 6):
            numbers.extend(np.frombuffer(value, "<f4" if number == 5 else "<f8").tolist())
        elif number in (7, 10, 11):
            numbers.extend(_integers(value))
    if kind not in _DTYPES:
        return None
    size = math.prod(shape)
    if not 0 <= size <= _MOST_NUMBERS or min(shape, default=0) < 0:
        raise ValueError(f"a tensor of shape {shape}")
    if len(content):
        return np.frombuffer(content, _DTYPES[kind]).reshape(shape)
    values = np.array(numbers[:size] or [0], _DTYPES[kind])
    # The last number stands for all that are left out.
    return np.concatenate([values, np.full(max(size - values.size, 0), values[-1])])[:size].reshape(shape)
