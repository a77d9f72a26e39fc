"""Compiled networks are read back only when they are what was written, for what is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.backends import openvino
from engines.card import Card
from engines.pixels import Picture, fit
from tests.support.pictures import image_from, smooth_bgr


def answer(card: Card, model: Path, **options) -> np.ndarray:
    engine = openvino.Config(threads=1, **options).build(card, model, "fp32")
    image = image_from(smooth_bgr(64, 48), "bgr")
    try:
        return engine([Picture(image)], [fit((64, 48), None, card.input)])["scores"]
    finally:
        engine.close()


def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    seen: list[Path] = []
    compile_ = openvino._compile
    monkeypatch.setattr(
        openvino, "_compile", lambda ov, core, model, *rest: seen.append(model) or compile_(ov, core, model, *rest)
    )
    return seen


def test_the_second_start_compiles_nothing_and_answers_the_same(card, model, monkeypatch) -> None:
    seen = compilations(monkeypatch)
    assert (answer(card, model) == answer(card, model)).all()
    assert len(seen) == 1


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: data[:-1] + b"?", lambda _: b""])
@pytest.mark.parametrize("suffix", [".blob", ".json"])
def test_a_damaged_copy_is_compiled_anew(card, model, monkeypatch, damage, suffix) -> None:
    expected = answer(card, model)
    (kept,) = model.parent.glob(f".openvino/*{suffix}")
    kept.write_bytes(damage(kept.read_bytes()))
    seen = compilations(monkeypatch)
    assert (answer(card, model) == expected).all()
    assert len(seen) == 1


def test_another_model_file_or_other_options_are_compiled_by_themselves(card, model, monkeypatch) -> None:
    answer(card, model)
    seen = compilations(monkeypatch)
    answer(card, model, streams=1, float_precision="f32")
    answer(card, model, batch=1)
    assert seen == []
    other = card.files["fp32"].model_copy(update={"sha256": "1" * 64})
    answer(card.model_copy(update={"files": {"fp32": other}}), model)
    assert len(seen) == 1


def test_a_folder_that_cannot_be_written_to_does_not_matter(card, model) -> None:
    (model.parent / ".openvino").write_text("a file where the folder should be")
    assert answer(card, model).shape == (1, 3)


def test_old_copies_do_not_pile_up(card, model) -> None:
    for number in range(12):
        other = card.files["fp32"].model_copy(update={"sha256": f"{number:064x}"})
        answer(card.model_copy(update={"files": {"fp32": other}}), model)
    assert len(list(model.parent.glob(".openvino/*.blob"))) == 8
