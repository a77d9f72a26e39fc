"""INT8 with explicit Q/DQ: written from an FP32 graph and a table of scales; what a backend would misread is refused.

The form is what TensorRT, OpenVINO and ONNX Runtime all take as it is: symmetric int8 with zero point 0, one scale per
activation tensor, one per output channel of weights, weights stored as int8, biases in float. Q/DQ pairs stand on the
inputs of Conv, Gemm, Add and GlobalAveragePool only, so that nothing separates a convolution from its activation.
"""

from engines.qdq.corrections import corrected
from engines.qdq.equalisation import Place, equalisable, equalised
from engines.qdq.half import half
from engines.qdq.lint import lint, lint_file
from engines.qdq.nodes import activations, already_quantised, quantised_nodes
from engines.qdq.shifts import shiftable
from engines.qdq.stored import (
    pack_correction,
    pack_exponents,
    pack_moments,
    unpack_correction,
    unpack_exponents,
    unpack_moments,
)
from engines.qdq.table import LARGEST_SHARE, WRITER, Table
from engines.qdq.weights import quantise_weights, scale_of
from engines.qdq.writer import apply

__all__ = [
    "LARGEST_SHARE",
    "WRITER",
    "Place",
    "Table",
    "activations",
    "already_quantised",
    "apply",
    "corrected",
    "equalisable",
    "equalised",
    "half",
    "lint",
    "lint_file",
    "pack_correction",
    "pack_exponents",
    "pack_moments",
    "quantise_weights",
    "quantised_nodes",
    "scale_of",
    "shiftable",
    "unpack_correction",
    "unpack_exponents",
    "unpack_moments",
]
