"""Every backend computes what the reference computes, on every catalogue model whose weights can be had."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from engines.backends import BackendConfig
from engines.base import Raw
from engines.card import Card, Precision, model_file
from engines.catalogue import entry
from engines.pixels import Picture
from engines.store import ModelStore
from tests.support.agreement import (
    FP32_MOST,
    INT8_APART,
    INT8_LOSS,
    Reference,
    int8_apart,
    most_apart,
    outputs,
    unsettled,
)
from tests.support.backends import BACKENDS, COMPARED, REFERENCE
from tests.support.models import catalogue_model, obtainable
from tests.support.pictures import image_from, smooth_bgr
from tests.support.street import street_pictures


class Shown:
    """A model and the pictures that it is shown; what the reference says of them is computed once."""

    def __init__(self, card: Card, folder: Path, pictures: list[Picture]) -> None:
        self.card, self._folder, self._pictures = card, folder, pictures
        self.fp32 = cache(lambda: self.run(REFERENCE, "fp32"))
        self.reference = cache(self._reference)

    def _reference(self) -> Reference:
        moved = self.run(REFERENCE, "int8", unsettled(self._pictures))
        return Reference(self.fp32(), self.run(REFERENCE, "int8"), moved)

    def run(self, backend: BackendConfig, precision: Precision, pictures: list[Picture] | None = None) -> Raw:
        engine = backend.build(self.card, model_file(self.card, self._folder, precision), precision)
        try:
            return outputs(engine, self.card, pictures or self._pictures)
        finally:
            engine.close()


@pytest.fixture(scope="module")
def pictures(real_models: ModelStore) -> list[Picture]:
    generated = [Picture(image_from(smooth_bgr(640, 480, seed=seed), "bgr")) for seed in range(2)]
    return [Picture(image) for image in street_pictures(real_models, 3)] + generated


@pytest.fixture(scope="module")
def shown(request: pytest.FixtureRequest, real_models: ModelStore, pictures, tmp_path_factory) -> Shown:
    card, folder = catalogue_model(request.param, real_models, tmp_path_factory)
    return Shown(card, folder, pictures)


@pytest.mark.parametrize("backend", COMPARED)
@pytest.mark.parametrize("shown", obtainable(), indirect=True)
def test_fp32_agrees_with_the_reference(shown: Shown, backend: str) -> None:
    for name, most in most_apart(shown.fp32(), shown.run(BACKENDS[backend], "fp32")).items():
        assert most < FP32_MOST, f"{name} of {shown.card.name}"


@pytest.mark.parametrize("backend", COMPARED)
@pytest.mark.parametrize("shown", [name for name in obtainable() if entry(name).int8], indirect=True)
def test_int8_agrees_with_the_reference_and_loses_no_more_than_it_does(shown: Shown, backend: str) -> None:
    for name, (apart, loss) in int8_apart(shown.reference(), shown.run(BACKENDS[backend], "int8")).items():
        assert apart < INT8_APART, f"{name} of {shown.card.name}"
        assert loss < INT8_LOSS, f"{name} of {shown.card.name}"
