"""Is a network with a free batch the same network for several pictures at once? Answered by running it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from engines.errors import ModelFileError
from engines.graph import INPUT, serialise, shape_of
from engines.openvino_graph import read_graph
from engines.quiet import openvino_core

_TOLERANCE = 1e-3
"""Of an output's largest value: kernels for another batch add up in another order, a mixed-up batch is wrong by 1."""


def proved_batch(model: onnx.ModelProto, limit: int) -> int:
    """`limit` if batches of 3 and of `limit` give what their pictures give one by one, else 1.

    Also 1 where all pictures give the same: a network that drops what it is not sure of may find nothing in noise, and
    then nothing is proved. Raises ModelFileError if OpenVINO cannot compile the model at all.
    """
    compiled = compile_model(model)
    shape = shape_of(next(value for value in model.graph.input if value.name == INPUT))
    pictures = np.random.default_rng(0).integers(0, 256, (limit, *shape[1:]), np.uint8)
    request = compiled.create_infer_request()
    try:
        singles = [[array.copy() for array in request.infer([picture[None]]).values()] for picture in pictures]
    except RuntimeError:  # a graph that is fixed at several pictures inside
        return 1
    if all(np.array_equal(a, b) for single in singles[1:] for a, b in zip(singles[0], single, strict=True)):
        return 1
    for size in sorted({min(3, limit), limit}):
        try:
            outputs = list(request.infer([pictures[:size]]).values())
        except RuntimeError:  # a graph that is fixed at one picture inside
            return 1
        for index, output in enumerate(outputs):
            expected = np.concatenate([single[index] for single in singles[:size]])
            if output.shape != expected.shape:
                return 1
            if np.abs(output - expected).max() > _TOLERANCE * np.abs(expected).max():
                return 1
    return limit


def compile_model(model: onnx.ModelProto, threads: int = 0) -> Any:
    """Compile for this CPU at explicit float32, for one run at a time on so many threads (0: all).

    Raises ModelFileError.
    """
    core = openvino_core()
    options = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads}
    try:
        return core.compile_model(read_graph(serialise(model)), "CPU", options)
    except (RuntimeError, ValueError) as error:  # ValueError: a name that is no text
        reason = (str(error).strip().splitlines() or ["no reason given"])[-1]
        raise ModelFileError(f"OpenVINO cannot compile the network: {reason}") from None
