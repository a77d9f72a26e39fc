"""How much noise a candidate leaves in what the network says: run on OpenVINO, as the agent will."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from calibration.forward import Tensor
from calibration.signal import Outputs, output_signal_to_noise, predictions
from engines.batch import compile_model


class Noise:
    """Compares candidates with the FP32 network on a few prepared pictures."""

    def __init__(self, fp32: onnx.ModelProto, pictures: Sequence[Tensor]) -> None:
        self._names = predictions(fp32)
        self._pictures = pictures
        self._reference = self._outputs(fp32, len(pictures))

    def of(self, model: onnx.ModelProto, most: int | None = None) -> float:
        """Signal-to-noise in dB of the model's predictions against those of FP32, on at most so many pictures."""
        count = len(self._pictures) if most is None else min(most, len(self._pictures))
        reference = {name: array[:count] for name, array in self._reference.items()}
        return round(output_signal_to_noise(reference, self._outputs(model, count)), 3)

    def _outputs(self, model: onnx.ModelProto, count: int) -> Outputs:
        opened = onnx.ModelProto()
        opened.CopyFrom(model)
        del opened.graph.output[:]
        opened.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self._names)
        request = compile_model(opened).create_infer_request()
        rows: dict[str, list[Any]] = {name: [] for name in self._names}
        for picture in self._pictures[:count]:
            request.infer([picture])
            for name in self._names:
                rows[name].append(request.get_tensor(name).data.copy())
        return {name: np.concatenate(found) for name, found in rows.items()}
