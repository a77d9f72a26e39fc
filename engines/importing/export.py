"""Reads what a framework exported: the graph with its weights, wherever they lie, and what it says of itself."""

from __future__ import annotations

import ast
import hashlib
import heapq
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper

from engines.errors import ModelFileError
from engines.graph import check, shape_of
from engines.opset import nodes_of

_PIXELS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UINT8, TensorProto.INT32)
_LARGEST = 2**31 - 1
"""Bytes: what protobuf, and so an ONNX file without a second one, can hold."""


@dataclass(frozen=True, eq=False)
class Export:
    """One ONNX file as it came."""

    path: Path
    model: onnx.ModelProto
    """With all weights inside."""
    sha256: str
    """Of the file; where the weights lie in others, over the file and those, in the order of their names."""
    metadata: Mapping[str, str]

    @cached_property
    def input(self) -> onnx.ValueInfoProto:
        """The one input that is not a weight. Raises ModelFileError where there are others, in words."""
        weights = {tensor.name for tensor in self.model.graph.initializer}
        inputs = [value for value in self.model.graph.input if value.name not in weights]
        if len(inputs) != 1:
            found = ", ".join(f"{value.name} {shape_text(shape_of(value))}" for value in inputs) or "none"
            raise ModelFileError(
                f"{self.path}: has {len(inputs)} inputs ({found}); a model that looks at pictures has one, "
                "the picture: export it without the others"
            )
        if inputs[0].type.tensor_type.elem_type not in _PIXELS:
            raise ModelFileError(f"{self.path}: its input {inputs[0].name} takes neither floats nor bytes")
        return inputs[0]

    @property
    def opset(self) -> int:
        """Of the standard operators."""
        return max((entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx")), default=0)

    @cached_property
    def said(self) -> dict[str, Any]:
        """Its metadata, read: `names` (tuple), `size` (width, height), `task`, `licence`, `family`."""
        found: dict[str, Any] = {}
        names = next((n for key in ("names", "labels", "classes", "class_names") if (n := self._names(key))), None)
        if names:
            found["names"] = names
        size = self._literal("imgsz")
        if isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(side, int) for side in size):
            found["size"] = (size[1], size[0])
        elif isinstance(size, int):
            found["size"] = (size, size)
        if task := self.metadata.get("task"):
            found["task"] = task
        if licence := self.metadata.get("license") or self.metadata.get("licence"):
            found["licence"] = _spdx(licence)
        if family := self._family():
            found["family"] = family
        return found

    def _family(self) -> str | None:
        """Whose export it is: Ultralytics' and YOLOv5's own repository (stride and names, nothing else) say so."""
        if not (self.metadata.get("author") == "Ultralytics" or {"stride", "names"} <= {*self.metadata}):
            return None
        if "rtdetr" in (self.metadata.get("head", "") + self.metadata.get("description", "")).lower():
            return "rt-detr"
        return "ultralytics-cls" if self.metadata.get("task") == "classify" else "ultralytics"

    def _literal(self, key: str) -> Any:
        """A value that is written as JSON, or as Python writes it; None if it is neither."""
        text = self.metadata.get(key, "")
        for read in (json.loads, ast.literal_eval):
            try:
                return read(text)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
        return None

    def _names(self, key: str) -> tuple[str, ...] | None:
        value = self._literal(key)
        if isinstance(value, dict):
            try:
                numbered = {int(index): str(name) for index, name in value.items()}
            except (ValueError, TypeError):
                return None
            value = [numbered.get(index) for index in range(len(numbered))]
        if isinstance(value, list | tuple) and value and None not in value:
            return tuple(map(str, value))
        return None


def read_export(path: Path) -> Export:
    """Read an ONNX file and the files beside it that hold its weights.

    Raises ModelFileError for whatever is not a sound ONNX model with all its weights.
    """
    if path.suffix.lower() in _FOREIGN:
        raise ModelFileError(f"{path}: is not ONNX but {_FOREIGN[path.suffix.lower()]}; export it to ONNX first")
    try:
        _check_size(path, path.stat())
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror})") from None
    digest = hashlib.sha256(data)
    try:
        model = onnx.ModelProto.FromString(data)
    except (DecodeError, ValueError) as error:
        raise ModelFileError(f"{path}: not a sound ONNX model ({error}); export it again") from None
    outside = [t for t in _tensors(model.graph) if t.data_location == TensorProto.EXTERNAL]
    for name in sorted({entry.value for t in outside for entry in t.external_data if entry.key == "location"}):
        beside = path.parent / name
        if Path(name).name != name or not beside.is_file():
            raise ModelFileError(f"{path}: its weights lie in a second file, {name}, which must lie beside it")
        _check_size(path, beside.stat())
        with beside.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    if outside:
        try:
            external_data_helper.load_external_data_for_model(model, str(path.parent))
        except (OSError, ValueError, onnx.checker.ValidationError, RuntimeError) as error:
            raise ModelFileError(f"{path}: its weights cannot be read: {error}") from None
    _check_bytes(path, model.ByteSize())
    sort_nodes(model.graph)
    check(model, str(path))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return Export(path, model, digest.hexdigest(), metadata)


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """Weights and constants, those of inner graphs too."""
    yield from graph.initializer
    for node in nodes_of(graph):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from inner.initializer


def _check_size(path: Path, status: os.stat_result) -> None:
    """Refuse what would fill the memory before anything is known of it."""
    if not stat.S_ISREG(status.st_mode):
        raise ModelFileError(f"{path}: is a folder or a device, not an ONNX file")
    _check_bytes(path, status.st_size)


def _check_bytes(path: Path, size: int) -> None:
    if size > _LARGEST:
        raise ModelFileError(f"{path}: larger than 2 GB, which is not for a camera's agent")


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put every node behind those that it reads, else as they were; in place.

    Converters to half precision leave disorder behind.
    """
    maker = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    needs = [{maker[name] for name in node.input if name in maker} for node in graph.node]
    if all(before < index for index, wanted in enumerate(needs) for before in wanted):
        return
    readers: dict[int, list[int]] = {}
    for index, wanted in enumerate(needs):
        for before in wanted:
            readers.setdefault(before, []).append(index)
    ready = [index for index, wanted in enumerate(needs) if not wanted]
    order = []
    while ready:
        order.append(index := heapq.heappop(ready))
        for reader in readers.get(index, []):
            needs[reader].discard(index)
            if not needs[reader]:
                heapq.heappush(ready, reader)
    if len(order) == len(needs):  # else there is a circle, which the checker names
        nodes = [onnx.NodeProto.FromString(graph.node[index].SerializeToString()) for index in order]
        del graph.node[:]
        graph.node.extend(nodes)


_FOREIGN = {
    ".pt": "PyTorch weights", ".pth": "PyTorch weights", ".safetensors": "bare weights", ".pb": "a TensorFlow graph",
    ".tflite": "TensorFlow Lite", ".engine": "a TensorRT plan", ".plan": "a TensorRT plan", ".h5": "Keras",
    ".keras": "Keras", ".etlt": "an encrypted TAO file", ".xml": "OpenVINO", ".mlmodel": "Core ML",
}  # fmt: skip


def shape_text(shape: tuple[int, ...]) -> str:
    """(1, 3, ?, ?)."""
    return f"({', '.join('?' if side < 0 else str(side) for side in shape)})"


def _spdx(licence: str) -> str:
    """The identifier at the start of a licence's name, if it looks like one; else the name."""
    match = re.match(r"[A-Za-z]+-\d[\w.+-]*|MIT\b|Unlicense\b", licence.strip())
    return match.group() if match else licence.strip()[:100]
