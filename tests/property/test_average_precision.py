"""Average precision taken apart counts exactly as pycocotools does."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.measures.coco import SIZES
from calibration.measures.matching import average_precision as counted
from calibration.measures.matching import match
from calibration.truth import Boxes
from engines.results import Detections
from tests.support.scenes import LABELS, Scenes, scenes

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
@settings(max_examples=60, deadline=None)
def test_every_label_limit_and_size_counts_as_in_pycocotools(made: Scenes) -> None:
    expected = by_pycocotools(made.objects, made.found)
    matched = match(made.objects, made.found)
    assert {m.label for m in matched} == {int(label) for boxes in made.objects for label in boxes.label}
    once = np.ones((len(made.objects), 1), np.int32)
    for of in matched:
        for size in range(len(SIZES)):
            mine = np.nan_to_num(counted(of, size, once)[:, 0], nan=-1.0)
            np.testing.assert_allclose(mine, expected[of.label, :, size], rtol=0, atol=1e-12)
