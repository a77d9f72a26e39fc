"""Average precision taken apart counts exactly as pycocotools does."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from calibration.measures import matching
from calibration.measures.average import AveragePrecision
from calibration.measures.bootstrap import draws
from calibration.measures.coco import SIZES, precision, precision_by_size
from calibration.measures.matching import average_precision as counted
from calibration.measures.matching import match
from calibration.truth import Boxes
from calibration.truth.read import read_annotations
from engines.results import Detections
from tests.support.scenes import LABELS, Scenes, scenes
from tests.support.scenes import boxes as scene_boxes

crowded = st.builds(
    scenes,
    pictures=st.integers(1, 6),
    objects=st.integers(0, 6),
    guesses=st.integers(0, 12),
    crowds=st.sampled_from([0.0, 0.3]),
    ties=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)


def by_pycocotools(objects: list[Boxes], found: list[Detections]) -> np.ndarray:
    """(labels, T, sizes) mean precision, -1 without objects, of an evaluation set up as its own examples are."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, guesses = COCO(), COCO()
    common = {"images": [{"id": i} for i in range(len(objects))], "categories": [{"id": k} for k in range(len(LABELS))]}
    rows: list[dict] = []
    for image, boxes in enumerate(objects):
        for (x1, y1, x2, y2), label, crowd, area in zip(boxes.xyxy, boxes.label, boxes.crowd, boxes.area, strict=True):
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": area, "iscrowd": int(crowd)}
            rows.append({"id": len(rows) + 1, "image_id": image, "category_id": int(label)} | box)
    said: list[dict] = []
    for image, one in enumerate(found):
        for (x1, y1, x2, y2), label, score in zip(one.xyxy.tolist(), one.label, one.score.tolist(), strict=True):
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
            said.append({"image_id": image, "category_id": int(label)} | box)
    with contextlib.redirect_stdout(io.StringIO()):
        truth.dataset = common | {"annotations": rows}
        truth.createIndex()
        if said:
            guesses = truth.loadRes(said)
        else:
            guesses.dataset = common | {"annotations": []}
            guesses.createIndex()
        evaluation = COCOeval(truth, guesses, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][..., 2].mean(axis=1).transpose(1, 0, 2)


@given(crowded)
@settings(max_examples=25, deadline=None)
def test_every_label_limit_and_size_counts_as_in_pycocotools(made: Scenes) -> None:
    expected = by_pycocotools(made.objects, made.found)
    matched = match(made.objects, made.found)
    assert {m.label for m in matched} == {int(label) for boxes in made.objects for label in boxes.label}
    once = np.ones((len(made.objects), 1), np.int32)
    for of in matched:
        for size in range(len(SIZES)):
            mine = np.nan_to_num(counted(of, size, once)[:, 0], nan=-1.0)
            np.testing.assert_allclose(mine, expected[of.label, :, size], rtol=0, atol=1e-12)


@given(crowded)
@settings(max_examples=12, deadline=None)
def test_a_comparison_says_what_pycocotools_says(made: Scenes) -> None:
    assume(not all(boxes.crowd.all() for boxes in made.objects))
    measure = AveragePrecision("AP", 1.5, made.objects, LABELS, 0.25)
    compared = measure.compare(made.found, made.other, resamples=3)
    for side, found in (("a", made.found), ("b", made.other)):
        expected = by_pycocotools(made.objects, found)
        known = 100 * np.where(expected > -1, expected, np.nan)
        figures = {"AP .50": known[:, 0, 0], "AP .75": known[:, 5, 0]}
        figures |= {f"AP {size}": known[..., index] for index, size in enumerate(SIZES) if size != "all"}
        for name, values in figures.items():
            if np.isnan(values).all():
                assert name not in compared.details
            else:
                assert compared.details[name][side] == pytest.approx(np.nanmean(values), abs=5e-4)
        assert getattr(compared, side) == pytest.approx(np.nanmean(known[..., 0]), abs=1e-9)


@given(crowded)
@settings(max_examples=10, deadline=None)
def test_a_model_against_itself_loses_nothing_in_any_resample(made: Scenes) -> None:
    assume(not all(boxes.crowd.all() for boxes in made.objects))
    measure = AveragePrecision("AP", 1.5, made.objects, LABELS, 0.25)
    copies = [found[:] for found in made.found]
    compared = measure.compare(made.found, copies, resamples=20)
    assert (compared.loss, compared.interval) == (0.0, (0.0, 0.0))
    assert not compared.details["worst classes"]
    assert not measure.badness(made.found, copies).any()


@pytest.mark.parametrize("crowds", [0.0, 0.3])
def test_a_resample_counts_like_a_set_in_which_pictures_stand_as_often_as_they_were_drawn(crowds: float) -> None:
    made = scenes(8, objects=4, guesses=6, crowds=crowds, seed=7)
    weights = draws(8, 12)
    matched = match(made.objects, made.found)
    counts = np.stack([counted(of, 0, weights) for of in matched])
    for resample, times in enumerate(weights.T):
        drawn = np.repeat(np.arange(8), times)
        expected = precision([made.objects[i] for i in drawn], [made.found[i] for i in drawn])
        assert np.nanmean(counts[..., resample]) == pytest.approx(expected, abs=1e-12)


def test_resamples_counted_in_portions_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    made = scenes(6, objects=4, guesses=6, seed=2)
    weights = draws(6, 9)
    matched = match(made.objects, made.found)
    whole = [counted(of, 0, weights) for of in matched]
    monkeypatch.setattr(matching, "_CELLS", 40)
    for of, expected in zip(matched, whole, strict=True):
        np.testing.assert_array_equal(counted(of, 0, weights), expected)


def test_of_more_than_a_hundred_detections_of_a_label_the_best_count() -> None:
    truth = [scene_boxes(np.array([[0, 0, 50, 50], [60, 0, 110, 50]]), np.array([0, 1]))]
    noise = np.tile([200.0, 200, 250, 250], (120, 1)) + np.arange(120)[:, None]
    xyxy = np.concatenate([noise, truth[0].xyxy])
    label, score = np.append(np.zeros(121, int), 1), np.append(np.linspace(0.9, 0.5, 120), [0.1, 0.05])
    found = [Detections(xyxy=xyxy, score=score, label=label)]
    values = [counted(of, 0, np.ones((1, 1), np.int32)).mean() for of in match(truth, found)]
    assert values == pytest.approx([0.0, 1.0])
    assert precision(truth, found) == pytest.approx(0.5)


@pytest.mark.skipif("SIGHTWIRE_SHARED" not in os.environ, reason="real boxes lie in $SIGHTWIRE_SHARED")
def test_real_boxes_count_as_in_pycocotools() -> None:
    """Of a detector that is a little off, with COCO's own file read by pycocotools beside ours."""
    path = Path(os.environ["SIGHTWIRE_SHARED"]) / "data" / "coco-mini" / "instances_val2017.json"
    content = json.loads(path.read_text())
    labels = tuple(row["name"] for row in content["categories"])
    ids = [row["id"] for row in content["images"]]
    objects = read_annotations(path).boxes(ids, labels)
    rng = np.random.default_rng(0)
    found = [shaken(boxes, rng) for boxes in objects]
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rows = [
        {
            "image_id": image,
            "category_id": content["categories"][label]["id"],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": s,
        }
        for image, one in zip(ids, found, strict=True)
        for (x1, y1, x2, y2), label, s in zip(one.xyxy.tolist(), one.label, one.score.tolist(), strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("all", "small", "medium", "large")
    expected = dict(zip(names, evaluation.stats[[0, 3, 4, 5]], strict=True))
    assert precision_by_size(path, labels, ids, found) == pytest.approx(expected, abs=6e-5)
    compared = AveragePrecision("AP", 1.5, objects, labels, 0.25).compare(found, found, resamples=2)
    assert compared.a == pytest.approx(100 * evaluation.stats[0], abs=1e-6)
    assert compared.details["AP .50"]["a"] == pytest.approx(100 * evaluation.stats[1], abs=1e-3)


def shaken(boxes: Boxes, rng: np.random.Generator) -> Detections:
    sides = np.tile(boxes.xyxy[:, 2:] - boxes.xyxy[:, :2], 2)
    xyxy = boxes.xyxy + rng.normal(0, 0.08, sides.shape) * sides
    label = np.where(rng.uniform(size=len(sides)) < 0.2, 0, boxes.label)
    score = rng.uniform(0.05, 1, len(sides))
    order = np.argsort(-score)
    xyxy[:, 2:] = np.maximum(xyxy[:, 2:], xyxy[:, :2] + 1)
    return Detections(xyxy=xyxy[order], score=score[order], label=label[order])
