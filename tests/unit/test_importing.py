"""Importing: what each family makes of an export, who says what, and what is refused, in which words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.backends.openvino import Config as OpenVINO
from engines.card import Card, model_file
from engines.errors import CardError, EngineError, LintError, ModelFileError
from engines.graph import load, serialise
from engines.importing import Result, import_model
from engines.importing.facts import Given
from engines.model import open_model
from engines.pixels import Image, Picture
from engines.qdq import Table, activations, apply, quantised_nodes
from engines.store import ModelStore
from tests.support.exports import export, ultralytics
from tests.support.models import tiny_network
from tests.support.pictures import smooth_bgr

SIZE = (64, 64)
CELLS = 8 * 8 + 4 * 4 + 2 * 2
NANODET = {"a": (64, 3), "b": (16, 3), "c": (4, 3), "d": (64, 32), "e": (16, 32), "f": (4, 32)}
Import = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def take(tmp_path: Path, store: ModelStore) -> Import:
    """Import a network from a file, with what a user says of it."""

    def take(model: onnx.ModelProto, name: str = "net", **given: Any) -> Result:
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(model.SerializeToString())
        return import_model(path, Given(**{"max_batch": 3, **given}), store, again=True)

    return take


def run(result: Result) -> Any:
    """What the installed model says of a picture."""
    precision = "int8" if "int8" in result.card.files else "fp32"
    model = open_model(result.card, result.folder, precision, OpenVINO(threads=1))
    pixels = smooth_bgr(90, 70, seed=1)
    try:
        (found,) = model([Picture(Image((pixels,), "bgr", "601", "full", (90, 70)))])
    finally:
        model.close()
    return found


def source_of(card: Card, fact: str) -> str:
    assert card.imported is not None
    return card.imported.facts[fact]


# -- every family

PLAIN = {"channels": "rgb", "mean": "imagenet", "fit": "stretch", "task": {"activation": "softmax"}}


@pytest.mark.parametrize(
    ("family", "outputs", "given", "task", "channels", "fit"),
    [
        ("yolox", {"output": (CELLS, 8)}, {}, {"type": "yolox", "strides": [8, 16, 32]}, "bgr", "letterbox"),
        ("yolov5", {"output0": (252, 8)}, {}, {"layout": "rows", "objectness": True}, "rgb", "letterbox"),
        ("yolov8", {"output0": (7, 84)}, {}, {"layout": "columns", "objectness": False}, "rgb", "letterbox"),
        ("yolo11", {"output0": (7, 84)}, {}, {"type": "yolo", "layout": "columns"}, "rgb", "letterbox"),
        ("yolov10", {"output0": (30, 6)}, {}, {"type": "nms", "output": "output0"}, "rgb", "letterbox"),
        ("nanodet", NANODET, {}, {"type": "nanodet", "scores": ["a", "b", "c"], "cell": "middle"}, "bgr", "letterbox"),
        ("nanodet-plus", {"output": (CELLS + 1, 35)}, {}, {"type": "nanodet", "cell": "corner"}, "bgr", "stretch"),
        ("fastestdet", {"758": (8, 4, 4)}, {}, {"type": "fastestdet", "stride": 16}, "bgr", "stretch"),
        ("rt-detr", {"output0": (30, 7)}, {}, {"type": "yolo", "boxes": "unit", "iou": 1.0}, "rgb", "stretch"),
        ("rt-detr", {"boxes": (30, 4), "logits": (30, 3)}, {}, {"activation": "sigmoid"}, "rgb", "stretch"),
        ("rf-detr", {"dets": (30, 4), "labels": (30, 3)}, {}, {"type": "detr", "boxes": "dets"}, "rgb", "stretch"),
        (
            "rf-detr", {"dets": (30, 4), "labels": (30, 4)}, {"task": {"background": "first"}},
            {"type": "detr", "background": "first"}, "rgb", "stretch",
        ),
        (
            "detr", {"pred_boxes": (30, 4), "logits": (30, 4)}, {"fit": "stretch"},
            {"type": "detr", "activation": "softmax", "background": "last"}, "rgb", "stretch",
        ),
        ("classifier", {"logits": (3,)}, PLAIN, {"type": "classify", "activation": "softmax"}, "rgb", "stretch"),
        ("timm", {"logits": (3,)}, {"mean": "imagenet", "crop": 0.9}, {"activation": "softmax"}, "rgb", "crop"),
        (
            "tao-classifier", {"predictions": (3,)}, {"task": {"activation": "none"}},
            {"type": "classify", "scores": "predictions"}, "bgr", "stretch",
        ),
        (
            "tao-detectnet", {"output_bbox/BiasAdd": (12, 4, 4), "output_cov/Sigmoid": (3, 4, 4)}, {},
            {"type": "detectnet", "coverage": "output_cov/Sigmoid", "stride": 16}, "rgb", "stretch",
        ),
        (
            "tf-detection",
            {
                "detection_boxes": (20, 4), "detection_scores": (20,), "detection_classes": (20,),
                "raw_detection_boxes": (90, 4),
            },
            {}, {"type": "nms", "boxes": "detection_boxes", "order": "yxyx", "first_label": 1}, "rgb", "stretch",
        ),
        (
            "custom", {"x": (30, 4), "y": (30, 3)},
            {"channels": "bgr", "mean": "unit", "fit": "letterbox", "fill": 0, "align": "centre",
             "task": {"type": "detr", "boxes": "x", "scores": "y", "activation": "none"}},
            {"type": "detr", "boxes": "x"}, "bgr", "letterbox",
        ),
    ],
)  # fmt: skip
def test_a_family_knows_how_its_pixels_and_outputs_are_meant(
    take: Import, family: str, outputs: Any, given: Any, task: dict[str, Any], channels: str, fit: str
) -> None:
    end = "Sigmoid" if family.startswith(("yolo", "nano")) else None
    result = take(export(outputs, size=SIZE, end=end), family=family, labels="a,b,c", **given)
    card = result.card
    assert task.items() <= card.task.items()
    assert {fact.name: fact.value for fact in result.facts}["channels"] == channels
    assert (card.input.fit, card.input.width, card.input.height) == (fit, *SIZE)
    assert (card.labels, card.max_batch) == (("a", "b", "c"), 3)
    run(result)  # the task takes what the engine gives


@pytest.mark.parametrize(("end", "activation"), [(None, "softmax"), ("Softmax", "none"), ("Sigmoid", "none")])
def test_a_classifier_that_ends_in_its_activation_gets_no_second_one(
    take: Import, end: str | None, activation: str
) -> None:
    model = export({"logits": (3,)}, end=end)
    card = take(model, family="timm", mean="imagenet", crop=0.9, labels="a,b,c").card
    assert card.task["activation"] == activation


def test_yolox_that_decodes_in_the_graph_is_read_so(take: Import) -> None:
    model = export({"output": (CELLS, 8)}, size=SIZE, end="Exp")
    assert take(model, family="yolox", labels="a,b,c", mean="unit").card.task == {
        "type": "yolo", "output": "output", "layout": "rows", "objectness": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("outputs", "labels", "task"),
    [
        ({"output0": (7, 84)}, 3, {"type": "yolo", "layout": "columns"}),
        ({"output0": (252, 8)}, 3, {"type": "yolo", "layout": "rows", "objectness": True}),
        ({"output0": (252, 6)}, 1, {"type": "yolo", "layout": "rows", "objectness": True}),
        ({"output0": (300, 6)}, 3, {"type": "nms"}),
    ],
)
def test_an_export_of_ultralytics_says_all_of_itself(take: Import, outputs: Any, labels: int, task: Any) -> None:
    model = export(outputs, size=SIZE, metadata=ultralytics(labels=labels, size=SIZE))
    card = take(model).card
    assert task.items() <= card.task.items()
    assert card.labels == tuple(f"kind {i}" for i in range(labels))
    assert card.origin.licence == "AGPL-3.0"
    assert (source_of(card, "labels"), source_of(card, "family")) == ("metadata", "metadata")


def test_a_classifier_of_ultralytics_is_told_by_its_metadata(take: Import) -> None:
    card = take(export({"output0": (3,)}, end="Softmax", metadata=ultralytics("classify"))).card
    assert card.task == {"type": "classify", "scores": "output0", "activation": "none"}
    assert (card.input.fit, card.input.crop) == ("crop", 1.0)


def test_rt_detr_of_ultralytics_is_told_by_its_metadata(take: Import) -> None:
    """Its boxes are shares of the sides, and nothing in the shapes says so."""
    said = ultralytics(size=SIZE) | {"description": "Ultralytics rtdetr-l model", "head": "RTDETRDecoder"}
    card = take(export({"output0": (30, 7)}, size=SIZE, metadata=said), family="ultralytics").card
    assert (card.task["boxes"], card.input.fit) == ("unit", "stretch")


# -- who says what


def test_the_users_word_counts_more_than_the_files_and_the_file_more_than_the_family(take: Import) -> None:
    model = export({"output0": (7, 84)}, size=None, metadata=ultralytics(size=SIZE))
    card = take(model, labels="x,y,z", fill=3).card
    assert (card.labels, card.input.fill, card.input.width) == (("x", "y", "z"), 3, 64)
    sources = {fact: source_of(card, fact) for fact in ("labels", "fill", "size", "align", "layout", "task layout")}
    assert sources == {
        "labels": "flag", "fill": "flag", "size": "metadata", "align": "family", "layout": "graph",
        "task layout": "graph",
    }  # fmt: skip


def test_labels_come_from_a_file_a_known_list_or_are_numbers(take: Import, tmp_path: Path) -> None:
    model = export({"logits": (3,)})
    (tmp_path / "labels.txt").write_text("cat\ndog\nhorse, brown\n\n")
    for said, expected in (
        (str(tmp_path / "labels.txt"), ("cat", "dog", "horse, brown")),
        ("numbers", ("0", "1", "2")),
    ):
        assert take(model, family="classifier", **PLAIN, labels=said).card.labels == expected
    assert take(export({"logits": (80,)}), family="classifier", **PLAIN, labels="coco").card.labels[0] == "person"


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, ["family: give --family"]),
        ({"family": "classifier"}, ["--channels", "--mean", "--std", "--fit", "--labels", "--task activation="]),
        ({"family": "timm", "labels": "numbers"}, ["--mean", "--std", "--crop"]),
        ({"family": "yolov8"}, ["--labels"]),
        ({"family": "custom", "labels": "a"}, ["--channels", "--mean", "--fit", "--task type="]),
    ],
)
def test_what_nobody_says_is_asked_for_by_its_flag_all_at_once(take: Import, given: Any, missing: list[str]) -> None:
    outputs = {"output0": (7, 84)} if given.get("family") == "yolov8" else {"logits": (3,)}
    with pytest.raises(ModelFileError) as error:
        take(export(outputs, size=SIZE), **given)
    assert all(flag in str(error.value) for flag in missing)
    assert "\n" not in str(error.value)


def test_a_free_size_and_an_ambiguous_layout_are_asked_for(take: Import) -> None:
    with pytest.raises(ModelFileError, match="nothing says size: give --size WIDTHxHEIGHT"):
        take(export({"logits": (3,)}, size=None), family="classifier", **PLAIN, labels="a,b,c")
    assert (
        take(
            export({"logits": (3,)}, size=None), family="classifier", **PLAIN, labels="a,b,c", size=(48, 32)
        ).card.input.width
        == 48
    )
    model = export({"logits": (3,)})
    for side in model.graph.input[0].type.tensor_type.shape.dim:
        side.Clear()
    with pytest.raises(ModelFileError, match="nothing says layout: give --layout nchw or nhwc"):
        take(model, family="classifier", **PLAIN, labels="a,b,c")


def test_a_preset_of_numbers_is_turned_round_for_bgr(take: Import) -> None:
    told = {**PLAIN, "channels": "bgr", "labels": "a,b,c"}
    facts = {fact.name: fact.value for fact in take(export({"logits": (3,)}), family="classifier", **told).facts}
    assert (facts["mean"], facts["std"]) == ((103.53, 116.28, 123.675), (57.375, 57.12, 58.395))


def test_openvino_judges_where_onnx_runtime_is_not_installed(take: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.numerics.find_spec", lambda _: None)
    proof = take(export({"logits": (3,)}, opset=20), family="classifier", **PLAIN, labels="a,b,c").card.imported
    assert proof is not None
    assert proof.judge.startswith("openvino ")
    assert proof.difference < 1e-4


# -- what an export may be


@pytest.mark.parametrize("opset", [11, 12, 13, 15, 17, 18, 19, 20, 21, 23])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_every_opset_becomes_17_and_computes_the_same(take: Import, opset: int, layout: str) -> None:
    model = export({"logits": (3,)}, opset=opset, layout=layout, batch="batch" if opset % 2 else 1)
    result = take(model, family="classifier", **PLAIN, labels="a,b,c", max_batch=1)
    proof = result.card.imported
    assert proof is not None
    assert (proof.opset, proof.tolerance) == (opset, 1e-3)
    assert proof.difference < 1e-4
    assert load(model_file(result.card, result.folder, "fp32")).opset_import[0].version == 17


def test_half_precision_becomes_float32_within_a_stated_tolerance(take: Import) -> None:
    result = take(export({"logits": (3,)}, kind=TensorProto.FLOAT16), family="classifier", **PLAIN, labels="a,b,c")
    written = load(model_file(result.card, result.folder, "fp32"))
    assert {tensor.data_type for tensor in written.graph.initializer} <= {TensorProto.FLOAT, TensorProto.INT64}
    assert result.card.imported is not None
    assert result.card.imported.tolerance == 0.03
    assert result.card.imported.difference > 0


def test_a_network_that_takes_bytes_is_fed_what_it_takes(take: Import) -> None:
    model = export({"logits": (3,)}, kind=TensorProto.UINT8, layout="nhwc")
    result = take(model, family="classifier", **{**PLAIN, "mean": "raw"}, labels="a,b,c")
    assert len(run(result)) == 3


@pytest.mark.parametrize("batch", [1, 4, "N"])
def test_a_batch_is_freed_where_batches_give_the_same(take: Import, batch: int | str) -> None:
    result = take(export({"boxes": (7, 84)}, size=SIZE, batch=batch), family="yolov8", labels="a,b,c")
    assert result.card.max_batch == 3
    assert run(result).score.shape[0] >= 0


def test_a_network_that_mixes_its_pictures_stays_at_one(take: Import) -> None:
    model = export({"logits": (3,)}, batch="N")
    model.graph.node[-1].input[0] = "mixed"
    mix = [
        helper.make_node("ReduceMax", ["mean"], ["most"], axes=[0], keepdims=1),
        helper.make_node("Add", ["mean", "most"], ["mixed"]),
    ]
    nodes = [*model.graph.node[:-1], *mix, model.graph.node[-1]]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    assert take(model, family="classifier", **PLAIN, labels="a,b,c").card.max_batch == 1


def test_weights_in_a_second_file_are_read_and_missed(tmp_path: Path, store: ModelStore) -> None:
    path = tmp_path / "big.onnx"
    onnx.save_model(
        export({"logits": (3,)}), str(path), save_as_external_data=True, location="big.onnx.data", size_threshold=0
    )
    given = Given(family="classifier", **PLAIN, labels="a,b,c", max_batch=1)
    sha256 = import_model(path, given, store).card.origin.sha256
    data = bytearray((tmp_path / "big.onnx.data").read_bytes())
    data[0] ^= 1
    (tmp_path / "big.onnx.data").write_bytes(data)
    assert import_model(path, given, store, again=True).card.origin.sha256 != sha256
    (tmp_path / "big.onnx.data").unlink()
    with pytest.raises(ModelFileError, match=r"second file, big\.onnx\.data, which must lie beside it"):
        import_model(path, given, store, again=True)


def test_weights_are_never_read_from_outside_the_folder(tmp_path: Path, store: ModelStore) -> None:
    model = export({"logits": (3,)})
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    (tmp_path / "secret").write_bytes(bytes(4096))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="must lie beside it"):
        import_model(tmp_path / "in" / "net.onnx", Given(family="timm"), store)


def test_nodes_in_disorder_and_weights_among_the_inputs_are_taken(take: Import) -> None:
    model = export({"logits": (3,)})
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    assert len(run(take(model, family="classifier", **PLAIN, labels="a,b,c"))) == 3


def test_constants_worked_out_in_the_graph_become_weights(take: Import) -> None:
    """Exporters hand weights through Identity and Constant nodes, and only weights can be quantised."""
    model = export({"logits": (3,)})
    model.graph.initializer.append(numpy_helper.from_array(model_weights(model), "stored"))
    del model.graph.initializer[0]
    model.graph.node.insert(0, helper.make_node("Identity", ["stored"], ["conv.weight"]))
    result = take(model, family="classifier", **PLAIN, labels="a,b,c")
    written = load(model_file(result.card, result.folder, "fp32"))
    (conv,) = (node for node in written.graph.node if node.op_type == "Conv")
    assert conv.input[1] in {tensor.name for tensor in written.graph.initializer}
    assert "Identity" not in {node.op_type for node in written.graph.node}


def model_weights(model: onnx.ModelProto) -> np.ndarray:
    return numpy_helper.to_array(model.graph.initializer[0])


def test_outputs_that_nobody_reads_go(take: Import) -> None:
    result = take(export({"output0": (7, 84), "raw": (3, 4, 4, 8)}, size=SIZE), family="yolov8", labels="a,b,c")
    assert [value.name for value in load(model_file(result.card, result.folder, "fp32")).graph.output] == ["output0"]


# -- what is refused


@pytest.mark.parametrize(
    ("outputs", "given", "words"),
    [
        ({"output0": (1000,)}, {"family": "yolox"}, "(1, 1000): it looks like --family classifier"),
        ({"output": (CELLS, 8)}, {"family": "yolov8"}, "(1, 84, 8): it looks like --family yolox"),
        ({"output0": (7, 84)}, {"family": "yolov5"}, "it looks like --family yolov8"),
        ({"output0": (7, 84)}, {"family": "classifier"}, "the family has one output (1, labels), this network has"),
        ({"output0": (39, 84), "output1": (32, 16, 16)}, {"family": "yolov8"}, "it looks like a segmentation network"),
        ({"map": (64, 64)}, {"family": "yolov8"}, "it looks like a segmentation network"),
        ({"output": (83, 8)}, {"family": "yolox"}, "84 cells at 64x64, this network has output (1, 83, 8)"),
        ({"output0": (9, 84)}, {"family": "yolov8"}, "as yolov8 its outputs have 5 classes, and there are 3 labels"),
        ({"dets": (30, 4), "labels": (30, 4)}, {"family": "rf-detr"}, "say --task background=first or last"),
        ({"output0": (7, 84)}, {"family": "yolov88"}, "--family 'yolov88' is not known; did you mean 'yolov8'?"),
        ({"output0": (7, 84)}, {"family": "yolov8", "size": (640, 640)}, "--size 640x640: its input is (1, 3, 64, 64)"),
        ({"output0": (7, 84)}, {"family": "yolov8", "layout": "nhwc"}, "and --layout says nhwc"),
        ({"output0": (7, 84)}, {"family": "yolov8", "task": {"threshold": 3}}, "task.threshold"),
        ({"output0": (7, 84)}, {"family": "yolov8", "task": {"type": "yellow"}}, "task.type: 'yellow' is not known"),
        ({"output0": (7, 84)}, {"family": "yolov8", "mean": "0.485", "std": "0.229"}, "--mean 123.675 --std 58.395"),
        ({"output0": (7, 84)}, {"family": "yolov8", "mean": "red"}, "--mean 'red': expected one number or three"),
        ({"output0": (7, 84)}, {"family": "yolov8", "std": "0"}, "must be greater than 0"),
        ({"output0": (7, 84)}, {"family": "yolov8", "labels": "no/labels.txt"}, "no such list of labels"),
        ({"output0": (7, 84)}, {"family": "yolov8", "labels": "a,,b"}, "a label is empty"),
    ],
)
def test_a_wrong_word_is_answered_in_one_line_that_helps(take: Import, outputs: Any, given: Any, words: str) -> None:
    with pytest.raises(EngineError) as error:
        take(export(outputs, size=SIZE), **{"labels": "a,b,c", **given})
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_another_task_of_ultralytics_is_refused_by_its_name(take: Import, task: str) -> None:
    with pytest.raises(ModelFileError, match=f"its metadata says that its task is '{task}'"):
        take(export({"output0": (7, 84)}, size=SIZE, metadata=ultralytics(task)))


def test_a_network_that_gives_nan_is_refused(take: Import) -> None:
    model = export({"logits": (3,)})
    weights = model_weights(model).copy()
    weights[0, 0, 0, 0] = np.nan
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "conv.weight"))
    with pytest.raises(ModelFileError, match="output logits is NaN on ordinary pictures"):
        take(model, family="classifier", **PLAIN, labels="a,b,c")


def test_more_than_one_input_is_refused_by_their_names(take: Import) -> None:
    model = export({"logits": (3,)})
    model.graph.input.append(helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, [1, 2]))
    with pytest.raises(ModelFileError, match=r"2 inputs \(picture \(1, 3, 32, 32\), orig_target_sizes \(1, 2\)\)"):
        take(model, family="rt-detr", labels="a,b,c")


@pytest.mark.parametrize("dims", [[1, 1, 32, 32], [1, 3072], [1, 3, 3, 32, 32]])
def test_what_is_no_colour_picture_is_refused(take: Import, dims: list[int]) -> None:
    model = export({"logits": (3,)})
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("picture", TensorProto.FLOAT, dims))
    with pytest.raises(ModelFileError, match="its input picture is"):
        take(model, family="classifier", **PLAIN, labels="a,b,c")


def test_operators_of_a_framework_are_refused_by_its_domain(take: Import) -> None:
    model = export({"logits": (3,)})
    model.graph.node[0].domain = "com.microsoft"
    model.opset_import.add(domain="com.microsoft", version=1)
    with pytest.raises(ModelFileError, match=r"uses operators of com\.microsoft"):
        take(model, family="classifier", **PLAIN, labels="a,b,c")


@pytest.mark.parametrize("suffix", [".pt", ".engine", ".tflite", ".xml"])
def test_what_is_not_onnx_is_called_by_its_name(tmp_path: Path, store: ModelStore, suffix: str) -> None:
    path = tmp_path / f"best{suffix}"
    path.write_bytes(b"something")
    with pytest.raises(ModelFileError, match="is not ONNX but"):
        import_model(path, Given(family="yolov8"), store)


def test_int8_needs_to_be_taken_unproven_and_in_the_form_that_all_read(take: Import, store: ModelStore) -> None:
    network = tiny_network(batch=1)
    table = Table(
        model=hashlib.sha256(serialise(network)).hexdigest(), method="min-max", calibration_set="0" * 64, pictures=1,
        scales=dict.fromkeys(activations(quantised_nodes(network)), 0.0625),
    )  # fmt: skip
    int8 = apply(network, table)
    with pytest.raises(ModelFileError, match="is an INT8 file, and nothing proves what it lost"):
        take(int8, family="classifier", **PLAIN, labels="a,b,c,d,e")
    result = take(int8, family="classifier", **PLAIN, labels="a,b,c,d,e", unproven=True)
    assert result.card.files["int8"].unproven
    assert len(run(result)) == 5
    zero = next(tensor for tensor in int8.graph.initializer if tensor.name == "int8.zero")
    zero.CopyFrom(numpy_helper.from_array(np.array(3, np.int8), "int8.zero"))
    with pytest.raises(LintError, match="a zero point that is not 0"):
        take(int8, family="classifier", **PLAIN, labels="a,b,c,d,e", unproven=True)


def test_nothing_is_installed_of_what_was_refused_nor_over_what_is_there(tmp_path: Path, store: ModelStore) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(export({"logits": (3,)}).SerializeToString())
    given = Given(family="classifier", **PLAIN, labels="a,b", max_batch=1)
    with pytest.raises(ModelFileError):
        import_model(path, given, store)
    assert store.names() == []
    given = Given(family="classifier", **PLAIN, labels="a,b,c", max_batch=1)
    import_model(path, given, store)
    with pytest.raises(CardError, match="give --name NAME, or --again to replace it"):
        import_model(path, given, store)
    with pytest.raises(CardError, match=r"'\.\./x' is no name for a model"):
        import_model(path, Given(family="classifier", name="../x"), store)
