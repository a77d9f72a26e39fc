"""The same network with fewer passes over its tensors: what moves values is done to the weights beforehand.

For backends, when they compile; FP32 and INT8 files alike. Every product is the same, sums are in another order. What a
rewrite does not fully understand it leaves as it is.
"""

from __future__ import annotations

import onnx

from engines.rewrites import focus, shuffles, splits
from engines.rewrites.network import Network, Stays

_ALL = (
    (focus.dealt_out, focus.join),
    (splits.after_convolutions, splits.cut),
    (shuffles.shuffled, shuffles.unshuffle),
)
"""What may be rewritten, by the names of tensors; and how, or Stays."""


def rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same network with fewer passes over its tensors; `model` itself if there is nothing to gain."""
    for find, rewrite in _ALL:
        for name in find(Network(model)):
            network = Network(model)  # a new one each time: one that stays may have been changed in part
            try:
                rewrite(network, name)
            except Stays:
                continue
            model = network.model()
    return model
