"""What every engine promises, whatever runs below it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engines.backends import BackendConfig, fake, onnxruntime, openvino
from engines.base import Engine
from engines.card import Card, Input, sha256_of
from engines.errors import BackendError, EngineError, PictureError
from engines.model import open_model
from engines.pixels import Picture, fit
from tests.support import standin_trt
from tests.support.agents import fake_store
from tests.support.backends import BACKENDS
from tests.support.means import means_model
from tests.support.pictures import image_from, smooth_bgr
from tests.support.standin_engines import StandInConfig, in_this_process

SIDE = 32


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Card:
    found, _ = fake_store(tmp_path_factory.mktemp("store")).find("classes")
    return found.model_copy(update={"max_batch": 4})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return means_model(tmp_path_factory.mktemp("model") / "means.onnx", SIDE)


ENGINES = {
    "fake": fake.Config(outputs={"scores": (3,)}, batch=2),
    "fake, before its fault": fake.Config(outputs={"scores": (3,)}, faults=(fake.Fault(kind="hang", at=1_000),)),
    **{f"tensorrt {version} (stand-in)": StandInConfig(version=version) for version in standin_trt.VERSIONS},
    "tensorrt batch 1 (stand-in)": StandInConfig(batch=1),
    "tensorrt, prepared by the kernel (stand-in)": StandInConfig(prepare="gpu"),
    **BACKENDS,
}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, card: Card, model: Path):
    with in_this_process():
        built = ENGINES[request.param].build(card, model, "fp32")
        yield built
        built.close()


@pytest.fixture(params=["openvino", "onnxruntime"])
def backend(request: pytest.FixtureRequest) -> BackendConfig:
    return BACKENDS[request.param]


def asked(count: int, first: int = 0) -> tuple[list[Picture], list]:
    pictures = [Picture(image_from(smooth_bgr(64, 48, seed=first + i), "bgr")) for i in range(count)]
    into = {"width": SIDE, "height": SIDE, "fit": "stretch"}

    return pictures, [fit((64, 48), None, Input(**into)) for _ in pictures]


def expected(picture: Picture) -> np.ndarray:
    return picture.image.planes[0].mean(axis=(0, 1))[::-1] / 255


def test_outputs_are_those_of_the_network_in_the_order_of_the_pictures(engine: Engine) -> None:
    pictures, geometries = asked(engine.max_batch)
    raw = engine(pictures, geometries)
    assert raw["scores"].shape == (engine.max_batch, 3)
    assert raw["scores"] == pytest.approx(np.array([expected(p) for p in pictures]), abs=0.01)


def test_specs_name_inputs_outputs_and_shapes(engine: Engine) -> None:
    assert [spec.name for spec in engine.inputs] == ["images"]
    assert engine.inputs[0].shape[1:] == (3, SIDE, SIDE)
    assert engine.inputs[0].dtype == np.uint8
    assert [(spec.name, spec.shape[1:]) for spec in engine.outputs] == [("scores", (3,))]
    assert {"backend", "device", "precision"} <= engine.description.keys()


def test_a_smaller_batch_gives_as_many_rows_as_pictures(engine: Engine) -> None:
    pictures, geometries = asked(1)
    assert engine(pictures, geometries)["scores"].shape == (1, 3)


def test_as_many_batches_as_depth_says_are_under_way_at_once(engine: Engine) -> None:
    asks = [asked(1, first=i) for i in range(engine.depth)]
    tickets = [engine.submit(engine.prepare(*ask)) for ask in asks]
    with pytest.raises(BackendError, match="in flight"):
        engine.prepare(*asks[0])
    for (pictures, _), ticket in zip(asks, tickets, strict=True):
        assert ticket.result()["scores"][0] == pytest.approx(expected(pictures[0]), abs=0.01)
        ticket.release()
    engine.submit(engine.prepare(*asks[0])).release()


def test_results_do_not_depend_on_what_ran_before(engine: Engine) -> None:
    first = engine(*asked(1))["scores"].copy()
    for i in range(engine.depth + 2):
        engine(*asked(1, first=i))
    assert (engine(*asked(1))["scores"] == first).all()


def test_too_many_pictures_or_a_wrong_geometry_are_refused_and_cost_no_slot(engine: Engine) -> None:

    pictures, geometries = asked(engine.max_batch + 1)
    wrong = [fit((64, 48), None, Input(width=16, height=16, fit="stretch"))]
    for _ in range(engine.depth + 1):
        with pytest.raises(PictureError, match="expected 1 to"):
            engine.prepare(pictures, geometries)
        with pytest.raises(PictureError, match="expected a geometry for 32x32"):
            engine.prepare(pictures[:1], wrong)
        with pytest.raises(PictureError, match="geometries"):
            engine.prepare(pictures[:1], [])
    engine(*asked(1))


def picky_model(path: Path) -> Path:
    """ONNX that looks up the first pixel's level in a list of 100: with a brighter one, it fails while it runs."""
    nodes = [
        helper.make_node("Slice", ["images", "starts", "ends", "axes"], ["first"]),
        helper.make_node("Reshape", ["first", "rows"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["levels", "index"], ["scores"]),
    ]
    constants = [
        helper.make_tensor("starts", TensorProto.INT64, [2], [0, 0]),
        helper.make_tensor("ends", TensorProto.INT64, [2], [1, 1]),
        helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3]),
        helper.make_tensor("rows", TensorProto.INT64, [2], [0, 3]),
        helper.make_tensor("levels", TensorProto.FLOAT, [100], [level / 100 for level in range(100)]),
    ]
    graph = helper.make_graph(
        nodes,
        "picky",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def flat(level: int) -> tuple[list[Picture], list]:
    grey = np.full((48, 64, 3), level, np.uint8)
    return [Picture(image_from(grey, "bgr"))], [fit((64, 48), None, Input(width=SIDE, height=SIDE, fit="stretch"))]


@pytest.mark.parametrize("streams", [1, 2])
def test_a_network_that_fails_on_a_batch_fails_that_batch_and_no_other(card, tmp_path, streams, capfd) -> None:
    """ONNX Runtime only: OpenVINO gives out zeros for an index that is out of range."""
    engine = onnxruntime.Config(threads=2, streams=streams).build(card, picky_model(tmp_path / "picky.onnx"), "fp32")
    tickets = [engine.submit(engine.prepare(*flat(level))) for level in (50, 200)]
    with pytest.raises(BackendError, match=r"onnxruntime failed: .*out of data bounds") as caught:
        tickets[1].result()
    assert "\n" not in str(caught.value)
    assert tickets[0].result()["scores"] == pytest.approx(np.full((1, 3), 0.5))
    for ticket in tickets:
        ticket.release()
    assert engine(*flat(99))["scores"] == pytest.approx(np.full((1, 3), 0.99))
    engine.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\0" * 1000, b"\xff" * 1000, "cut short"], ids=repr)
def test_a_file_that_is_no_model_is_refused_by_name_and_nothing_is_printed(
    backend: BackendConfig, card: Card, model: Path, tmp_path: Path, content, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(model.read_bytes()[:-9] if content == "cut short" else content)
    with pytest.raises(EngineError, match=r"broken\.onnx: ") as caught:
        backend.build(card, broken, "fp32")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [openvino, onnxruntime])
def test_precision_threads_and_device_are_said(kind, card: Card, model: Path) -> None:
    built = kind.Config(threads=2).build(card, model, "fp32")
    assert (built.description["threads"], built.description["float_precision"]) == (2, "f32")
    assert built.description["device"]
    built.close()


@pytest.mark.parametrize(
    ("dtype", "shape", "outputs", "expected"),
    [
        (TensorProto.FLOAT, ["N", 3, SIDE, SIDE], 3, r"its inputs are f32 \(\?, 3, 32, 32\)"),
        (TensorProto.UINT8, ["N", 3, SIDE, SIDE], 4, "output scores has rows of shape"),
        (TensorProto.UINT8, ["N", 1, SIDE, SIDE], 3, r"its inputs are u8 \(\?, 1, 32, 32\)"),
        (TensorProto.UINT8, [4, 3, SIDE, SIDE], 3, r"its inputs are u8 \(4, 3, 32, 32\), not one u8 \(\?, 3"),
    ],
)
def test_a_graph_that_the_card_does_not_fit_is_refused_by_name(
    backend: BackendConfig, tmp_path: Path, dtype, shape, outputs, expected
) -> None:
    store = fake_store(tmp_path)
    card, folder = store.find("classes")
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["floats"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights"], ["scores"]),
    ]
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [shape[1], outputs], [0.5] * shape[1] * outputs)
    graph = helper.make_graph(
        nodes,
        "misfit",
        [helper.make_tensor_value_info("images", dtype, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", outputs])],
        [weights],
    )
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    files = {"fp32": card.files["fp32"].model_copy(update={"sha256": sha256_of(path)})}
    with pytest.raises(EngineError, match=expected) as caught:
        open_model(card.model_copy(update={"files": files}), folder, "fp32", backend)
    assert str(path) in str(caught.value)
