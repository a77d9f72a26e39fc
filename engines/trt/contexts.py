"""A plan as TensorRT has loaded it: what goes in and comes out, and the contexts that run it.

What versions do differently is asked of the namespace here: how a context is made that has no device memory of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engines.base import TensorSpec
from engines.cuda.errors import CudaError, OutOfDeviceMemory
from engines.errors import BackendError
from engines.trt.log import Messages, listening, logger

_NO_MEMORY = re.compile(r"out ?of ?memory", re.IGNORECASE)
_SAID = 300
"""Characters of what TensorRT logged that an error repeats."""


@dataclass(frozen=True)
class Sizes:
    """Of the plan's profile: the batches that it takes."""

    least: int
    most: int

    def up_to(self, most: int) -> tuple[int, ...]:
        """Batches that are run: powers of two between the least and `most`, and those two. Others are filled up."""
        powers = {1 << n for n in range(most.bit_length()) if self.least <= 1 << n < most}
        return tuple(sorted({self.least, *powers, most}))


class Network:
    """A deserialised plan. The CUDA context must be current in the thread that calls."""

    def __init__(self, trt: Any, path: Path, data: bytes, *, host_code: bool = False) -> None:
        """`host_code`: the plan is one for later versions too, which carries code of its own.

        Raises BackendError naming the plan: it does not load, or is not of a network as we know them; CudaError where
        no plan would.
        """
        self._trt, self.path = trt, path
        with listening(trt) as messages:
            self._runtime: Any = _started(trt, messages)
            self._runtime.engine_host_code_allowed = host_code
            self._engine: Any = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise self._refused("does not load", messages)
        try:
            self._look()
        except BackendError:
            self.close()  # before the device's context is released, which the error's traceback would not wait for
            raise

    def _look(self) -> None:
        """What goes in and comes out. Raises BackendError: it is of no network as we know them."""
        trt = self._trt
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        specs = {name: self._spec(name) for name in names}
        self.outputs = tuple(spec for name, spec in specs.items() if name not in inputs)
        self.input = self._only(specs[name] for name in inputs)
        self.sizes = self._sizes()
        if wrong := [spec for spec in self.outputs if spec.dtype.kind != "f" or -1 in spec.shape[1:]]:
            raise BackendError(
                f"{self.path}: output {_said(wrong[0])}: expected rows of float32 or float16 of one shape"
            )

    def context(self, batch: int, addresses: dict[str, int], stream: int) -> Any:
        """An execution context for that batch, without the device memory that it works in (`memory`, `give`).

        `addresses`: of every input and output. Raises BackendError; OutOfDeviceMemory.
        """
        with listening(self._trt) as messages:
            context = self._bare_context()
            ready = (
                context is not None
                and (context.active_optimization_profile == 0 or context.set_optimization_profile_async(0, stream))
                and context.set_input_shape(self.input.name, (batch, *self.input.shape[1:]))
                and all(context.set_tensor_address(name, address) for name, address in addresses.items())
            )
        if not ready:
            raise self._refused(f"has no execution context for {batch} pictures", messages)
        for spec in self.outputs:
            if (found := tuple(context.get_tensor_shape(spec.name))) != (batch, *spec.shape[1:]):
                raise BackendError(f"{self.path}: output {_said(spec)} is {found} for {batch} pictures")
        return context

    def execute(self, context: Any, stream: int) -> None:
        """Put the network's work into a stream. Raises BackendError; OutOfDeviceMemory."""
        with listening(self._trt) as messages:
            started = context.execute_async_v3(stream)
        if not started:
            raise self._refused("does not run", messages)

    def memory(self, context: Any, most: int) -> int:
        """Bytes of device memory that it needs while it runs; `most`: no context is for a larger batch."""
        if most < self.sizes.most and hasattr(context, "update_device_memory_size_for_shapes"):
            return int(context.update_device_memory_size_for_shapes())
        if hasattr(self._engine, "device_memory_size_v2"):
            return int(self._engine.device_memory_size_v2)
        return int(self._engine.device_memory_size)

    @staticmethod
    def give(context: Any, address: int, size: int) -> None:
        """Let it work in that device memory; only one of those that share it may run at a time."""
        if hasattr(context, "set_device_memory"):
            context.set_device_memory(address, size)
        else:
            context.device_memory = address

    def close(self) -> None:
        """Free it; after its contexts."""
        self._engine = self._runtime = None

    def _refused(self, what: str, messages: Messages) -> BackendError:
        """The error to raise where TensorRT only says no: with what it logged."""
        said = messages.reason("TensorRT does not say why")[:_SAID]
        return (OutOfDeviceMemory if _NO_MEMORY.search(said) else BackendError)(f"{self.path}: {what}: {said}")

    def _bare_context(self) -> Any:
        strategies = getattr(self._trt, "ExecutionContextAllocationStrategy", None)
        if strategies is None:
            return self._engine.create_execution_context_without_device_memory()
        kinds = getattr(self._trt, "DynamicShapesKernelSpecializationStrategy", None)
        if kinds is None:
            return self._engine.create_execution_context(strategies.USER_MANAGED)
        # TensorRT-RTX compiles kernels for a context's shape when it first sees it. Ours see one shape each: at once,
        # and not beside the first runs, as no stream can be captured then.
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategies.USER_MANAGED)
        config.dynamic_shapes_kernel_specialization_strategy = kinds.EAGER
        return self._engine.create_execution_context(config)

    def _spec(self, name: str) -> TensorSpec:
        trt, engine = self._trt, self._engine
        kinds = {trt.DataType.FLOAT: np.float32, trt.DataType.HALF: np.float16, trt.DataType.UINT8: np.uint8}
        kind, shape = engine.get_tensor_dtype(name), tuple(engine.get_tensor_shape(name))
        if kind not in kinds or engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
            raise BackendError(f"{self.path}: tensor {name} is a {kind} {shape}: expected float or uint8 on the device")
        return TensorSpec(name, shape, np.dtype(kinds[kind]))

    def _only(self, inputs: Iterable[TensorSpec]) -> TensorSpec:
        specs = list(inputs)
        if len(specs) == 1 and specs[0].dtype == np.uint8 and len(specs[0].shape) == 4:
            _, channels, height, width = specs[0].shape
            if channels == 3 and height > 0 and width > 0:
                return specs[0]
        found = ", ".join(map(_said, specs)) or "none"
        raise BackendError(f"{self.path}: its inputs are {found}, not one uint8 (N, 3, H, W)")

    def _sizes(self) -> Sizes:
        batch = self.input.shape[0]
        if batch != -1:
            return Sizes(batch, batch)
        least, _, most = self._engine.get_tensor_profile_shape(self.input.name, 0)
        return Sizes(least[0], most[0])


def _started(trt: Any, messages: Messages) -> Any:
    """A Runtime. Raises CudaError."""
    try:
        return trt.Runtime(logger(trt))
    except Exception as error:  # noqa: BLE001  # the binding raises TypeError where the library gives it nothing
        said = messages.reason(str(error))[:_SAID]
        raise CudaError(f"TensorRT {trt.__version__} does not start: {said}: see `sightwire doctor`") from None


def _said(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.dtype} ({', '.join('?' if side == -1 else str(side) for side in spec.shape)})"
