"""Measures on pictures few enough to work out by hand."""

from __future__ import annotations

import builtins
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.errors import DatasetError, MissingExtra
from calibration.measures import Comparison, Measure
from calibration.measures.bootstrap import draws, interval
from calibration.measures.choose import measure_for, reading
from calibration.measures.coco import average_precision, precision_by_size
from calibration.measures.differences import boxes_differ, classes_differ
from calibration.measures.matching import Matched, match
from calibration.measures.matching import average_precision as average
from calibration.measures.shares import Agreement, Top1
from calibration.truth import Boxes, Classes, Objects
from engines.model import task_config
from engines.results import Classification, Detections
from engines.tasks import Options
from tests.support.labelled import card, detector, samples, told
from tests.support.scenes import boxes, scenes

SIX = ("tench", "shark", "crane", "truck", "cup", "fig")
PEOPLE = ("person", "car")


def top1(*wanted: int, reference: list[Classification] | None = None) -> Measure:
    names = [f"{index}.jpg" for index in range(len(wanted))]
    return measure_for(card(SIX), samples(*names), Classes(dict(zip(names, wanted, strict=True))), reference)


def found(*rows: tuple[list[float], float, int]) -> Detections:
    xyxy, score, label = zip(*rows, strict=True) if rows else ([], [], [])
    return Detections(xyxy=np.reshape(xyxy, (-1, 4)), score=score, label=label)


def objects_of(*of: Boxes, reference: list[Detections] | None = None, **task: Any) -> Measure:
    names = [f"{index}.jpg" for index in range(len(of))]
    truth = Objects(dict(zip(names, of, strict=True)))
    return measure_for(detector(PEOPLE, **task), samples(*names), truth, reference)


def person(*xyxy: list[float]) -> Boxes:
    return boxes(np.array(xyxy, np.float64), np.zeros(len(xyxy)))


def test_top_1_counts_the_best_class_and_top_5_is_in_the_details() -> None:
    a = [told((0, 0.9)), told((1, 0.9)), told((2, 0.5), (3, 0.4)), told((3, 0.9))]
    b = [told((0, 0.9)), told((0, 0.6), (1, 0.3)), told((3, 0.5), (2, 0.4)), told((3, 0.8))]
    measure = top1(0, 1, 2, 3)
    compared = measure.compare(a, b)
    assert measure.score(a) == compared.a == 100.0
    assert measure.score(b) == compared.b == compared.loss == 50.0
    assert (compared.metric, measure.budget) == ("top-1", 0.5)
    assert (compared.pictures, compared.given) == (4, 4)
    assert compared.details == {
        "agreement": 50.0,
        "top-5": {"a": 100.0, "b": 100.0},
        "worst classes": [
            {"label": "crane", "a": 100.0, "b": 0.0, "loss": 100.0, "pictures": 1},
            {"label": "shark", "a": 100.0, "b": 0.0, "loss": 100.0, "pictures": 1},
        ],
    }
    assert json.dumps(compared.details)


def test_the_worst_classes_are_those_of_most_lost_pictures() -> None:
    right, wrong = told((0, 1.0)), told((5, 1.0))
    ones = [told((1, 1.0))] * 4
    compared = top1(0, 1, 1, 1, 1).compare([right, *ones], [wrong, wrong, wrong, *ones[2:]])
    assert [(row["label"], row["loss"]) for row in compared.details["worst classes"]] == [
        ("shark", 50.0),
        ("tench", 100.0),
    ]


def test_a_picture_of_which_nothing_is_reported_is_wrong() -> None:
    assert top1(0, 0).score([Classification.empty(), told((0, 0.2))]) == 50.0


def test_agreement_counts_pictures_of_which_the_reference_is_sure() -> None:
    fp32 = [told((0, 0.9), (1, 0.1)), told((1, 0.52), (0, 0.44)), told((2, 0.7), (0, 0.2)), told((3, 0.3))]
    int8 = [told((0, 0.8)), told((0, 0.5)), told((0, 0.5), (2, 0.4)), told((3, 0.3))]
    measure = measure_for(card(SIX), samples(*"abcd"), reference=fp32)
    compared = measure.compare(fp32, int8)
    assert (compared.metric, measure.budget) == ("agreement where FP32 is sure", 3.0)
    assert compared.a == 100.0
    assert compared.b == measure.score(int8) == pytest.approx(200 / 3)
    assert (compared.pictures, compared.given) == (3, 4)
    assert compared.details["sure"] == 3
    assert compared.details["agreement"] == 50.0
    assert [row["label"] for row in compared.details["worst classes"]] == ["crane"]


def test_a_reference_may_have_another_name() -> None:
    measure = measure_for(card(SIX), samples("a"), reference=[told((0, 0.9))], name="gpu")
    assert measure.name == "agreement where gpu is sure"


def test_pictures_that_say_nothing_of_a_classifier_are_refused() -> None:
    unsure = [told((0, 0.2), (1, 0.15)), Classification.empty()]
    with pytest.raises(DatasetError, match="FP32 is sure of the class of none of the 2 pictures"):
        measure_for(card(SIX), samples("a", "b"), reference=unsure)
    with pytest.raises(DatasetError, match="FP32 has top-1 0 on the 2 pictures: their labels are wrong"):
        top1(4, 4, reference=unsure)


def test_average_precision_worked_out_by_hand() -> None:
    """Two people in two pictures: the surest box is wrong, both are then found, one of them at IoU .6 only."""
    measure = objects_of(person([0, 0, 100, 100]), person([0, 0, 100, 100]))
    results = [
        found(([200, 200, 260, 260], 0.9, 0), ([0, 0, 100, 100], 0.8, 0)),
        found(([0, 0, 100, 60], 0.7, 0)),
    ]
    # IoU .50 to .60: precision 2/3 at all recalls; above: 1/2 up to a recall of .5, which are 51 of 101.
    expected = (3 * 2 / 3 + 7 * 51 / 101 / 2) / 10
    assert measure.score(results) == pytest.approx(100 * expected, abs=1e-9)
    details = measure.compare(results, results).details
    assert details["AP .50"] == {"a": 66.667, "b": 66.667}
    assert details["AP .75"] == {"a": 25.248, "b": 25.248}
    assert "AP small" not in details
    assert details["AP large"]["a"] == 65.347  # the wrong box is of medium size: (3 + 7 * 51 / 101) / 10
    assert details["labels"] == 1


def test_labels_without_objects_have_no_part_in_average_precision() -> None:
    """A car that is reported where people were labelled costs nothing: nobody looked for cars."""
    measure = objects_of(person([0, 0, 50, 50]))
    assert measure.score([found(([0, 0, 50, 50], 0.5, 0), ([0, 0, 50, 50], 0.9, 1))]) == pytest.approx(100.0)


def test_worst_classes_of_a_detector() -> None:
    truth = boxes(np.array([[0, 0, 50, 50], [100, 0, 150, 50], [200, 0, 250, 50]]), np.array([0, 1, 1]))
    a = found(*[(row.tolist(), 0.9, int(label)) for row, label in zip(truth.xyxy, truth.label, strict=True)])
    compared = objects_of(truth).compare([a], [a[:2]])
    assert compared.loss == pytest.approx((100 - 51 / 1.01) / 2)
    assert compared.details["worst classes"] == [
        {"label": "car", "a": 100.0, "b": 50.495, "loss": 49.505, "objects": 2}
    ]


def test_a_detector_without_labels_is_measured_against_its_own_detections() -> None:
    made = scenes(12, objects=4, guesses=5, seed=3)
    three = detector(("person", "bicycle", "car"), threshold=0.5)
    measure = measure_for(three, samples(*map(str, range(12))), reference=made.found)
    compared = measure.compare(made.found, made.other)
    assert (compared.metric, measure.budget) == ("AP .50:.95 against FP32's own detections", 5.0)
    assert compared.a == pytest.approx(100.0, abs=1e-9)
    assert compared.b < 95


def test_detections_under_the_threshold_are_no_truth_and_cost_nothing() -> None:
    shown, hidden = ([0.0, 0.0, 50.0, 50.0], 0.5, 0), ([200.0, 0.0, 250.0, 50.0], 0.49, 0)
    measure = measure_for(detector(PEOPLE, threshold=0.5), samples("a"), reference=[found(shown, hidden)])
    assert measure.score([found(shown)]) == measure.score([found(shown, hidden)]) == pytest.approx(100.0)
    assert measure.score([found(hidden)]) == 0.0


def test_pictures_that_say_nothing_of_a_detector_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"FP32 finds nothing over its threshold, 0.25, in the 2 pictures"):
        measure_for(detector(PEOPLE), samples("a", "b"), reference=[found(([0, 0, 9, 9], 0.2, 0)), found()])
    with pytest.raises(DatasetError, match="none of the 2 pictures shows an object that the model knows"):
        objects_of(person(), person())
    with pytest.raises(DatasetError, match=r"FP32 has AP .50:.95 0 on the 1 pictures"):
        objects_of(person([0, 0, 9, 9]), reference=[found()])


def test_a_measure_needs_something_to_measure_against() -> None:
    with pytest.raises(ValueError, match="the truth or a reference"):
        measure_for(card(SIX), samples("a"))
    with pytest.raises(ValueError, match="1 results of 2 pictures"):
        measure_for(card(SIX), samples("a", "b"), reference=[told((0, 1.0))])
    with pytest.raises(DatasetError, match="no pictures to measure with"):
        measure_for(card(SIX), [], reference=[])
    with pytest.raises(ValueError, match="of another task"):
        measure_for(card(SIX), samples("a"), Objects({}))
    with pytest.raises(DatasetError, match="1 of 2 pictures have no label, the first is 'b'"):
        measure_for(card(SIX), samples("a", "b"), Classes({"a": 0}))


def test_results_must_be_of_the_samples_and_of_the_task() -> None:
    with pytest.raises(ValueError, match="1 classifications of 2 pictures"):
        top1(0, 0).score([told((0, 1.0))])
    with pytest.raises(ValueError, match="2 results of 1 pictures"):
        objects_of(person([0, 0, 9, 9])).score([found(), found()])
    with pytest.raises(ValueError, match="another task"):
        objects_of(person([0, 0, 9, 9])).score([told((0, 1.0))])


def test_tasks_are_opened_for_all_that_counts() -> None:
    assert reading(task_config(card(SIX, type="classify", scores="x", threshold=0.5, top=1))) == Options(
        threshold=0.0, top=20
    )
    assert reading(task_config(detector(PEOPLE))) == Options(threshold=0.01, top=100)
    assert reading(task_config(detector(PEOPLE, threshold=0.005))) == Options(threshold=0.005, top=100)


def test_without_pycocotools_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.startswith("pycocotools"):
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"pip install 'sightwire\[calibrate\]'"):
        objects_of(person([0, 0, 9, 9]))
    with pytest.raises(MissingExtra, match=r"sightwire\[calibrate\]"):
        average_precision(tmp_path / "instances.json", PEOPLE, [1], [found()])


def test_average_precision_of_a_coco_json_by_its_ids(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    rows = [
        {"image_id": 4, "category_id": 9, "bbox": [0, 0, 20, 20]},
        {"image_id": 4, "category_id": 9, "bbox": [50, 0, 200, 99]},
    ]
    images, categories = [{"id": 4, "file_name": "a.jpg"}], [{"id": 9, "name": "person"}]
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": rows}))
    said = [found(([0, 0, 20, 20], 0.9, 0))]
    assert average_precision(path, PEOPLE, [4], said) == 0.505
    assert precision_by_size(path, PEOPLE, [4], said) == {"all": 0.505, "small": 1.0, "medium": -1.0, "large": 0.0}


def test_badness_of_a_classifier_is_the_distance_of_the_scores_and_one_for_another_class() -> None:
    a, b, c = told((0, 0.7), (1, 0.3)), told((0, 0.6), (1, 0.3), (2, 0.1)), told((1, 0.7), (0, 0.3))
    assert top1(0, 0, 0).badness([a, a, a], [a, b, c]) == pytest.approx([0.0, 0.1, 1.4])


def test_badness_of_a_detector_is_what_only_one_shows_and_what_both_show_differently() -> None:
    a = found(([0, 0, 100, 100], 0.9, 0), ([200, 0, 300, 100], 0.6, 1), ([0, 0, 9, 9], 0.1, 0))
    b = found(([0, 0, 100, 80], 0.8, 0), ([200, 0, 300, 100], 0.6, 0))
    # The person: scores .1 apart, a fifth of the box missing at .8; the car is only in a, a person there only in b.
    expected = 0.1 + 0.8 * 0.2 + 0.6 + 0.6
    assert boxes_differ(a, b, 0.25) == pytest.approx(expected, abs=1e-6)
    assert boxes_differ(b, a, 0.25) == pytest.approx(expected, abs=1e-6)
    assert objects_of(person([0, 0, 9, 9])).badness([a], [b]) == pytest.approx([expected])


def test_badness_is_finite_and_nothing_for_equal_results() -> None:
    odd = [told((0, math.inf), (1, 0.1)), Classification.empty(), told((0, 3e38))]
    values = top1(0, 0, 0).badness(odd, odd[::-1])
    assert np.isfinite(values).all()
    assert not top1(0, 0, 0).badness(odd, odd).any()
    assert classes_differ(odd[0], odd[1]) > 1
    made = scenes(20, objects=6, guesses=20, ties=True, seed=5)
    assert not any(boxes_differ(one, one, 0.25) for one in made.found)
    assert all(0 < boxes_differ(a, b, 0.0) < math.inf for a, b in zip(made.found, made.other, strict=True) if len(a))
    assert boxes_differ(found(), found(), 0.25) == 0


def comparison(
    interval: tuple[float, float], pictures: int, given: int | None = None, at_stake: float = 100.0
) -> Comparison:
    return Comparison("top-1", 80, 79, 1, interval, pictures, {}, given or pictures, at_stake)


def test_no_difference_on_few_pictures_does_not_resolve_a_budget() -> None:
    none = comparison((0.0, 0.0), 200)
    assert none.resolution == pytest.approx(1.386, abs=0.001)
    assert not none.resolves(0.5)
    assert none.resolves(1.5)
    assert none.pictures_needed(0.5) == 555
    assert none.pictures_needed(1.5) == 200
    assert comparison((0.0, 0.0), 555).resolves(0.5)
    assert none.pictures_needed(0.0) is None


def test_the_pictures_needed_grow_with_the_square_of_the_interval() -> None:
    wide = comparison((-1.0, 3.0), 10_000)
    assert wide.resolution == pytest.approx(2.0, abs=0.001)
    assert wide.pictures_needed(0.5) == pytest.approx(160_000, rel=0.01)


def test_pictures_that_do_not_count_are_needed_too() -> None:
    assert comparison((0.0, 0.0), 100, given=400).pictures_needed(0.5) == pytest.approx(4 * 555, abs=4)


def test_a_detector_of_little_precision_has_little_at_stake() -> None:
    assert comparison((0.0, 0.0), 80, at_stake=30.0).resolution == pytest.approx(30 * 1.386 / 100 * 2.5, abs=0.01)


def test_draws_are_the_same_each_time_and_of_as_many_pictures() -> None:
    counts = draws(7, 50).copy()
    draws.cache_clear()
    assert (counts == draws(7, 50)).all()
    assert (counts.sum(axis=0) == 7).all()
    assert len({tuple(column) for column in counts.T}) > 40


def test_an_interval_is_of_the_resamples_that_have_a_loss() -> None:
    assert interval(np.array([math.nan, 1.0, 1.0, math.nan])) == (1.0, 1.0)
    assert interval(np.arange(1001.0)) == (25.0, 975.0)
    assert interval(np.array([math.nan])) == (0.0, 0.0)


def coverage(studies: int, pictures: int, lost: float, won: float) -> float:
    """Share of simulated studies whose interval holds the true loss."""
    rng = np.random.default_rng(1)
    right, wrong = told((0, 1.0)), told((1, 1.0))
    measure, held = Top1(0.5, np.zeros(pictures, np.int64), SIX), 0
    for _ in range(studies):
        kind = rng.choice(4, size=pictures, p=[lost, won, 0.6, 0.4 - lost - won])
        a = [right if k in (0, 2) else wrong for k in kind]
        b = [right if k in (1, 2) else wrong for k in kind]
        low, high = measure.compare(a, b).interval
        held += low - 1e-9 <= 100 * (lost - won) <= high + 1e-9
    return held / studies


def test_the_interval_of_shares_holds_the_truth_as_often_as_it_says() -> None:
    """95 of 100 studies, give or take 2.2; seeded."""
    assert 0.90 <= coverage(100, 120, lost=0.12, won=0.06) <= 0.99


def test_the_interval_of_average_precision_holds_the_truth_as_often_as_it_says() -> None:
    """40 studies of 20 pictures each, of a world of 800; 38 of 40, give or take 1.4; seeded."""
    world = scenes(800, objects=3, guesses=1, seed=11, kinds=1)
    pair = [match(world.objects, results)[0] for results in (world.found, world.other)]

    def losses(first: int, pictures: int, weights: np.ndarray) -> np.ndarray:
        a, b = (average(part(of, first, pictures), 0, weights).mean(axis=0) for of in pair)
        return a - b

    truth = losses(0, 800, np.ones((800, 1), np.int32))[0]
    intervals = [interval(losses(first, 20, draws(20, 150))) for first in range(0, 800, 20)]
    assert 35 <= sum(low <= truth <= high for low, high in intervals) <= 40


def part(of: Matched, first: int, pictures: int) -> Matched:
    rows = (of.picture >= first) & (of.picture < first + pictures)
    return replace(
        of,
        picture=of.picture[rows] - first,
        hit=of.hit[:, :, rows],
        ignored=of.ignored[:, :, rows],
        objects=of.objects[:, first : first + pictures],
    )


def test_agreement_refuses_results_of_another_task() -> None:
    with pytest.raises(ValueError, match="another task"):
        Agreement(3.0, [found()], SIX, "FP32")
