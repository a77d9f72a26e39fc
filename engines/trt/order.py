"""What a plan is to be: everything it depends on but the machine and TensorRT themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engines.card import Precision

Floats = Literal["f16", "f32"]
"""What computes what is not INT8."""


@dataclass(frozen=True)
class Order:
    """One plan of one ONNX file."""

    model: Path
    sha256: str
    """Of that file, as its card says and as was checked."""
    precision: Precision
    """Of the file: int8 (explicit Q/DQ) or fp32."""
    floats: Floats
    size: tuple[int, int]
    """Input width and height."""
    batches: tuple[int, int, int]
    """Of the profile: least, the one to be fastest at, most."""
    target: tuple[int, int] | None = None
    """Compute capability of a GPU that is not here (TensorRT-RTX only); None: the GPU that is here."""
    hardware_compatible: bool = False
    """For other GPUs of this generation and later ones too, at some cost in speed."""
    version_compatible: bool = False
    """For later versions of TensorRT too."""
    workspace_mb: int | None = None
    """Scratch memory that building and running may use; None: a share of what is free."""
