"""Detection heads: through a real engine, what users may set, and what outputs that do not fit are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engines.backends.openvino import Config as OpenVINO
from engines.card import Card, Input, ModelFile, Origin, sha256_of
from engines.errors import CardError, ModelFileError
from engines.graph import INPUT, constant, model_of, serialise
from engines.model import open_model
from engines.pixels import Image, Picture, fit
from engines.results import Detections
from engines.tasks import Options, classify, detect, detr, misfit, nanodet, nms, yolo, yolox
from tests.support.heads import HEADS, Head, apart

LABELS = ("person", "bicycle", "car", "dog", "chair")
SIZE = (320, 256)
WHOLE = fit(SIZE, None, Input(width=SIZE[0], height=SIZE[1], fit="stretch"))
COLUMNS = HEADS["yolo v8"]


def saying(row: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A network that says the same of every picture: its outputs are constants, plus 0 times its input."""
    nodes = [
        helper.make_node("Cast", [INPUT], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["levels"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "nought"], ["nothing"]),
    ]
    constants, outputs = [constant("nought", np.zeros((), np.float32))], []
    for name, values in row.items():
        constants.append(constant(f"{name}.said", values[None]))
        nodes.append(helper.make_node("Add", [f"{name}.said", "nothing"], [name]))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *values.shape]))
    image = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [1, 3, SIZE[1], SIZE[0]])
    return model_of(onnx.GraphProto(name="saying", node=nodes, initializer=constants, input=[image], output=outputs))


def card_of(head: Head, path: Path, labels: tuple[str, ...] = LABELS) -> Card:
    return Card(
        schema="sightwire.card/1",
        name="saying",
        summary="made for tests",
        input=Input(width=SIZE[0], height=SIZE[1], fit="letterbox"),
        task=head.task,
        labels=labels,
        files={"fp32": ModelFile(path=path.name, sha256=sha256_of(path))},
        origin=Origin(source="tests", sha256="0" * 64, licence="Apache-2.0"),
    )


def said(head: Head, objects: Detections, **options: Any) -> Detections:
    row = head.row(objects, len(LABELS), SIZE)
    (found,) = head.config.open(LABELS, Options(**options)).read({n: v[None] for n, v in row.items()}, [WHOLE])
    assert isinstance(found, Detections)
    return found


def objects_of(*rows: tuple[tuple[float, float, float, float], float, int]) -> Detections:
    boxes, scores, labels = zip(*rows, strict=True)
    return Detections(xyxy=boxes, score=scores, label=labels)


@pytest.mark.parametrize("name", HEADS)
def test_a_network_on_openvino_reads_as_its_card_says(name: str, tmp_path: Path) -> None:
    """From an ONNX file to boxes in the pixels of a letterboxed picture."""
    head, objects = HEADS[name], apart(8, len(LABELS), SIZE, 5)
    path = tmp_path / "model.onnx"
    path.write_bytes(serialise(saying(head.row(objects, len(LABELS), SIZE))))
    image = Image((np.full((512, 640, 3), 90, np.uint8),), "bgr", "601", "full", (640, 512))
    model = open_model(card_of(head, path), tmp_path, "fp32", OpenVINO(threads=1), Options(threshold=0.25))
    try:
        (found,) = model([Picture(image)])
    finally:
        model.close()
    assert isinstance(found, Detections)
    assert found.label.tolist() == objects.label.tolist()
    assert found.score == pytest.approx(objects.score, abs=1e-3)
    assert np.allclose(found.xyxy, objects.xyxy * 2, atol=0.2)


def test_a_graph_of_another_layout_is_told_so_before_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(serialise(saying(HEADS["yolo v5"].blank(len(LABELS), SIZE))))
    with pytest.raises(ModelFileError, match=r"model\.onnx: output output has rows of shape \(40, 10\), but 5 labels"):
        open_model(card_of(COLUMNS, path), tmp_path, "fp32", OpenVINO(threads=1))


def test_another_layout_that_would_fit_is_named() -> None:
    config = yolo.Config(output="output0", layout="columns", objectness=False)
    assert misfit(config, 80, (640, 640), {"output0": (84, 8400)}) is None
    assert misfit(config, 80, (640, 640), {"output0": (84, -1)}) is None
    assert misfit(config, 80, (640, 640), {"output0": (25200, 85)}) == (
        "output output0 has rows of shape (25200, 85), but 80 labels and {type: yolo, layout: columns, "
        "objectness: false} want (84, any); {type: yolo, layout: rows, objectness: true} would fit"
    )


def test_another_number_of_labels_that_would_fit_is_named() -> None:
    config = yolox.Config(output="output")
    assert misfit(config, 80, (416, 416), {"output": (3549, 85)}) is None
    wrong = misfit(config, 79, (416, 416), {"output": (3549, 85)})
    assert wrong == (
        "output output has rows of shape (3549, 85), but 79 labels and {type: yolox} want (3549, 84); "
        "80 labels would fit"
    )
    assert misfit(config, 80, (640, 640), {"output": (3549, 85)}) == (
        "output output has rows of shape (3549, 85), but 80 labels and {type: yolox} want (8400, 85)"
    )


def test_an_output_that_is_not_there_is_named_with_those_that_are() -> None:
    wrong = misfit(yolox.Config(output="output"), 80, (416, 416), {"boxes": (3549, 4), "scores": (3549, 80)})
    assert wrong == "has no output 'output', only boxes, scores"


def test_a_count_may_come_with_a_side_of_its_own_or_without() -> None:
    config = nms.Config(boxes="b", scores="s", labels="l", count="n")
    shapes: dict[str, tuple[int, ...]] = {"b": (100, 4), "s": (100,), "l": (100,)}
    assert misfit(config, 80, SIZE, shapes | {"n": (1,)}) is None
    assert misfit(config, 80, SIZE, shapes | {"n": ()}) is None
    assert misfit(config, 80, SIZE, shapes | {"n": (2,)}) is not None


def test_a_threshold_for_a_label_leaves_the_others_at_the_cards() -> None:
    objects = objects_of(((10, 10, 40, 40), 0.9, 0), ((80, 10, 120, 40), 0.7, 0), ((150, 10, 190, 40), 0.5, 2))
    assert said(COLUMNS, objects, threshold={"person": 0.8}).label.tolist() == [0, 2]
    assert said(COLUMNS, objects, threshold={"car": 0.6}).label.tolist() == [0, 0]
    assert said(COLUMNS, objects, threshold=0.6).label.tolist() == [0, 0]


def test_a_count_for_a_label_keeps_its_best() -> None:
    objects = objects_of(
        ((10, 10, 40, 40), 0.9, 0),
        ((60, 10, 90, 40), 0.8, 2),
        ((110, 10, 140, 40), 0.7, 0),
        ((160, 10, 190, 40), 0.6, 0),
    )
    found = said(COLUMNS, objects, top={"person": 2})
    assert found.label.tolist() == [0, 2, 0]
    assert found.score == pytest.approx([0.9, 0.8, 0.7])
    assert said(COLUMNS, objects, top=2).label.tolist() == [0, 2]


def test_labels_that_are_not_asked_for_are_not_reported_and_suppress_nothing() -> None:
    objects = objects_of(((10, 10, 40, 40), 0.9, 3), ((11, 10, 41, 40), 0.7, 0))
    assert said(COLUMNS, objects, only=("person",), agnostic=True).label.tolist() == [0]
    assert said(COLUMNS, objects, only=()).label.tolist() == []


def test_boxes_of_different_labels_suppress_each_other_only_where_that_is_asked_for() -> None:
    objects = objects_of(((10, 10, 40, 40), 0.9, 0), ((11, 10, 41, 40), 0.7, 1), ((12, 10, 42, 40), 0.6, 0))
    assert said(COLUMNS, objects).label.tolist() == [0, 1]
    assert said(COLUMNS, objects, agnostic=True).label.tolist() == [0]
    assert said(COLUMNS, objects, iou=1.0).label.tolist() == [0, 1, 0]


def test_a_box_in_the_filling_beside_the_picture_is_not_reported() -> None:
    """Half of the letterbox is no picture: what is seen there is nowhere."""
    below = fit((320, 128), None, Input(width=320, height=256, fit="letterbox", align="top-left"))
    row = COLUMNS.row(
        objects_of(((10, 140, 60, 200), 0.9, 0), ((10, 90, 60, 128), 0.8, 0), ((70, 128, 99, 150), 0.7, 0)),
        len(LABELS),
        SIZE,
    )
    (found,) = COLUMNS.config.open(LABELS, Options()).read({"output": row["output"][None]}, [below])
    assert found.score == pytest.approx([0.8])


def test_suppression_is_bounded_whatever_the_network_says() -> None:
    """A picture of noise: the best of them are looked at, and no more."""
    rng, head = np.random.default_rng(0), COLUMNS
    values = np.zeros((9, 8400), np.float32)
    values[:2], values[2:4], values[4] = rng.uniform(0, 250, (2, 8400)), 2, rng.uniform(0.5, 1, 8400)
    (found,) = head.config.open(LABELS, Options(top=5000)).read({"output": values[None]}, [WHOLE])
    assert 0 < len(found) <= detect.LIMIT
    best = np.sort(values[4])[-detect.LIMIT]
    assert found.score.min() >= best


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": {"persn": 0.5}}, "threshold: the model has no label 'persn'; did you mean 'person'?"),
        ({"top": {"zebra": 1}}, "top: the model has no label 'zebra'; it has person, bicycle, car, dog, chair"),
        ({"only": ("cars",)}, "only: the model has no label 'cars'; did you mean 'car'?"),
    ],
)
def test_a_label_that_the_model_has_not_is_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError) as caught:
        COLUMNS.config.open(LABELS, Options(**options))
    assert str(caught.value) == message


@pytest.mark.parametrize("options", [{"iou": 0.5}, {"agnostic": True}, {"top": {"person": 1}}])
def test_a_classifier_says_which_options_mean_nothing_to_it(options: dict[str, Any]) -> None:
    with pytest.raises(CardError, match=f"{next(iter(options))}: a classifier"):
        classify.Config(scores="scores").open(LABELS, Options(**options))


def test_a_classifier_names_only_labels_that_are_asked_for() -> None:
    task = classify.Config(scores="scores", activation="none").open(LABELS, Options(only=("car", "dog"), top=1))
    (found,) = task.read({"scores": np.array([[0.9, 0.1, 0.3, 0.2, 0.8]], np.float32)}, [WHOLE])
    assert found.label.tolist() == [2]


def test_arrangements_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="either 'output', or 'scores' and 'boxes'"):
        nanodet.Config(cell="middle", scores=("a",), boxes=("b",))
    with pytest.raises(ValueError, match="either 'output', or 'scores' and 'boxes'"):
        nanodet.Config(cell="middle")
    with pytest.raises(ValueError, match="either 'output', or 'boxes' and 'labels'"):
        nms.Config(output="a", scores="b")
    with pytest.raises(ValueError, match="either 'output', or 'boxes' and 'labels'"):
        nms.Config(boxes="a")


def test_a_detr_without_background_wants_one_column_less() -> None:
    plain = detr.Config(boxes="boxes", scores="scores", activation="softmax")
    wrong = misfit(plain, 91, (640, 640), {"boxes": (100, 4), "scores": (100, 92)})
    assert wrong is not None
    assert wrong.endswith("want (any, 91); {type: detr, background: last} would fit")
