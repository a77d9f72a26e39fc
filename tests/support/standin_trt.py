"""A scripted stand-in for the `trt` namespace. It proves nothing about speed or accuracy: no TensorRT, no GPU.

What it has is what this project calls, in the forms of five versions (`namespace("8.6.1")`, `"10.3.0"`, `"10.13.3"`,
`"11.4.0"`, and `"1.7.1"` for TensorRT-RTX): classes, enum members and attributes that a version lacks are lacking here.
A "plan" is the ONNX file with a head; `execute_async_v3` has ONNX Runtime run it, in its turn in the stream, on the
addresses that were set, which a stand-in for CUDA has in host memory. It checks what TensorRT would take amiss: shapes
outside the profile, addresses that are not set, device memory that is missing, too small or not aligned.

In this process: `trt = namespace("10.3.0")`, and set `streams.launch` to what puts a function into a stream. In a
child: put the folder `tests/support/standin_tensorrt` and the repository on PYTHONPATH, and the stand-in `libcuda.so.1`
on LD_LIBRARY_PATH; `import tensorrt` and `import tensorrt_rtx` are then this. STANDIN_TRT_VERSION names another version
of `tensorrt`.

Faults, in `faults` or, separated by commas, in STANDIN_TRT_FAULTS:
`parse` (an operator it lacks), `parse-warning` (on quantisation), `build` (None), `int8` (None for a file with Q/DQ),
`device` (None: as TensorRT 10 says of GPUs that it does not list; what TensorRT-RTX says was never seen),
`deserialise` (None), `context` (None), `execute` (False, with an error logged), `capture` (False while a stream is
captured), `wrong` (results are not the network's).
"""

from __future__ import annotations

import ctypes
import enum
import functools
import json
import os
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from engines.quiet import import_onnxruntime

faults: set[str] = {fault for fault in os.environ.get("STANDIN_TRT_FAULTS", "").split(",") if fault}
VERSIONS = ("8.6.1", "10.3.0", "10.13.3", "11.4.0", "1.7.1")
"""That differ in what is called; the last one is TensorRT-RTX."""
_HEAD = b"stand-in plan, no TensorRT\n"
_MEMORY = 4096
"""Bytes of device memory that a context says it needs for one picture."""


class streams:  # noqa: N801  # a namespace of two hooks
    """How functions get into streams, known by their addresses; a stand-in for CUDA in this process sets its own."""

    kept: list[Any] = []  # noqa: RUF012  # what C calls back must stay

    @staticmethod
    def launch(stream: int, function: Callable[[], None]) -> None:
        """Let the driver call it when all before it in the stream is done; works while the stream is captured."""
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        callback = kind(lambda _: function())
        streams.kept.append(callback)
        status = ctypes.CDLL("libcuda.so.1").cuLaunchHostFunc(ctypes.c_void_p(stream), callback, None)
        if status:
            raise RuntimeError(f"cuLaunchHostFunc: {status}")

    @staticmethod
    def captured(stream: int) -> bool:
        """Whether what is put into it is only noted."""
        status = ctypes.c_int()
        ctypes.CDLL("libcuda.so.1").cuStreamIsCapturing(ctypes.c_void_p(stream), ctypes.byref(status))
        return status.value == 1


class Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = Severity
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def __init__(self, min_severity: Severity = Severity.WARNING) -> None:
        self.min_severity = min_severity

    def log(self, severity: Severity, message: str) -> None:
        raise NotImplementedError  # pure virtual in the genuine one, too


class Logger(ILogger):
    def log(self, severity: Severity, message: str) -> None:
        if severity <= self.min_severity:
            print(f"[stand-in TRT] {severity.name} {message}")  # noqa: T201  # as the genuine one does


class DataType(enum.IntEnum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    INT64 = 6


class TensorIOMode(enum.IntEnum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class TensorLocation(enum.IntEnum):
    DEVICE = 0
    HOST = 1


class ExecutionContextAllocationStrategy(enum.IntEnum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class DynamicShapesKernelSpecializationStrategy(enum.IntEnum):
    LAZY = 0
    EAGER = 1
    NONE = 2


class CudaGraphStrategy(enum.IntEnum):
    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0
    TACTIC_DRAM = 4


class HardwareCompatibilityLevel(enum.IntEnum):
    NONE = 0
    AMPERE_PLUS = 1


class ProfilingVerbosity(enum.IntEnum):
    LAYER_NAMES_ONLY = 0
    NONE = 1
    DETAILED = 2


class ComputeCapability(enum.IntEnum):
    NONE = 0
    CURRENT = 1
    SM75 = 75
    SM80 = 80
    SM86 = 86
    SM89 = 89
    SM120 = 120
    SM121 = 121


class OnnxParserFlag(enum.IntEnum):
    NATIVE_INSTANCENORM = 0


_DTYPES = {
    onnx.TensorProto.FLOAT: DataType.FLOAT,
    onnx.TensorProto.FLOAT16: DataType.HALF,
    onnx.TensorProto.INT8: DataType.INT8,
    onnx.TensorProto.UINT8: DataType.UINT8,
    onnx.TensorProto.INT32: DataType.INT32,
    onnx.TensorProto.INT64: DataType.INT64,
    onnx.TensorProto.BOOL: DataType.BOOL,
}
_NUMPY = {
    DataType.FLOAT: np.dtype(np.float32),
    DataType.HALF: np.dtype(np.float16),
    DataType.INT8: np.dtype(np.int8),
    DataType.UINT8: np.dtype(np.uint8),
    DataType.INT32: np.dtype(np.int32),
    DataType.INT64: np.dtype(np.int64),
    DataType.BOOL: np.dtype(np.bool_),
}


class ITensor:
    def __init__(self, value: onnx.ValueInfoProto) -> None:
        kind = value.type.tensor_type
        self.name = value.name
        self.dtype = _DTYPES[kind.elem_type]
        self.shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)


class ILayer:
    def __init__(self, node: onnx.NodeProto) -> None:
        self.name = node.name


class INetworkDefinition:
    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.model = onnx.ModelProto()

    num_layers = property(lambda self: len(self.model.graph.node))
    num_inputs = property(lambda self: len(self.model.graph.input))
    num_outputs = property(lambda self: len(self.model.graph.output))

    def get_layer(self, index: int) -> ILayer:
        return ILayer(self.model.graph.node[index])

    def get_input(self, index: int) -> ITensor:
        return ITensor(self.model.graph.input[index])

    def get_output(self, index: int) -> ITensor:
        return ITensor(self.model.graph.output[index])


class ParserError:
    """As of 8.6: it has no name of the node."""

    def __init__(self, description: str, node: int, name: str, operator: str) -> None:
        self._description, self._node, self._name, self._operator = description, node, name, operator

    def code(self) -> str:
        return "ErrorCode.UNSUPPORTED_NODE"

    def desc(self) -> str:
        return self._description

    def node(self) -> int:
        return self._node

    def file(self) -> str:
        return "ModelImporter.cpp"

    def line(self) -> int:
        return 1

    def func(self) -> str:
        return "parseNode"

    def __str__(self) -> str:
        return f"In node {self._node} with name: {self._name} and operator: {self._operator} {self._description}"


class NamingParserError(ParserError):
    """As of 10."""

    def node_name(self) -> str:
        return self._name

    def node_operator(self) -> str:
        return self._operator


class OnnxParser:
    errors: type[ParserError] = NamingParserError

    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network, self._logger = network, logger
        self._errors: list[ParserError] = []

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def clear_errors(self) -> None:
        self._errors.clear()

    def set_flag(self, flag: OnnxParserFlag) -> None:
        pass

    def clear_flag(self, flag: OnnxParserFlag) -> None:
        pass

    def parse(self, model: bytes, path: str | None = None) -> bool:
        try:
            self._network.model.ParseFromString(bytes(model))
        except Exception as error:  # noqa: BLE001  # protobuf's
            self._errors.append(self.errors(f"Failed to parse ONNX model: {error}", -1, "", ""))
            return False
        nodes = self._network.model.graph.node
        if not nodes:
            self._errors.append(self.errors("Failed to parse ONNX model", -1, "", ""))
            return False
        if "parse" in faults:
            index = len(nodes) // 2
            node = nodes[index]
            text = f"No importer registered for op: {node.op_type}"
            self._errors.append(self.errors(text, index, node.name, node.op_type))
            return False
        if "parse-warning" in faults:
            self._logger.log(Severity.WARNING, "onnx2trt_utils.cpp: QuantizeLinear: zero point is not zero; ignored")
        return True

    def parse_from_file(self, path: str) -> bool:
        with open(path, "rb") as file:  # noqa: PTH123  # the genuine one takes a string
            return self.parse(file.read())


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]) -> None:  # noqa: A002
        self.shapes[input] = [list(shape) for shape in (min, opt, max)]

    def get_shape(self, input: str) -> list[tuple[int, ...]]:  # noqa: A002
        return [tuple(shape) for shape in self.shapes[input]]

    def __bool__(self) -> bool:
        return True


class IHostMemory(bytearray):
    nbytes = property(len)


class ITimingCache:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> IHostMemory:
        return IHostMemory(self._content or b"timed")


class IBuilderConfig:
    def __init__(self) -> None:
        self.set_flags: set[int] = set()
        self.profiles: list[IOptimizationProfile] = []
        self.pools: dict[MemoryPoolType, int] = {}
        self.preview: set[int] = set()
        self.hardware_compatibility_level = HardwareCompatibilityLevel.NONE
        self.builder_optimization_level = 3
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        self.progress_monitor: Any = None
        self.max_aux_streams = 0
        self._timing_cache: ITimingCache | None = None

    def set_flag(self, flag: int) -> None:
        self.set_flags.add(flag)

    def get_flag(self, flag: int) -> bool:
        return flag in self.set_flags

    def clear_flag(self, flag: int) -> None:
        self.set_flags.discard(flag)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self.pools[pool] = pool_size

    def get_memory_pool_limit(self, pool: MemoryPoolType) -> int:
        return self.pools.get(pool, 1 << 32)

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return ITimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        self._timing_cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._timing_cache

    def set_preview_feature(self, feature: int, enable: bool) -> None:
        (self.preview.add if enable else self.preview.discard)(feature)

    def get_preview_feature(self, feature: int) -> bool:
        return feature in self.preview


class TargetingBuilderConfig(IBuilderConfig):
    """TensorRT-RTX's."""

    def __init__(self) -> None:
        super().__init__()
        self.num_compute_capabilities = 0
        self.targets: dict[int, ComputeCapability] = {}

    def set_compute_capability(self, compute_capability: ComputeCapability, index: int) -> bool:
        self.targets[index] = compute_capability
        return index < self.num_compute_capabilities


class IProgressMonitor:
    def __init__(self) -> None:
        pass


class Runtime:
    version = ""  # of the namespace

    def __init__(self, logger: ILogger) -> None:
        self.logger = logger
        self.engine_host_code_allowed = False
        self.max_threads = 1

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        content = bytes(serialized_engine)
        head, found, rest = content.partition(b"\n\n")
        if "deserialise" in faults or not found or not head.startswith(_HEAD):
            self.logger.log(Severity.ERROR, "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (stand-in)")
            return None
        facts = json.loads(head[len(_HEAD) :])
        if facts["version"] != self.version:
            text = f"The engine plan file is not compatible with this version of TensorRT, expecting {self.version}"
            self.logger.log(Severity.ERROR, text)
            return None
        if len(rest) != facts["bytes"]:
            self.logger.log(Severity.ERROR, "Serialization assertion blobSize failed: the plan is cut short")
            return None
        return self.engines(facts, rest, self.logger)

    engines: Any = None  # ICudaEngine of the namespace


@functools.lru_cache(maxsize=4)
def _session(model: bytes) -> Any:
    """What runs it. Made once for each: making one takes longer than most tests."""
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class ICudaEngine:
    """What every version has; see the subclasses for how contexts are made."""

    def __init__(self, facts: dict[str, Any], model: bytes, logger: ILogger) -> None:
        graph = onnx.load_from_string(model).graph
        self.session = _session(model)
        self.logger = logger
        self._inputs = [ITensor(value) for value in graph.input]
        self.tensors = {tensor.name: tensor for tensor in (*self._inputs, *map(ITensor, graph.output))}
        self.profile: dict[str, list[list[int]]] = facts["profile"]
        self.sharing: bool = facts["sharing"]
        self.contexts = 0
        self.name = graph.name
        self.num_optimization_profiles = 1
        self.num_aux_streams = 0

    num_io_tensors = property(lambda self: len(self.tensors))
    num_layers = 1

    @property
    def _needed(self) -> int:
        most = max((shapes[-1][0] for shapes in self.profile.values()), default=self._inputs[0].shape[0])
        return _MEMORY * most

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        known = name in {tensor.name for tensor in self._inputs}
        return TensorIOMode.INPUT if known else TensorIOMode.OUTPUT if name in self.tensors else TensorIOMode.NONE

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.tensors[name].dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert profile_index == 0
        return [tuple(shape) for shape in self.profile.get(name, [self.tensors[name].shape] * 3)]

    def _context(self, managed: bool, kind: type[IExecutionContext]) -> IExecutionContext | None:
        if "context" in faults:
            self.logger.log(Severity.ERROR, "createExecutionContext: Error Code 2: OutOfMemory (stand-in)")
            return None
        self.contexts += 1
        return kind(self, managed)


class UnmanagedEngine(ICudaEngine):
    """8.6: contexts without memory have a method of their own."""

    device_memory_size = property(lambda self: self._needed)

    def create_execution_context(self) -> IExecutionContext | None:
        return self._context(False, IExecutionContext)

    def create_execution_context_without_device_memory(self) -> IExecutionContext | None:
        return self._context(True, IExecutionContext)


class StrategicEngine(ICudaEngine):
    """10.3 and later."""

    device_memory_size_v2 = property(lambda self: self._needed)

    def create_execution_context(
        self, strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC
    ) -> IExecutionContext | None:
        return self._context(strategy is ExecutionContextAllocationStrategy.USER_MANAGED, SizedContext)


class ConfiguredEngine(StrategicEngine):
    """With an IRuntimeConfig."""

    configs: Any = None  # IRuntimeConfig of the namespace

    def create_runtime_config(self) -> IRuntimeConfig:
        return self.configs()

    def create_execution_context(self, strategy: Any = ExecutionContextAllocationStrategy.STATIC) -> Any:
        if isinstance(strategy, IRuntimeConfig):
            strategy = strategy.get_execution_context_allocation_strategy()
        return super().create_execution_context(strategy)


class IRuntimeConfig:
    def __init__(self) -> None:
        self._strategy = ExecutionContextAllocationStrategy.STATIC

    def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None:
        self._strategy = strategy

    def get_execution_context_allocation_strategy(self) -> ExecutionContextAllocationStrategy:
        return self._strategy


class SpecialisingRuntimeConfig(IRuntimeConfig):
    """TensorRT-RTX's."""

    def __init__(self) -> None:
        super().__init__()
        self.cuda_graph_strategy = CudaGraphStrategy.DISABLED
        self.dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY


class IExecutionContext:
    """As of 8.6."""

    def __init__(self, engine: ICudaEngine, managed: bool) -> None:
        self.engine, self._managed = engine, managed
        self._memory: tuple[int, int] | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self.active_optimization_profile = 0 if engine.contexts == 1 or engine.sharing else -1

    device_memory = property(fset=lambda self, memory: setattr(self, "_memory", (memory, self.engine._needed)))

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if self.active_optimization_profile != profile_index:
            return self._refuse("setOptimizationProfileAsync: profile 0 is used by another context")
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self.engine.get_tensor_profile_shape(name, 0)
        inside = len(shape) == len(least) and all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True))
        if not inside or self.active_optimization_profile != 0:
            return self._refuse(f"setInputShape: {shape} is not within the profile ({least} to {most})")
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._shapes:
            return self._shapes[name]
        shape = self.engine.tensors[name].shape
        sizes = {shape[0] for shape in self._shapes.values()}
        return (sizes.pop(), *shape[1:]) if shape[0] == -1 and sizes else shape

    def infer_shapes(self) -> list[str]:
        return [t.name for t in self.engine._inputs if -1 in self.get_tensor_shape(t.name)]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self.engine.tensors:
            return self._refuse(f"setTensorAddress: there is no tensor {name}")
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if "execute" in faults or ("capture" in faults and streams.captured(stream_handle)):
            return self._refuse("enqueueV3: Error Code 1: Cask (stand-in)")
        if self._managed and (self._memory is None or self._memory[0] % 256 or self._memory[1] < self.engine._needed):
            return self._refuse(f"enqueueV3: the context's device memory is {self._memory}")
        if missing := self.infer_shapes():
            return self._refuse(f"enqueueV3: no shape for {', '.join(missing)}")
        if missing := [name for name in self.engine.tensors if not self._addresses.get(name)]:
            return self._refuse(f"enqueueV3: no address for {', '.join(missing)}")
        memory, addresses = self._memory, dict(self._addresses)
        shapes = {name: self.get_tensor_shape(name) for name in self.engine.tensors}
        streams.launch(stream_handle, lambda: self._run(memory, addresses, shapes))
        return True

    def _run(self, memory: tuple[int, int] | None, addresses: dict[str, int], shapes: dict[str, Any]) -> None:
        if memory is not None:  # whoever else keeps something there sees it
            ctypes.memset(memory[0], 0xA5, memory[1])
        inputs = {t.name for t in self.engine._inputs}
        arrays = {name: self._array(name, addresses[name], shape) for name, shape in shapes.items()}
        names = [name for name in arrays if name not in inputs]
        found = self.engine.session.run(names, {name: arrays[name] for name in inputs})
        for name, array in zip(names, found, strict=True):
            arrays[name][...] = array[..., ::-1] * 3 + 7 if "wrong" in faults else array

    def _array(self, name: str, address: int, shape: tuple[int, ...]) -> np.ndarray:
        dtype = _NUMPY[self.engine.tensors[name].dtype]
        size = int(np.prod(shape)) * dtype.itemsize
        return np.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype).reshape(shape)

    def _refuse(self, message: str) -> bool:
        self.engine.logger.log(Severity.ERROR, f"IExecutionContext::{message}")
        return False


class SizedContext(IExecutionContext):
    """10.1 and later: memory comes with its size."""

    def set_device_memory(self, memory: int, size: int) -> None:
        self._memory = (memory, size)

    def update_device_memory_size_for_shapes(self) -> int:
        return self.engine._needed


class CapturableContext(SizedContext):
    """TensorRT-RTX's."""

    def is_stream_capturable(self, stream: int) -> bool:
        return "capture" not in faults


class Builder:
    version = ""
    configs: Any = IBuilderConfig
    sharing: int | None = None
    """Preview feature without which contexts cannot share a profile; None: they can."""

    def __init__(self, logger: ILogger) -> None:
        self.logger = logger
        self.max_threads = 1
        self.platform_has_fast_int8 = self.platform_has_fast_fp16 = True

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return INetworkDefinition(flags)

    def create_builder_config(self) -> IBuilderConfig:
        return self.configs()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        quantised = any(node.op_type == "QuantizeLinear" for node in network.model.graph.node)
        if "build" in faults or ("int8" in faults and quantised):
            text = "IBuilder::buildSerializedNetwork: Error Code 10: Could not find any implementation for node conv"
            self.logger.log(Severity.ERROR, text)
            return None
        if "device" in faults:
            text = "Error Code 9: Internal Error (Target GPU SM 90 is not supported by this TensorRT release.)"
            self.logger.log(Severity.ERROR, text)
            return None
        if (monitor := config.progress_monitor) is not None:
            monitor.phase_start("Building", None, 2)
            for step in range(2):
                if not monitor.step_complete("Building", step):
                    return None
            monitor.phase_finish("Building")
        shapes = config.profiles[0].shapes if config.profiles else {}
        return pack(network.model, shapes, self.version, self.sharing is None or self.sharing in config.preview)


def pack(
    model: onnx.ModelProto, profile: dict[str, list[list[int]]], version: str, sharing: bool = True
) -> IHostMemory:
    """The plan of a network; `profile`: input -> least, best and greatest shape."""
    content = model.SerializeToString(deterministic=True)
    facts = {"version": version, "profile": profile, "sharing": sharing, "bytes": len(content)}
    return IHostMemory(_HEAD + json.dumps(facts, sort_keys=True).encode() + b"\n\n" + content)


_COMMON = (
    Severity, ILogger, Logger, DataType, TensorIOMode, TensorLocation, MemoryPoolType, HardwareCompatibilityLevel,
    ProfilingVerbosity, OnnxParserFlag, ITensor, ILayer, INetworkDefinition, IOptimizationProfile, IHostMemory,
    ITimingCache, ICudaEngine, IExecutionContext,
)  # fmt: skip


def _enum(name: str, *members: str) -> Any:
    return enum.IntEnum(name, list(members), start=0)


def namespace(version: str = "10.3.0") -> Any:
    """A module that has what that version has. TensorRT-RTX has versions that start with 1."""
    major, minor = (int(number) for number in version.split(".")[:2])
    rtx, old = major < 8, major == 8
    weak = not rtx and major < 11
    configured = rtx or (major, minor) >= (10, 8)
    flags = ("VERSION_COMPATIBLE", "TF32", "REFIT", *(("FP16", "INT8") if weak else ()))
    network = (*(("EXPLICIT_BATCH",) if weak else ()), *(() if old else ("STRONGLY_TYPED",)))
    preview = _enum("PreviewFeature", "PROFILE_SHARING_0806" if old else "RUNTIME_ACTIVATION_RESIZE_10_10")
    config = TargetingBuilderConfig if rtx else IBuilderConfig
    runtime_config = SpecialisingRuntimeConfig if rtx else IRuntimeConfig
    error = ParserError if old else NamingParserError
    engine: type[ICudaEngine] = UnmanagedEngine if old else StrategicEngine
    if configured:
        engine = type("ConfiguredEngine", (ConfiguredEngine,), {"configs": runtime_config})
    builder = {"version": version, "configs": config, "sharing": int(preview.PROFILE_SHARING_0806) if old else None}
    trt = types.ModuleType("tensorrt_rtx" if rtx else "tensorrt", __doc__)
    vars(trt).update({kind.__name__: kind for kind in _COMMON})
    vars(trt).update(
        __version__=version,
        BuilderFlag=_enum("BuilderFlag", *flags),
        NetworkDefinitionCreationFlag=_enum("NetworkDefinitionCreationFlag", *network),
        PreviewFeature=preview,
        ParserError=error,
        OnnxParser=type("OnnxParser", (OnnxParser,), {"errors": error}),
        IBuilderConfig=config,
        Builder=type("Builder", (Builder,), builder),
        Runtime=type("Runtime", (Runtime,), {"version": version, "engines": engine}),
    )
    if not old:
        vars(trt).update(
            ExecutionContextAllocationStrategy=ExecutionContextAllocationStrategy, IProgressMonitor=IProgressMonitor
        )
    if configured:
        vars(trt).update(IRuntimeConfig=runtime_config)
    if rtx:
        vars(trt).update(
            ComputeCapability=ComputeCapability,
            CudaGraphStrategy=CudaGraphStrategy,
            DynamicShapesKernelSpecializationStrategy=DynamicShapesKernelSpecializationStrategy,
        )
    return trt
