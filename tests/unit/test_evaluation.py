"""A model over a set of pictures: every picture once, in order, and faults that name theirs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from calibration.errors import DatasetError
from calibration.evaluation import common_labels, evaluate, open_to_measure, relabelled
from calibration.timing import take_turns
from engines.backends import fake, openvino
from engines.errors import BackendError, CardError
from engines.model import Model, open_model
from engines.pixels import Picture
from engines.results import Classification, Detections
from engines.store import ModelStore
from tests.support.agents import FAKE_OUTPUTS, fake_store
from tests.support.measured import made_sample, made_store

ON_CPU = openvino.Config(threads=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    return made_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(params=[(1, 1), (1, 3), (4, 2)], ids=["one by one", "three under way", "batches of 4"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Model]:
    batch, depth = request.param
    backend = fake.Config(outputs=FAKE_OUTPUTS["classes"], batch=batch, depth=depth)
    opened = open_to_measure(*fake_store(tmp_path).find("classes"), "fp32", backend)
    yield opened
    opened.close()


def means(result: Classification) -> list[float]:
    return result.score[np.argsort(result.label)].tolist()


def test_each_sample_has_its_own_result_in_its_place(model: Model) -> None:
    samples, told = [made_sample(index) for index in range(10)], []
    results = evaluate(model, samples, lambda *done: told.append(done))
    assert told[-1] == (len(results), len(samples)) == (10, 10)
    for sample, result in zip(samples, results, strict=True):
        expected = sample.read().planes[0].mean(axis=(0, 1))[::-1] / 255
        assert means(result) == pytest.approx(expected, abs=0.01)


def test_no_samples_have_no_results(model: Model) -> None:
    assert evaluate(model, []) == []


def test_a_picture_that_cannot_be_read_ends_it_and_leaves_the_engine_as_it_was(model: Model) -> None:
    def damaged() -> None:
        raise DatasetError("6.png: not a readable picture")

    samples = [made_sample(index, damaged if index == 6 else None) for index in range(10)]
    with pytest.raises(DatasetError, match=r"^6\.png: not a readable picture$"):
        evaluate(model, samples)
    assert len(evaluate(model, samples[:6] + samples[7:])) == 9


@pytest.mark.parametrize("depth", [1, 3])
def test_a_network_that_fails_names_the_picture(tmp_path: Path, depth: int) -> None:
    backend = fake.Config(outputs=FAKE_OUTPUTS["classes"], depth=depth, fail_every=4)
    model = open_to_measure(*fake_store(tmp_path).find("classes"), "fp32", backend)
    with pytest.raises(BackendError, match=r"^3\.png: fake: this batch was asked to fail$"):
        evaluate(model, [made_sample(index) for index in range(5)])
    assert len(evaluate(model, [made_sample(0)])) == 1


def test_all_that_counts_is_read_whatever_users_are_shown(store: ModelStore) -> None:
    card, folder = store.find("boxes")
    shown = card.model_copy(update={"task": {**card.task, "threshold": 0.9, "top": 2}})
    model = open_to_measure(shown, folder, "fp32", ON_CPU)
    (found,) = evaluate(model, [made_sample(0)])
    model.close()
    assert isinstance(found, Detections)
    assert len(found) > 2
    assert found.score.min() < 0.9


def test_classes_are_read_to_the_fifth_without_a_threshold(store: ModelStore) -> None:
    card, folder = store.find("tiny")
    shown = card.model_copy(update={"task": {**card.task, "threshold": 0.9, "top": 1}})
    model = open_to_measure(shown, folder, "fp32", ON_CPU)
    (found,) = evaluate(model, [made_sample(0)])
    model.close()
    assert len(found) == 5


def test_only_those_labels_are_reported_that_are_asked_for(store: ModelStore) -> None:
    model = open_to_measure(*store.find("boxes"), "fp32", ON_CPU, only=["dog"])
    (found,) = evaluate(model, [made_sample(0)])
    model.close()
    assert set(found.label.tolist()) == {1}


def test_int8_without_a_proof_is_measured_but_not_run(store: ModelStore) -> None:
    card, folder = store.find("tiny")
    with pytest.raises(CardError, match="no accuracy proof"):
        open_model(card, folder, "int8", ON_CPU)
    model = open_to_measure(card, folder, "int8", ON_CPU)
    assert len(evaluate(model, [made_sample(0)])) == 1
    model.close()


def test_a_file_that_the_card_has_not_is_said(store: ModelStore) -> None:
    with pytest.raises(CardError, match="has no int8 file, only fp32"):
        open_to_measure(*store.find("other"), "int8", ON_CPU)


@pytest.mark.parametrize(
    ("a", "b", "common"),
    [
        ("abc", "abc", "abc"),
        ("abc", "cab", "abc"),
        ("abc", "bcd", "bc"),
        ("abb", "abb", "abb"),
        ("abb", "ba", "a"),
        ("ab", "cd", ""),
    ],
)
def test_labels_in_common_are_those_that_both_have_once(a: str, b: str, common: str) -> None:
    assert "".join(common_labels(a, b)) == common


def test_results_are_numbered_by_other_labels_and_lose_those_that_are_not_among_them() -> None:
    boxes = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = Detections(xyxy=boxes, score=np.array([0.9, 0.8, 0.7]), label=np.array([2, 0, 1]))
    (same,) = relabelled([found], "abc", "abc")
    assert same is found
    (other,) = relabelled([found], "abc", "ca")
    assert other.label.tolist() == [0, 1]
    assert (other.xyxy == boxes[:2]).all()


def test_models_are_timed_by_turns_and_can_be_used_again(store: ModelStore) -> None:
    models = {name: open_to_measure(*store.find(name), "fp32", ON_CPU) for name in ("tiny", "other")}
    rounds: list[int] = []
    timed = take_turns(models, Picture(made_sample(0).read()), lambda done, _: rounds.append(done), rounds=20)
    assert rounds[-1] >= 20
    assert all(0 < one.ms < 1000 for one in timed.values())
    for model in models.values():
        assert len(evaluate(model, [made_sample(index) for index in range(4)])) == 4
        model.close()


def test_a_slower_network_takes_longer_and_time_is_bounded(tmp_path: Path) -> None:
    store = fake_store(tmp_path)
    models = {
        f"{delay} ms": open_to_measure(
            *store.find("classes"), "fp32", fake.Config(outputs=FAKE_OUTPUTS["classes"], delay_ms=delay)
        )
        for delay in (1, 6)
    }
    rounds: list[int] = []
    timed = take_turns(
        models, Picture(made_sample(0).read()), lambda done, _: rounds.append(done), rounds=10_000, seconds=0.01
    )
    assert timed["1 ms"].ms < timed["6 ms"].ms
    assert timed["6 ms"].ms >= 6
    assert len(rounds) < 50
