"""A card of the fake store and a tiny network that fits it, for the tests of engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.card import Card
from tests.support.agents import fake_store
from tests.support.means import means_model


@pytest.fixture
def card(tmp_path: Path) -> Card:
    return fake_store(tmp_path / "store").find("classes")[0]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return means_model(tmp_path / "means.onnx")
