"""What every task promises: reading outputs is a pure function of outputs and geometries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engines.base import Raw
from engines.card import Input
from engines.parts import find_parts
from engines.pixels import Geometry, fit
from engines.results import Columns, Detections
from engines.tasks import Options, Task, TaskConfig
from tests.support.heads import HEADS, Head, crowd

TASKS = find_parts("engines.tasks", "sightwire.tasks")
LABELS = ("person", "bicycle", "car")
ROWS = 4
NOTHING, EVERYTHING = 1 - 1e-6, 1e-6
INPUT = Input(width=64, height=64, fit="letterbox")
GEOMETRIES: list[Geometry] = [
    fit((640, 360), None, INPUT),
    fit((640, 360), (100, 50, 300, 250), INPUT),
    fit((64, 64), None, INPUT),
    fit((30, 500), None, INPUT),
]


def classified(head: Head, found: Detections, labels: int, size: tuple[int, int]) -> dict[str, Any]:
    return {"scores": np.random.default_rng(len(found)).normal(0, 2, labels).astype(np.float32)}


#: what a card says to each task, and how a network answers; a new task needs an entry here or among the heads
CASES = HEADS | {"classify": Head({"type": "classify", "scores": "scores"}, classified)}


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> Head:
    """Every arrangement of every task, in turn."""
    return CASES[request.param]


@pytest.fixture
def config(case: Head) -> TaskConfig:
    return case.config


def test_every_task_is_held_to_this() -> None:
    assert {case.task["type"] for case in CASES.values()} == set(TASKS)


def opened(config: TaskConfig, **options: Any) -> Task:
    return config.open(LABELS, Options(**options))


def outputs(case: Head, rows: int = ROWS) -> Raw:
    """What a network would say of pictures with ten objects each."""
    size = (INPUT.width, INPUT.height)
    said = [case.row(crowd(10, len(LABELS), size, seed), len(LABELS), size) for seed in range(rows)]
    return {name: np.stack([row[name] for row in said]) for name in said[0]}


def columns(result: Columns) -> dict[str, list[Any]]:
    return {name: getattr(result, name).tolist() for name in result.layout}


def test_there_is_one_result_for_each_picture_whose_labels_and_scores_exist(case: Head, config: TaskConfig) -> None:
    found = opened(config, threshold=EVERYTHING).read(outputs(case), GEOMETRIES)
    assert len(found) == ROWS
    for result in found:
        assert len(result) > 0
        assert ((result.label >= 0) & (result.label < len(LABELS))).all()
        assert ((result.score >= 0) & (result.score <= 1)).all()
        assert (np.diff(result.score) <= 0).all(), "best first"


def test_the_same_outputs_read_the_same_again_and_are_left_as_they_were(case: Head, config: TaskConfig) -> None:
    task, raw = opened(config, threshold=EVERYTHING), outputs(case)
    for array in raw.values():
        array.flags.writeable = False  # an engine's memory
    first = [columns(result) for result in task.read(raw, GEOMETRIES)]
    assert [columns(result) for result in task.read(raw, GEOMETRIES)] == first
    assert [columns(result) for result in opened(config, threshold=EVERYTHING).read(raw, GEOMETRIES)] == first


def test_results_outlive_the_memory_they_were_read_from(case: Head, config: TaskConfig) -> None:
    raw = outputs(case)
    found = opened(config, threshold=EVERYTHING).read(raw, GEOMETRIES)
    before = [columns(result) for result in found]
    for array in raw.values():
        array[:] = 0
    assert [columns(result) for result in found] == before


def test_a_picture_reads_the_same_alone_and_in_a_batch(case: Head, config: TaskConfig) -> None:
    task, raw = opened(config, threshold=EVERYTHING), outputs(case)
    together = task.read(raw, GEOMETRIES)
    for row, geometry in enumerate(GEOMETRIES):
        (alone,) = task.read({name: array[row : row + 1] for name, array in raw.items()}, [geometry])
        assert columns(alone) == columns(together[row])


def test_a_batch_that_is_not_full_gives_no_result_for_the_rest(case: Head, config: TaskConfig) -> None:
    assert len(opened(config).read(outputs(case), GEOMETRIES[:2])) == 2


def test_nothing_over_the_threshold_is_an_empty_result_not_none(case: Head, config: TaskConfig) -> None:
    found = opened(config, threshold=NOTHING).read(outputs(case), GEOMETRIES)
    assert [len(result) for result in found] == [0] * ROWS
    kept = found[0][found[0].score > 0.5]
    assert len(kept) == 0
    assert columns(type(found[0]).empty()) == columns(kept)


def test_no_more_rows_than_asked_for_and_a_mask_selects_some_of_them(case: Head, config: TaskConfig) -> None:
    for result in opened(config, threshold=EVERYTHING, top=2).read(outputs(case), GEOMETRIES):
        assert len(result) <= 2
        mask = result.score >= result.score.max()
        assert columns(result[mask])["label"] == result.label[mask].tolist()


def test_boxes_lie_in_the_region_that_was_looked_at(case: Head, config: TaskConfig) -> None:
    if not config.finds_boxes:
        pytest.skip("has no boxes")
    edges = [(0, 0, 640, 360), (100, 50, 300, 250), (0, 0, 64, 64), (0, 0, 30, 500)]
    for result, (left, top, right, bottom) in zip(
        opened(config, threshold=EVERYTHING).read(outputs(case), GEOMETRIES), edges, strict=True
    ):
        assert isinstance(result, Detections)
        assert (result.xyxy >= np.array([left, top, left, top]) - 1e-3).all()
        assert (result.xyxy <= np.array([right, bottom, right, bottom]) + 1e-3).all()
        assert (result.xyxy[:, 2:] >= result.xyxy[:, :2]).all()


def test_outputs_that_are_not_numbers_are_no_results(case: Head, config: TaskConfig) -> None:
    """A network that overflows must not publish NaN, which is not JSON."""
    for broken in outputs(case):
        raw = outputs(case)
        raw[broken][:] = np.nan
        for result in opened(config, threshold=EVERYTHING).read(raw, GEOMETRIES):
            assert all(np.isfinite(getattr(result, name)).all() for name in result.layout)
