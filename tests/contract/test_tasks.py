"""What every task promises: reading outputs is a pure function of outputs and geometries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.base import Raw
from engines.card import Input
from engines.parts import find_parts
from engines.pixels import Geometry, fit
from engines.results import Columns, Detections
from engines.tasks import ANY, Options, Task, TaskConfig

TASKS = find_parts("engines.tasks", "sightwire.tasks")
LABELS = ("person", "bicycle", "car")
ROWS = 4
#: the numbers that a card gives each task; a new task needs an entry here
NUMBERS: dict[str, dict[str, Any]] = {
    "classify": {"scores": "scores"},
    "detectnet": {"coverage": "coverage", "boxes": "boxes"},
    "detr": {"boxes": "boxes", "scores": "scores", "activation": "sigmoid"},
    "fastestdet": {"output": "output"},
    "nanodet": {"output": "output", "cell": "corner"},
    "nms": {"boxes": "boxes", "scores": "scores", "labels": "labels", "count": "count"},
    "ssd": {"boxes": "boxes", "scores": "scores", "grids": [3, 1]},
    "yolo": {"output": "output", "layout": "columns", "objectness": False},
    "yolox": {"output": "output"},
}


def shares(values: NDArray[Any]) -> None:
    """Make them 0 to 1, in place, as a graph does that ends in a sigmoid."""
    values[:] = 1 / (1 + np.exp(-values))


def unit_boxes(values: NDArray[Any]) -> None:
    """Make them centres and sides within a picture, in place."""
    shares(values)
    values[:] = values * 0.5 + 0.2


def pixel_boxes(values: NDArray[Any]) -> None:
    """Make them centres and sides in pixels of the input, in place."""
    unit_boxes(values)
    values *= INPUT.width


def nms(raw: Raw) -> None:
    pixel_boxes(raw["boxes"])
    raw["boxes"][..., 2:] += raw["boxes"][..., :2]
    shares(raw["scores"])
    raw["labels"][:] = np.arange(raw["labels"].shape[1]) % len(LABELS)
    raw["count"][:] = raw["labels"].shape[1] - 3


def yolo(raw: Raw) -> None:
    pixel_boxes(raw["output"][:, :4])
    shares(raw["output"][:, 4:])


#: what a task's network makes of random numbers, where it does not end in logits
NETWORKS: dict[str, Callable[[Raw], None]] = {
    "detectnet": lambda raw: shares(raw["coverage"]),
    "detr": lambda raw: unit_boxes(raw["boxes"]),
    "fastestdet": lambda raw: [shares(raw["output"][:, part]) for part in (slice(1), slice(5, None))] and None,
    "nanodet": lambda raw: shares(raw["output"][:, :, : len(LABELS)]),
    "nms": nms,
    "yolo": yolo,
    "yolox": lambda raw: shares(raw["output"][:, :, 4:]),
}
NOTHING, EVERYTHING = 1 - 1e-6, 1e-6
INPUT = Input(width=64, height=64, fit="letterbox")
GEOMETRIES: list[Geometry] = [
    fit((640, 360), None, INPUT),
    fit((640, 360), (100, 50, 300, 250), INPUT),
    fit((64, 64), None, INPUT),
    fit((30, 500), None, INPUT),
]


@pytest.fixture(params=sorted(TASKS))
def config(request: pytest.FixtureRequest) -> TaskConfig:
    """Every task that is registered, in turn."""
    return cast(TaskConfig, TASKS[request.param].model_validate({"type": request.param, **NUMBERS[request.param]}))


def opened(config: TaskConfig, **options: Any) -> Task:
    return config.open(LABELS, Options(**options))


def outputs(config: TaskConfig, rows: int = ROWS) -> Raw:
    """Random outputs of the shapes that the task asks for."""
    rng = np.random.default_rng(7)
    shapes = config.outputs(len(LABELS), (INPUT.width, INPUT.height))
    filled = {name: [50 if side == ANY else side for side in shape] for name, shape in shapes.items()}
    raw: Raw = {name: rng.normal(0, 2, (rows, *shape)).astype(np.float32) for name, shape in filled.items()}
    NETWORKS.get(getattr(config, "type"), lambda _: None)(raw)  # noqa: B009  # every config has one, the base has not
    return raw


def columns(result: Columns) -> dict[str, list[Any]]:
    return {name: getattr(result, name).tolist() for name in result.layout}


def test_there_is_one_result_for_each_picture_whose_labels_and_scores_exist(config: TaskConfig) -> None:
    found = opened(config, threshold=EVERYTHING).read(outputs(config), GEOMETRIES)
    assert len(found) == ROWS
    for result in found:
        assert len(result) > 0
        assert ((result.label >= 0) & (result.label < len(LABELS))).all()
        assert ((result.score >= 0) & (result.score <= 1)).all()
        assert (np.diff(result.score) <= 0).all(), "best first"


def test_the_same_outputs_read_the_same_again_and_are_left_as_they_were(config: TaskConfig) -> None:
    task, raw = opened(config, threshold=EVERYTHING), outputs(config)
    for array in raw.values():
        array.flags.writeable = False  # an engine's memory
    first = [columns(result) for result in task.read(raw, GEOMETRIES)]
    assert [columns(result) for result in task.read(raw, GEOMETRIES)] == first
    assert [columns(result) for result in opened(config, threshold=EVERYTHING).read(raw, GEOMETRIES)] == first


def test_results_outlive_the_memory_they_were_read_from(config: TaskConfig) -> None:
    raw = outputs(config)
    found = opened(config, threshold=EVERYTHING).read(raw, GEOMETRIES)
    before = [columns(result) for result in found]
    for array in raw.values():
        array[:] = 0
    assert [columns(result) for result in found] == before


def test_a_picture_reads_the_same_alone_and_in_a_batch(config: TaskConfig) -> None:
    task, raw = opened(config, threshold=EVERYTHING), outputs(config)
    together = task.read(raw, GEOMETRIES)
    for row, geometry in enumerate(GEOMETRIES):
        (alone,) = task.read({name: array[row : row + 1] for name, array in raw.items()}, [geometry])
        assert columns(alone) == columns(together[row])


def test_a_batch_that_is_not_full_gives_no_result_for_the_rest(config: TaskConfig) -> None:
    assert len(opened(config).read(outputs(config), GEOMETRIES[:2])) == 2


def test_nothing_over_the_threshold_is_an_empty_result_not_none(config: TaskConfig) -> None:
    found = opened(config, threshold=NOTHING).read(outputs(config), GEOMETRIES)
    assert [len(result) for result in found] == [0] * ROWS
    kept = found[0][found[0].score > 0.5]
    assert len(kept) == 0
    assert columns(type(found[0]).empty()) == columns(kept)


def test_no_more_rows_than_asked_for_and_a_mask_selects_some_of_them(config: TaskConfig) -> None:
    for result in opened(config, threshold=EVERYTHING, top=2).read(outputs(config), GEOMETRIES):
        assert len(result) <= 2
        mask = result.score >= result.score.max()
        assert columns(result[mask])["label"] == result.label[mask].tolist()


def test_boxes_lie_in_the_region_that_was_looked_at(config: TaskConfig) -> None:
    if not config.finds_boxes:
        pytest.skip("has no boxes")
    edges = [(0, 0, 640, 360), (100, 50, 300, 250), (0, 0, 64, 64), (0, 0, 30, 500)]
    for result, (left, top, right, bottom) in zip(
        opened(config, threshold=EVERYTHING).read(outputs(config), GEOMETRIES), edges, strict=True
    ):
        assert isinstance(result, Detections)
        assert (result.xyxy >= np.array([left, top, left, top]) - 1e-3).all()
        assert (result.xyxy <= np.array([right, bottom, right, bottom]) + 1e-3).all()
        assert (result.xyxy[:, 2:] >= result.xyxy[:, :2]).all()


def test_outputs_that_are_not_numbers_are_no_results(config: TaskConfig) -> None:
    """A network that overflows must not publish NaN, which is not JSON."""
    for broken in outputs(config):
        raw = outputs(config)
        raw[broken][:] = np.nan
        for result in opened(config, threshold=EVERYTHING).read(raw, GEOMETRIES):
            assert all(np.isfinite(getattr(result, name)).all() for name in result.layout)
