"""TensorRT engines on stand-ins, in this process: plans of any ONNX file, run by ONNX Runtime on host memory."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import onnx
from onnx import TensorProto, helper

from engines.backends import BackendConfig
from engines.base import Engine
from engines.card import Card, Precision, sha256_of
from engines.trt.order import Order
from engines.trt.passport import Made, Passport, Plan
from engines.trt.running import Prepare, TensorRTEngine
from tests.support import host_kernels, standin_trt
from tests.support.standin_driver import StandInDriver


def plan_of(
    model: Path,
    batches: Sequence[int] = (1, 4, 4),
    *,
    version: str = "10.3.0",
    sharing: bool = True,
    cubin: bytes | None = None,
    **more: Any,
) -> Plan:
    """What building would make of that file; `more`: fields of the passport."""
    network = onnx.load(model)
    given = network.graph.input[0]
    height, width = (d.dim_value for d in given.type.tensor_type.shape.dim[2:])
    shapes = {given.name: [[batch, 3, height, width] for batch in batches]}
    data = bytes(standin_trt.pack(network, shapes, version, sharing))
    order = Order(model, sha256_of(model), "fp32", "f16", (width, height), tuple(batches))
    flavour = "tensorrt_rtx" if version.startswith("1.") else "tensorrt"
    passport = Passport.of(order, flavour, version, StandInDriver().facts)
    made = Made(plan_sha256="0" * 64, floats="f16", built_at="2026-01-01T00:00:00Z", seconds=1)
    passport = passport.model_copy(update={"made": made, **more})
    return Plan(model.with_suffix(".plan"), data, passport, cubin)


@contextlib.contextmanager
def in_this_process() -> Iterator[None]:
    """The stand-in namespace works on `StandInDriver`s, and has no faults after it."""
    streams = standin_trt.streams
    before = streams.launch, streams.captured
    streams.launch, streams.captured = StandInDriver.host_function, StandInDriver.captured
    try:
        yield
    finally:
        streams.launch, streams.captured = before
        standin_trt.faults.clear()


def open_engine(
    model: Path, card: Card, driver: StandInDriver | None = None, *, version: str = "10.3.0", prepare: Prepare = "cpu",
    **more: Any,
) -> TensorRTEngine:  # fmt: skip
    """An engine on `driver`; `more`: of `plan_of`."""
    plan = plan_of(model, version=version, cubin=b"the kernel" if prepare == "gpu" else None, **more)
    driver = driver or device(prepare)
    return TensorRTEngine(standin_trt.namespace(version), driver, plan, card, prepare=prepare)


def device(prepare: Prepare = "cpu", limit: int | None = None) -> StandInDriver:
    """One that has the kernel, compiled for the CPU, if pictures are to be prepared there."""
    return StandInDriver(limit, {"prepare": host_kernel} if prepare == "gpu" else {})


def host_kernel(grid: tuple[int, int, int], block: tuple[int, int, int], addresses: Sequence[int]) -> None:
    """The kernel `prepare` on host memory."""
    values = (ctypes.c_void_p * len(addresses))(*addresses)
    pointers = (ctypes.c_void_p * len(addresses))(*(ctypes.addressof(values) + 8 * i for i in range(len(addresses))))
    assert host_kernels.loaded().host_launch_prepare(*grid, *block, pointers) == 0


class StandInConfig(BackendConfig):
    """A TensorRT engine for the contract suite: real but for TensorRT and CUDA."""

    type: Literal["stand-in"] = "stand-in"
    version: str = "10.3.0"
    prepare: Prepare = "cpu"
    batch: int = 4

    def build(self, card: Card, model: Path, precision: Precision) -> Engine:
        """Without faults."""
        return open_engine(model, card, version=self.version, prepare=self.prepare, batches=(1, self.batch, self.batch))


def half_outputs(model: Path, path: Path) -> Path:
    """The same network with float16 outputs."""
    network = onnx.load(model)
    for output in network.graph.output:
        for node in network.graph.node:
            for index, name in enumerate(node.output):
                if name == output.name:
                    node.output[index] = f"{name}.f32"
        network.graph.node.append(
            helper.make_node("Cast", [f"{output.name}.f32"], [output.name], to=TensorProto.FLOAT16)
        )
        output.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(network, path)
    return path
