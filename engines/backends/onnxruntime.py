"""ONNX Runtime: the reference that other engines are compared with, and NVIDIA GPUs by way of CUDA.

INT8 files run as they are written: each Q/DQ pair rounds, and what lies between two of them is float32. Its own INT8
kernels are neither exact on CPUs without VNNI nor faster than this on symmetric files (docs/adr/0014-backends.md).
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engines.backends import ThreadedConfig
from engines.backends._inputs import check_inputs
from engines.backends.slots import InputSlots
from engines.base import Batch, Engine, Raw, TensorSpec, Ticket
from engines.card import Card, Precision
from engines.errors import BackendError, ModelFileError
from engines.pixels import Geometry, Picture
from engines.quiet import FATAL, import_onnxruntime, preload_cuda

Provider = Literal["cpu", "cuda", "auto"]
_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_CUDA_OPTIONS = {"use_tf32": "0"}
"""TensorFloat-32, its default, has 10 bits of mantissa: not the precision that we say."""
_TYPES = {
    "tensor(bool)": "bool",
    "tensor(double)": "float64",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(int8)": "int8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(uint8)": "uint8",
}


class Config(ThreadedConfig):
    """`{type: onnxruntime, threads: 2, provider: cpu}`."""

    type: Literal["onnxruntime"] = "onnxruntime"
    provider: Provider = "auto"
    """auto: CUDA where the installed package has it and it loads, else the CPU."""

    def build(self, card: Card, model: Path, precision: Precision) -> OnnxRuntimeEngine:
        """Open a session of this model."""
        return OnnxRuntimeEngine(self, card, model, precision)


class OnnxRuntimeEngine(Engine):
    """One session, run by a thread a stream: ONNX Runtime's calls block, and leave the GIL to others meanwhile."""

    def __init__(self, config: Config, card: Card, model: Path, precision: Precision) -> None:
        ort = import_onnxruntime()
        threads = config.threads or len(os.sched_getaffinity(0))
        streams = min(config.streams or threads, threads)
        width, height = card.input.width, card.input.height
        self.max_batch = min(config.batch, card.max_batch)
        self.depth = streams + 1  # one more than the network works on, so that it never waits for us
        # Each stream works with its own thread and the session's pool, which counts the caller: `threads` in all.
        self._session, device = _open(ort, model, config.provider, threads - streams + 1)
        self.inputs = tuple(_spec(model, value) for value in self._session.get_inputs())
        self.outputs = tuple(_spec(model, value) for value in self._session.get_outputs())
        check_inputs(model, self.inputs, width, height, self.max_batch)
        self._names = [spec.name for spec in self.outputs]
        self.description = {
            "backend": f"onnxruntime {ort.__version__}",
            "device": device,
            "precision": precision,
            "float_precision": "f32",
            "threads": threads,
            "streams": streams,
            "batch": self.max_batch,
        }
        self._slots = InputSlots(self.depth, self.max_batch, height, width)
        self._streams = _Streams(streams)
        try:  # the first run allocates; nobody's frame should wait for that
            self._run(self._slots.tensors[0])
        except Exception as error:  # noqa: BLE001  # as in _Ticket
            self.close()
            raise BackendError(f"{model}: onnxruntime cannot run it: {_reason(error)}") from None

    def _run(self, tensor: NDArray[np.uint8]) -> Raw:
        """Neither copies its input on a CPU; binding outputs to memory of ours was measured to gain nothing."""
        return dict(zip(self._names, self._session.run(self._names, {self.inputs[0].name: tensor}), strict=True))

    def prepare(self, pictures: Sequence[Picture], geometries: Sequence[Geometry]) -> Batch:
        """See Engine."""
        return Batch(self._slots.fill(pictures, geometries), len(pictures))

    def submit(self, batch: Batch) -> Ticket:
        """See Engine."""
        running = self._streams.submit(partial(self._run, self._slots.rows(batch.slot, batch.count)))
        return _Ticket(running, self._slots, batch)

    def close(self) -> None:
        """See Engine."""
        self._streams.shutdown()


class _Streams:
    """Threads that run batches. Not those of `concurrent.futures`: Python would wait at its end for one that hangs."""

    def __init__(self, count: int) -> None:
        self._work: SimpleQueue[tuple[Future[Raw], Callable[[], Raw]] | None] = SimpleQueue()
        self._threads = [Thread(target=self._run, name=f"onnxruntime-{i}", daemon=True) for i in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, run: Callable[[], Raw]) -> Future[Raw]:
        """In the next thread that is free."""
        running: Future[Raw] = Future()
        self._work.put((running, run))
        return running

    def shutdown(self) -> None:
        """Wait for what is under way."""
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            running, run = work
            try:
                running.set_result(run())
            except Exception as error:  # noqa: BLE001  # whoever asks for the result gets it
                running.set_exception(error)
            del work, running, run  # an idle thread keeps no outputs


class _Ticket:
    def __init__(self, running: Future[Raw], slots: InputSlots, batch: Batch) -> None:
        self._running, self._slots, self._batch = running, slots, batch

    def done(self) -> bool:
        return self._running.done()

    def result(self) -> Raw:
        try:
            return self._running.result()
        except Exception as error:  # noqa: BLE001  # ONNX Runtime's exceptions share no base class
            raise BackendError(f"onnxruntime failed: {_reason(error)}") from None

    def release(self) -> None:
        self._slots.release(self._batch.slot)


def _open(ort: Any, model: Path, provider: Provider, threads: int) -> tuple[Any, str]:
    """Return a session on what was asked for, and the device's name. Raises BackendError."""
    cpu, has_cuda = _cpu_name(), _CUDA in ort.get_available_providers()
    if provider == "cpu" or (provider == "auto" and not has_cuda):
        return _session(ort, model, [_CPU], threads), cpu
    if not has_cuda:
        raise BackendError(
            f"onnxruntime {ort.__version__} is the one without CUDA: "
            "pip uninstall onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'"
        )
    preload_cuda(ort)
    session = _session(ort, model, [(_CUDA, _CUDA_OPTIONS), _CPU], threads)
    if _CUDA in session.get_providers():  # one that does not load is left out without a word
        return session, "CUDA"
    if provider == "auto":
        return session, f"{cpu} (CUDA did not load)"
    raise BackendError(
        f"onnxruntime {ort.__version__} did not load CUDA: `nvidia-smi` says whether there is a driver, "
        "pip install 'onnxruntime-gpu[cuda,cudnn]' brings the libraries"
    )


def _session(ort: Any, model: Path, providers: list[Any], threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL
    # Threads that wait by spinning take the time of those that decode: at 30 frames/s on two cores, twice the CPU time
    # and a later answer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        return ort.InferenceSession(os.fspath(model), options, providers=providers, enable_fallback=False)
    except Exception as error:  # noqa: BLE001  # as in _Ticket
        raise BackendError(f"{model}: onnxruntime cannot open it: {_reason(error)}") from None


def _spec(model: Path, value: Any) -> TensorSpec:
    if value.type not in _TYPES:
        raise ModelFileError(f"{model}: {value.name} is a {value.type}, which no card fits")
    shape = tuple(side if isinstance(side, int) else -1 for side in value.shape)
    return TensorSpec(value.name, shape, np.dtype(_TYPES[value.type]))


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _reason(error: Exception) -> str:
    """Return its last part: before it stand a number and its name, `[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : `."""
    said = " ".join(str(error).split())
    return said.rpartition(" : ")[2][:200] or type(error).__name__
