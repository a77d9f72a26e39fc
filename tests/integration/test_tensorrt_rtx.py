"""The catalogue's INT8 models become plans: built by TensorRT-RTX itself, for GPUs that are elsewhere.

No plan is run here, so nothing is said of what it computes or how fast. The whole matrix: `scripts/prove tensorrt`.
"""

from __future__ import annotations

import pytest

from engines.catalogue import Package, entry, names
from engines.store import ModelStore
from engines.trt.building import build
from tests.support.rtx import order_of_card, rtx

MODELS = [name for name in names() if entry(name).int8 and isinstance(entry(name).fetch, Package)]
"""Those whose weights any machine gets from the package index."""
TARGETS = [(7, 5), (8, 6), (8, 9), (12, 0)]
PAIRS = [(MODELS[at % len(MODELS)], TARGETS[at % len(TARGETS)]) for at in range(max(len(MODELS), len(TARGETS)))]
"""A build takes ten seconds of a core: each model and each GPU at least once."""


@pytest.mark.parametrize(("name", "target"), PAIRS, ids=lambda it: it if isinstance(it, str) else f"sm{it[0]}{it[1]}")
def test_every_int8_model_is_built_without_a_warning(name: str, target, real_models: ModelStore) -> None:
    """At float16, which is the default, for all batches that its card allows."""
    card, folder = real_models.find(name)
    built = build(rtx(), order_of_card(card, folder, "int8", "f16", target))
    assert built.warnings == ()
    assert built.floats == "f16"
    assert len(built.plan) > 1 << 20


def test_the_file_is_built_as_it_is(real_models: ModelStore) -> None:
    """Where what is not INT8 stays float32."""
    card, folder = real_models.find("efficientnet-lite0")
    built = build(rtx(), order_of_card(card, folder, "int8", "f32", (8, 6)))
    assert built.warnings == ()
    assert built.floats == "f32"


def test_the_float_model_is_built_at_float16(real_models: ModelStore) -> None:
    """Which is what is served where INT8 cannot be built."""
    card, folder = real_models.find("efficientnet-lite0")
    built = build(rtx(), order_of_card(card, folder, "fp32", "f16", (8, 6)))
    assert built.warnings == ()
    assert built.floats == "f16"
