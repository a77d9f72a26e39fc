"""Runs a network over pictures and keeps the statistics of its activations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx

from calibration.errors import DatasetError
from calibration.forward import Progress, Tensor, Values, forward, silent
from calibration.ranges.observed import Observed


def observe(
    model: onnx.ModelProto, tensors: Sequence[str], inputs: Iterable[Tensor], progress: Progress = silent
) -> dict[str, Observed]:
    """Statistics of `tensors` over all inputs, (1, 3, H, W) uint8 each, in the order of `tensors`.

    The same model and inputs in the same order give the same statistics, on any number of cores.
    Raises CalibrationError naming a tensor with values that are not finite, DatasetError if there is no input.
    """

    def read(number: int, values: Values) -> dict[str, Observed]:
        return {name: Observed.of(name, array, number) for name, array in values.items()}

    total: dict[str, Observed] = {}
    for one in forward(model, tensors, inputs, read, progress):
        total = {name: total[name].merge(found) for name, found in one.items()} if total else one
    if not total:
        raise DatasetError("no picture to calibrate with")
    return total
