"""Networks on the reference runtime, giving out tensors from their middle.

One picture is one thread's work: how ONNX Runtime divides a matrix product among threads changes the last bits of its
results. Several pictures run side by side instead, so that the answers are the same on any number of cores.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.errors import CalibrationError
from engines.errors import first_line
from engines.graph import INPUT, serialise
from engines.quiet import import_onnxruntime

Tensor = NDArray[np.uint8]
"""(1, 3, H, W) uint8 RGB, prepared as for an engine."""
Progress = Callable[[int], None]
"""Is told how many pictures are done, after each."""
Values = dict[str, NDArray[Any]]
"""Tensor name -> its values for one picture."""
T = TypeVar("T")


def silent(done: int) -> None:
    """Progress that nobody watches."""


def forward(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    inputs: Iterable[Tensor],
    read: Callable[[int, Values], T],
    progress: Progress = silent,
) -> Iterator[T]:
    """Run the model on each input and yield what `read` makes of the values of `tensors`, in the order of the inputs.

    `read` gets the input's number and the values; it runs in several threads. As many pictures are in memory as this
    process may use cores.
    Raises CalibrationError if the runtime cannot run the model, BackendError without onnxruntime.
    """
    session = _session(model, tensors)

    def one(number: int, picture: Tensor) -> T:
        try:
            values = session.run(list(tensors), {INPUT: picture})
        except Exception as error:  # noqa: BLE001  # the runtime's errors have no base but Exception
            raise CalibrationError(f"ONNX Runtime cannot run the model: {first_line(error)}") from None
        return read(number, dict(zip(tensors, values, strict=True)))

    for done, result in enumerate(_side_by_side(one, inputs, len(os.sched_getaffinity(0))), 1):
        yield result
        progress(done)


def _side_by_side(task: Callable[[int, Tensor], T], inputs: Iterable[Tensor], workers: int) -> Iterator[T]:
    """`map` by several threads, in order, which takes an input only when a thread is free for it."""
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="forward") as pool:
        try:
            for number, picture in enumerate(inputs):
                if len(waiting) >= workers:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(task, number, picture))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _session(model: onnx.ModelProto, tensors: Sequence[str]) -> Any:
    """Return a session that gives out `tensors`; unoptimised, so that each exists as the graph says it."""
    ort = import_onnxruntime()
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    known = {value.name for value in model.graph.output}
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in known)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return ort.InferenceSession(serialise(opened), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  # the runtime's errors have no base but Exception
        raise CalibrationError(f"ONNX Runtime cannot load the model: {first_line(error)}") from None
