"""TensorRT on an NVIDIA GPU: a plan is built of the ONNX file once, kept beside it, and checked before it serves."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from engines.backends import BackendConfig, openvino
from engines.base import Engine
from engines.card import Card, Precision
from engines.trt.order import Order


class Config(BackendConfig):
    """`tensorrt`, or `{type: tensorrt, batch: 16, device: 1}`."""

    type: Literal["tensorrt"] = "tensorrt"
    device: int = Field(default=0, ge=0)
    """Which GPU, in the driver's order."""
    flavour: Literal["tensorrt", "tensorrt_rtx"] | None = None
    """Default: `tensorrt`, and `tensorrt_rtx` where that is not installed."""
    batch: int = Field(default=8, gt=0)
    """Pictures in one run of the network, at most."""
    float_precision: Literal["f16", "f32"] = "f16"
    """Of what is not INT8."""
    prepare: Literal["gpu", "cpu"] = "gpu"
    """What turns pixels into tensors."""
    workspace_mb: int | None = Field(default=None, gt=0)
    """Scratch memory of building and running; default: a share of what is free."""
    hardware_compatible: bool = False
    """A plan for other GPUs of this generation and later ones too, a little slower."""
    version_compatible: bool = False
    """A plan for later versions of TensorRT too."""
    dla: int | None = None
    """Refused."""
    standby: openvino.Config = Field(default_factory=openvino.Config)
    """What serves where TensorRT cannot, and while a plan is built."""

    @model_validator(mode="after")
    def _no_dla(self) -> Self:
        if self.dla is not None:
            raise ValueError(
                "dla: explicit INT8 (Q/DQ) does not run on a DLA: leave it out, and the GPU runs all of it"
            )
        return self

    def order(self, card: Card, model: Path, precision: Precision) -> Order:
        """The plan that is wanted of that file."""
        most = min(self.batch, card.max_batch)
        return Order(
            model=model,
            sha256=card.files[precision].sha256,
            precision=precision,
            floats=self.float_precision,
            size=(card.input.width, card.input.height),
            batches=(1, most, most),
            hardware_compatible=self.hardware_compatible,
            version_compatible=self.version_compatible,
            workspace_mb=self.workspace_mb,
        )

    def build(self, card: Card, model: Path, precision: Precision) -> Engine:
        """Run the plan, which is built first if it is not there: that takes up to half an hour."""
        from engines.trt.serving import make_ready

        return make_ready(self, card, model, precision, lambda _: None, threading.Event())

    def serve(self, card: Card, model: Path, precision: Precision) -> Engine:
        """See BackendConfig: the standby serves meanwhile."""
        from engines.trt.serving import serve

        return serve(self, card, model, precision)

    def instead(self) -> tuple[BackendConfig, ...]:
        """See BackendConfig."""
        return (self.standby,)

    def shared(self, threads: int, askers: int) -> Self:
        """See BackendConfig: threads are the standby's."""
        return self.model_copy(update={"standby": self.standby.shared(threads, askers)})
