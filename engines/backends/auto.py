"""The best engine that this machine has: TensorRT where an NVIDIA GPU and TensorRT are here, else OpenVINO."""

from __future__ import annotations

import ctypes
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import Field
from typing_extensions import Self

from engines.backends import BackendConfig, onnxruntime, openvino, tensorrt
from engines.base import Engine
from engines.card import Card, Precision


class Config(BackendConfig):
    """`auto`, or `{type: auto, standby: {threads: 2}}`."""

    type: Literal["auto"] = "auto"
    standby: openvino.Config = Field(default_factory=openvino.Config)
    """What serves without a GPU, and while TensorRT is made ready."""

    def chosen(self) -> tuple[BackendConfig, str]:
        """The backend that is taken here, and why."""
        if not _has_driver():
            return self.standby, "no NVIDIA driver on this machine"
        from engines.trt.here import lacking

        gpu = tensorrt.Config(standby=self.standby)
        why = lacking(gpu.device, gpu.flavour)
        return (self.standby, why) if why else (gpu, "an NVIDIA GPU and TensorRT are here")

    def build(self, card: Card, model: Path, precision: Precision) -> Engine:
        """With the backend that is taken here, and no other."""
        return self.chosen()[0].build(card, model, precision)

    def serve(self, card: Card, model: Path, precision: Precision) -> Engine:
        """See BackendConfig."""
        backend, why = self.chosen()
        if backend is not self.standby:
            return backend.serve(card, model, precision)
        said = {"because": f"auto: {why}"}
        if any(map(_installed, ("tensorrt", "tensorrt_rtx"))):  # a GPU may come up later than we do
            from engines.trt.serving import stand_by

            return stand_by(tensorrt.Config(standby=self.standby), card, model, precision, said)
        engine = backend.serve(card, model, precision)
        engine.description = {**engine.description, **said}
        return engine

    def instead(self) -> tuple[BackendConfig, ...]:
        """See BackendConfig: OpenVINO for TensorRT, and ONNX Runtime, where it is installed, for either."""
        threads, streams = self.standby.threads, self.standby.streams
        reference = onnxruntime.Config(provider="cpu", threads=threads, streams=streams)
        return (self.standby, *([reference] if _installed("onnxruntime") else []))

    def shared(self, threads: int, askers: int) -> Self:
        """See BackendConfig: threads are the CPU's."""
        return self.model_copy(update={"standby": self.standby.shared(threads, askers)})


def _has_driver() -> bool:
    """Most machines have none, and then nothing is amiss and nothing more is imported."""
    from engines.cuda.probe import LIBRARY

    try:
        ctypes.CDLL(LIBRARY)
    except OSError as error:
        absent = str(error).startswith(f"{LIBRARY}: ") and "No such file" in str(error)
        return not absent  # one that is broken, or lacks another library, is one
    return True


def _installed(name: str) -> bool:
    """Nothing is imported."""
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False
