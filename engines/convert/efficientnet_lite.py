"""EfficientNet-Lite from a PyTorch state dict.

Tan and Le, https://arxiv.org/abs/1905.11946; Lite: no squeeze-and-excitation, ReLU6 instead of swish. The state dict
has the names of the `efficientnet-pytorch` family: `_conv_stem`, `_blocks.N._expand_conv`, `_fc`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from engines.convert.builder import Builder
from engines.convert.pth import read_state
from engines.errors import ModelFileError

_STRIDES = (1, 2, 2, 2, 1, 2, 1)
"""Of the first block of each stage."""
_EPSILON = 1e-3
"""Of the batch normalisations."""
State = Mapping[str, NDArray[Any]]


def convert(data: bytes, options: Mapping[str, Any], where: str) -> onnx.ModelProto:
    """Convert to a graph with outputs `logits` (N, classes) and `embedding` (N, features).

    options: `size`, the input's side in pixels; `repeats`, the number of blocks of each of the seven stages.
    """
    state = read_state(data, where)
    try:
        return _build(state, int(options["size"]), [int(n) for n in options["repeats"]])
    except KeyError as error:
        raise ModelFileError(f"{where}: not an EfficientNet-Lite, it has no {error}") from None
    except (ValueError, IndexError, TypeError) as error:
        raise ModelFileError(f"{where}: its tensors are not those of an EfficientNet-Lite: {error}") from None


def _build(state: State, size: int, repeats: list[int]) -> onnx.ModelProto:
    net = Builder("input", size)
    x = _conv(net, net.source, state, "_conv_stem", "_bn0", "stem", stride=2)
    x = net.relu6(x, "stem.relu6")
    index = 0
    for stage_stride, count in zip(_STRIDES, repeats, strict=True):
        for position in range(count):
            x = _block(net, x, state, index, stage_stride if position == 0 else 1, residual=position > 0)
            index += 1
    if f"_blocks.{index}._project_conv.weight" in state:
        raise ValueError(f"more than {index} blocks")
    x = net.relu6(_conv(net, x, state, "_conv_head", "_bn1", "head"), "head.relu6")
    x = net.node("GlobalAveragePool", [x], "pool")
    x = net.node("Flatten", [x], "embedding", axis=1)
    weights, bias = state["_fc.weight"], state["_fc.bias"]
    classes, features = weights.shape
    inputs = [x, net.constant("logits.weights", weights), net.constant("logits.bias", bias)]
    net.node("Gemm", inputs, "logits", transB=1)
    return net.model({"logits": (classes,), "embedding": (features,)})


def _block(net: Builder, source: str, state: State, index: int, stride: int, *, residual: bool) -> str:
    """Inverted bottleneck: expand (not in the first block), depthwise, project, and the shortcut."""
    key, name = f"_blocks.{index}.", f"block{index}"
    x = source
    if f"{key}_expand_conv.weight" in state:
        x = _conv(net, x, state, f"{key}_expand_conv", f"{key}_bn0", f"{name}.expand")
        x = net.relu6(x, f"{name}.expand.relu6")
    groups = state[f"{key}_depthwise_conv.weight"].shape[0]
    x = _conv(net, x, state, f"{key}_depthwise_conv", f"{key}_bn1", f"{name}.depthwise", stride=stride, groups=groups)
    x = net.relu6(x, f"{name}.depthwise.relu6")
    x = _conv(net, x, state, f"{key}_project_conv", f"{key}_bn2", f"{name}.project")
    return net.node("Add", [x, source], f"{name}.add") if residual else x


def _conv(
    net: Builder, source: str, state: State, conv: str, norm: str, name: str, *, stride: int = 1, groups: int = 1
) -> str:
    """Return a convolution with its batch normalisation folded in; in float64, so that rounding happens once."""
    weights = state[f"{conv}.weight"].astype(np.float64)
    gain, shift, mean, variance = (
        state[f"{norm}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = gain / np.sqrt(variance + _EPSILON)
    folded = weights * factor[:, None, None, None]
    return net.conv(source, folded, shift - mean * factor, name, stride=stride, groups=groups)
