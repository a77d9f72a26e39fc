"""From an ONNX file to a plan: TensorRT-RTX itself with tiny networks; the older versions by a scripted stand-in."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engines.errors import BackendError, ModelFileError
from engines.graph import Normalisation, bake, constant, load, model_of, serialise
from engines.qdq import apply
from engines.trt.building import build
from engines.trt.errors import BuildError, NotNow
from engines.trt.features import Features
from engines.trt.flavours import Flavour
from engines.trt.flavours import load as load_flavour
from engines.trt.log import Messages, listening, logger
from tests.support import standin_trt
from tests.support.models import tiny_network
from tests.support.patience import PATIENCE_S
from tests.support.rtx import order_of, rtx
from tests.support.tables import measured_table, tiny_fp32


def tiny_int8() -> onnx.ModelProto:
    return apply(tiny_fp32(), measured_table(tiny_fp32()))


def replaced(model: onnx.ModelProto, **arrays: np.ndarray) -> onnx.ModelProto:
    """The model with other constants of those names; `_` for `.`."""
    for tensor in model.graph.initializer:
        if (name := tensor.name.replace(".", "_")) in arrays:
            tensor.CopyFrom(constant(tensor.name, arrays[name]))
    return model


def with_node(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """Pictures cast to float, and those nodes from `x` to `y`."""
    cast = helper.make_node("Cast", ["images"], ["x"], name="cast", to=TensorProto.FLOAT)
    graph = onnx.GraphProto(name="odd", node=[cast, *nodes])
    graph.input.append(helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 3, 16, 16]))
    graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, list("ABCD")))
    return model_of(graph)


def complaint(flavour: Flavour, model: onnx.ModelProto, folder: Path, **fields: Any) -> BuildError:
    with pytest.raises(BuildError) as caught:
        build(flavour, order_of(model, folder, **fields))
    assert "\n" not in str(caught.value)
    return caught.value


# TensorRT-RTX itself


@pytest.mark.parametrize("floats", ["f16", "f32"])
@pytest.mark.parametrize("network", [tiny_int8, tiny_fp32])
def test_a_plan_is_built_for_a_gpu_that_is_elsewhere(network, floats: Any, tmp_path: Path) -> None:
    """Without a word of warning, whatever is INT8 and whatever the rest is."""
    built = build(rtx(), order_of(network(), tmp_path, floats=floats))
    assert len(built.plan) > 100_000
    assert built.warnings == ()
    assert built.floats == floats
    assert built.seconds > 0


def test_turing_takes_float16(tmp_path: Path) -> None:
    """Its kernels multiply no matrices in float32; that is said."""
    assert build(rtx(), order_of(tiny_int8(), tmp_path, target=(7, 5))).warnings == ()
    error = complaint(rtx(), tiny_int8(), tmp_path, target=(7, 5), floats="f32")
    assert "float_precision: f16" in str(error)


def test_what_failed_for_one_gpu_does_not_change_the_plan_for_another(tmp_path: Path) -> None:
    """TensorRT-RTX 1.7.1 would then compute INT8 in float, once, as it does for Turing."""
    order = order_of(tiny_int8(), tmp_path, floats="f32")
    before = build(rtx(), order).plan
    complaint(rtx(), tiny_int8(), tmp_path, target=(7, 5), floats="f32")
    assert len(build(rtx(), order).plan) == pytest.approx(len(before), rel=0.01)


def test_without_a_target_it_is_for_ampere_and_later(tmp_path: Path) -> None:
    """That is what hardware-compatible means to TensorRT-RTX, which warns of the setting that TensorRT has for it."""
    assert build(rtx(), order_of(tiny_int8(), tmp_path, target=None, hardware_compatible=True)).warnings == ()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"target": (8, 7)}, "does not build for compute capability 8.7, only for 7.5, 8.0, 8.6, 8.9, 12.0, 12.1"),
        ({"hardware_compatible": True}, "for 8.6 or hardware-compatible, not both"),
        ({"batches": (1, 4, 2)}, "batches (1, 4, 2) are not least, best and most"),
        ({"workspace_mb": 1}, "more than 1 MB of scratch memory (workspace_mb)"),
        ({"size": (8, 8)}, "images is (-1, 3, 16, 16), expected (N, 3, 8, 8)"),
    ],
)
def test_orders_that_cannot_be_met(fields: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in str(complaint(rtx(), tiny_int8(), tmp_path, **fields))


def test_a_graph_of_one_batch_is_built_for_that_batch_only(tmp_path: Path) -> None:
    """As models are whose card says max_batch 1."""
    fixed = bake(tiny_network(), Normalisation(), "tiny")
    assert build(rtx(), order_of(fixed, tmp_path, batches=(1, 1, 1))).plan
    assert "fixed at batch 1, the order says 1 to 2" in str(complaint(rtx(), fixed, tmp_path))


def test_an_operator_that_tensorrt_lacks_is_named_with_its_node(tmp_path: Path) -> None:
    """Another format would not help, so INT8 is not blamed."""
    odd = with_node(helper.make_node("Det", ["x"], ["y"], name="determinant"))
    error = complaint(rtx(), odd, tmp_path, floats="f32")
    assert "TensorRT has no Det (node determinant): the CPU engine serves this model" in str(error)


def test_an_operator_in_a_form_that_tensorrt_lacks_is_named_with_the_reason(tmp_path: Path) -> None:
    pool = helper.make_node("MaxPool", ["x"], ["y", "where"], name="pool", kernel_shape=[2, 2], storage_order=1)
    assert "TensorRT has no such MaxPool (node pool): " in str(
        complaint(rtx(), with_node(pool), tmp_path, floats="f32")
    )


def test_int8_that_would_be_read_as_something_else_is_an_error(tmp_path: Path) -> None:
    """TensorRT only warns that it takes uint8 for int8."""
    unsigned = replaced(tiny_int8(), int8_zero=np.zeros((), np.uint8))
    error = complaint(rtx(), unsigned, tmp_path, floats="f32")
    assert "would compute other INT8: TensorRT supports QuantizeLinear/DequantizeLinear with UINT8" in str(error)


def test_int8_that_tensorrt_refuses_is_named_with_its_node(tmp_path: Path) -> None:
    shifted = replaced(tiny_int8(), int8_zero=np.full((), 3, np.int8))
    error = complaint(rtx(), shifted, tmp_path, floats="f32")
    assert "does not take its INT8 at QuantizeLinear (node normalised.q)" in str(error)


def test_int8_that_another_backend_would_misread_is_not_built_at_float16_either(tmp_path: Path) -> None:
    assert "zero point" in str(complaint(rtx(), replaced(tiny_int8(), int8_zero=np.full((), 3, np.int8)), tmp_path))


@pytest.mark.parametrize("keep", [0, 100, -300])
def test_a_file_that_was_cut_short(keep: int, tmp_path: Path) -> None:
    """Refused before TensorRT sees it, by its name."""
    order = order_of(tiny_int8(), tmp_path)
    order.model.write_bytes(order.model.read_bytes()[:keep])
    with pytest.raises(ModelFileError, match=r"model\.onnx: "):
        build(rtx(), order)


def test_what_float16_cannot_hold_stays_float32_and_is_said(tmp_path: Path) -> None:
    built = build(rtx(), order_of(replaced(tiny_int8(), stem_b=np.full(8, 1e5, np.float32)), tmp_path))
    assert built.floats == "f32"
    assert built.warnings == (
        "float32 instead of float16: stem.b: holds 100000, float16 65504 at most: stay with float32",
    )


@pytest.mark.parametrize("sized", [False, True])
def test_what_is_empty_of_a_resize_is_nothing_to_warn_of(sized: bool, tmp_path: Path) -> None:
    """Exports have it, and TensorRT finds it odd."""
    inputs = ["x", "none", "none", "size"] if sized else ["x", "none", "twice"]
    model = with_node(helper.make_node("Resize", inputs, ["y"], name="larger", mode="nearest"))
    size = constant("size", np.array([1, 3, 32, 32], np.int64))
    twice = constant("twice", np.array([1, 1, 2, 2], np.float32))
    model.graph.initializer.extend([constant("none", np.zeros(0, np.float32)), size if sized else twice])
    assert build(rtx(), order_of(model, tmp_path, batches=(1, 1, 1))).warnings == ()


def test_progress_rises_and_ends_with_all(tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    build(rtx(), order_of(tiny_int8(), tmp_path), on_progress=lambda share, what: told.append((share, what)))
    shares = [share for share, _ in told]
    assert shares == sorted(set(shares))
    assert len(shares) > 5
    assert told[-1] == (1.0, "built")


def test_a_listener_that_fails_ends_the_build(tmp_path: Path) -> None:
    """It is called from TensorRT's own code, through which nothing may be raised."""

    def gone(share: float, what: str) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        build(rtx(), order_of(tiny_int8(), tmp_path), on_progress=gone)


def test_a_gpu_that_is_not_here_is_named_as_what_is_missing(tmp_path: Path) -> None:
    """Without a target the plan is for the GPU that is here."""
    if Path("/dev/nvidiactl").exists() or Path("/dev/nvhost-gpu").exists():
        pytest.skip("there is an NVIDIA GPU")
    error = complaint(rtx(), tiny_int8(), tmp_path, target=None)
    assert "there is no NVIDIA GPU with a driver" in str(error)


# The scripted stand-in


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], tuple[Flavour, list[Any]]]]:
    """By version: a flavour that is the stand-in, and the configurations that it was given."""

    def make(version: str) -> tuple[Flavour, list[Any]]:
        trt, seen = standin_trt.namespace(version), []

        class Builder(trt.Builder):
            def create_builder_config(self) -> Any:
                seen.append(super().create_builder_config())
                return seen[-1]

        trt.Builder = Builder
        return Flavour("tensorrt", trt, version), seen

    yield make
    standin_trt.faults.clear()


@pytest.mark.parametrize(
    ("network", "floats", "flags"),
    [
        (tiny_int8, "f16", {"INT8", "FP16"}),
        (tiny_int8, "f32", {"INT8"}),
        (tiny_fp32, "f16", {"FP16"}),
        (tiny_fp32, "f32", set()),
    ],
)
def test_8_6_is_told_by_flags_what_may_be_computed_in_what(network, floats, flags, stand_in, tmp_path: Path) -> None:
    """It gets the file as it is, and contexts that share a profile."""
    flavour, seen = stand_in("8.6.1")
    order = order_of(network(), tmp_path, floats=floats, target=None)
    built = build(flavour, order)
    assert {flag.name for flag in flavour.trt.BuilderFlag if seen[0].get_flag(flag)} == flags
    assert built.floats == floats
    assert serialise(load(order.model)) in built.plan
    assert seen[0].get_preview_feature(flavour.trt.PreviewFeature.PROFILE_SHARING_0806)


def test_10_3_is_told_by_the_file(stand_in, tmp_path: Path) -> None:
    """No flag of a precision is set where networks are strongly typed."""
    flavour, seen = stand_in("10.3.0")
    built = build(flavour, order_of(tiny_int8(), tmp_path, target=None))
    assert seen[0].set_flags == set()
    plan = onnx.ModelProto.FromString(built.plan.split(b"\n\n", 1)[1])
    assert {t.data_type for t in plan.graph.initializer} == {TensorProto.FLOAT16, TensorProto.INT8, TensorProto.INT64}


def test_options_reach_the_configuration(stand_in, tmp_path: Path) -> None:
    """The profile, scratch memory, and both kinds of compatibility."""
    flavour, seen = stand_in("10.3.0")
    fields = {"target": None, "workspace_mb": 96, "hardware_compatible": True, "version_compatible": True}
    build(flavour, order_of(tiny_int8(), tmp_path, **fields))
    trt, config = flavour.trt, seen[0]
    assert config.get_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    assert config.hardware_compatibility_level == trt.HardwareCompatibilityLevel.AMPERE_PLUS
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 96 << 20
    assert [shape[0] for shape in config.profiles[0].get_shape("images")] == [1, 2, 2]


def test_float32_is_not_tf32(stand_in, tmp_path: Path) -> None:
    """Which is set unless it is cleared."""
    flavour, seen = stand_in("10.3.0")
    tf32 = flavour.trt.BuilderFlag.TF32

    class Config(flavour.trt.IBuilderConfig):
        def __init__(self) -> None:
            super().__init__()
            self.set_flag(tf32)

    flavour.trt.Builder.configs = Config
    build(flavour, order_of(tiny_fp32(), tmp_path, floats="f32", target=None))
    assert not seen[0].get_flag(tf32)


def test_scratch_memory_is_a_share_of_what_is_free(stand_in, tmp_path: Path, monkeypatch) -> None:
    """A Jetson's GPU takes it from the machine."""
    for free_mb, expected_mb in ((100, 64), (2400, 600), (60_000, 1024)):
        memory = types.SimpleNamespace(available=free_mb << 20)
        monkeypatch.setattr("engines.trt.building.psutil.virtual_memory", lambda memory=memory: memory)
        flavour, seen = stand_in("10.3.0")
        build(flavour, order_of(tiny_int8(), tmp_path, target=None))
        assert seen[0].get_memory_pool_limit(flavour.trt.MemoryPoolType.WORKSPACE) == expected_mb << 20


def test_what_was_timed_before_is_used_again(stand_in, tmp_path: Path) -> None:
    """And what is of another device is not looked at."""
    flavour, _ = stand_in("10.3.0")
    order = order_of(tiny_int8(), tmp_path, target=None)
    first = build(flavour, order)
    assert first.timing_cache
    assert build(flavour, order, first.timing_cache).timing_cache == first.timing_cache
    kind = flavour.trt.IBuilderConfig

    def accept(self: Any, cache: Any, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        foreign = bytes(cache.serialize()) == b"foreign"
        return not foreign and kind.set_timing_cache(self, cache, ignore_mismatch)

    flavour.trt.Builder.configs = type("Config", (kind,), {"set_timing_cache": accept})
    assert build(flavour, order, b"foreign").timing_cache != b"foreign"


def test_only_tensorrt_rtx_builds_for_other_gpus(stand_in, tmp_path: Path) -> None:
    error = complaint(stand_in("10.3.0")[0], tiny_int8(), tmp_path)
    assert "tensorrt 10.3.0 builds for the GPU that is here, not for 8.6: tensorrt_rtx builds for others" in str(error)


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0"])
def test_a_gpu_without_int8(version: str, stand_in, tmp_path: Path) -> None:
    """TensorRT says so before it builds."""
    flavour, _ = stand_in(version)

    class Builder(flavour.trt.Builder):
        def __init__(self, logger: Any) -> None:
            super().__init__(logger)
            self.platform_has_fast_int8 = False

    flavour.trt.Builder = Builder
    error = complaint(flavour, tiny_int8(), tmp_path, target=None)
    assert "this GPU does not compute INT8" in str(error)
    assert build(flavour, order_of(tiny_fp32(), tmp_path, target=None)).plan


def test_a_builder_that_cannot_be_made(stand_in, tmp_path: Path) -> None:
    """The binding raises a TypeError that says nothing; the log says why."""
    flavour, _ = stand_in("10.3.0")

    def refuse(logger: Any) -> None:
        logger.log(standin_trt.Severity.WARNING, "CUDA lazy loading is not enabled")
        logger.log(standin_trt.Severity.ERROR, "CUDA initialization failure with error: 35. Please check your driver")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    flavour.trt.Builder = refuse
    error = complaint(flavour, tiny_int8(), tmp_path, target=None)
    assert "there is no NVIDIA GPU with a driver to build for" in str(error)


def failing(*errors: str) -> Callable[..., None]:
    """A build that says these and gives nothing."""

    def fail(self: Any, network: Any, config: Any) -> None:
        for text in errors:
            self.logger.log(standin_trt.Severity.ERROR, text)

    return fail


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        (["CUDA initialization failure with error: 35"], "no NVIDIA GPU with a driver"),
        (
            ["Target GPU SM 90 is not supported by this TensorRT release.", "Assertion engine != nullptr failed"],
            "does not know this GPU: see `sightwire doctor`",
        ),
        (["Could not find any implementation", "Assertion engine != nullptr failed"], "it: Could not find any"),
    ],
)
def test_the_error_that_says_why_is_told(errors: list[str], said: str, stand_in, tmp_path: Path) -> None:
    """Not the last, which may only follow from it."""
    flavour, _ = stand_in("10.3.0")
    flavour.trt.Builder.build_serialized_network = failing(*errors)
    assert said in str(complaint(flavour, tiny_int8(), tmp_path, target=None))


def test_a_device_without_room_to_build_is_for_later(stand_in, tmp_path: Path) -> None:
    flavour, _ = stand_in("10.3.0")
    flavour.trt.Builder.build_serialized_network = failing("Cuda Runtime (out of memory)", "Could not find any")
    with pytest.raises(NotNow, match="too little memory free"):
        build(flavour, order_of(tiny_int8(), tmp_path, target=None))


# What TensorRT says, and what it is


def test_warnings_that_change_nothing_are_not_kept() -> None:
    """Others are, once, without the place in TensorRT's source."""
    said = Messages()
    said.add("WARNING", "(foreignNode) Converting conv weight scales to fp32.")
    said.add("INFO", "Detected 1 inputs")
    for _ in range(2):
        said.add("WARNING", "onnxOpImporters.cpp:1980: Some of it\n is odd")
    assert said.warnings == ["Some of it is odd"]
    assert said.of_quantisation() is None
    said.add("WARNING", "Missing scale and zero-point for tensor x, expect fall back to non-int8 implementation")
    assert said.of_quantisation() == said.warnings[1]


def test_all_who_listen_hear_the_one_logger() -> None:
    """TensorRT takes the first that it is given."""
    trt = standin_trt.namespace()
    with listening(trt) as outer:
        with listening(trt) as inner:
            logger(trt).log(standin_trt.Severity.ERROR, "both")
        logger(trt).log(standin_trt.Severity.ERROR, "one")
    logger(trt).log(standin_trt.Severity.ERROR, "none")
    assert (outer.errors, inner.errors) == (["both", "one"], ["both"])


def test_who_asks_at_the_same_time_gets_the_same_logger() -> None:
    """TensorRT takes the first that it is given and keeps no reference."""
    started = threading.Barrier(2)

    class SlowLogger:
        def __init__(self) -> None:
            threading.Event().wait(0.02)  # another thread's turn

    trt = types.SimpleNamespace(ILogger=SlowLogger)

    def ask() -> None:
        started.wait(PATIENCE_S)
        found.append(logger(trt))

    found: list[Any] = []
    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(found) == 2
    assert found[0] is found[1]


def test_features_are_what_a_version_has() -> None:
    """By names alone."""
    old, middle, new, other = (Features.of(standin_trt.namespace(v)) for v in ("8.6.1", "10.3.0", "11.4.0", "1.7.1"))
    assert old.strongly_typed is None
    assert (old.network_flags, middle.network_flags, new.network_flags) == (1, 3, 1)
    assert [f.weak_int8 is not None for f in (old, middle, new, other)] == [True, True, False, False]
    assert [bool(f.targets) for f in (old, middle, new, other)] == [False, False, False, True]
    assert [f.timing_cache for f in (old, middle, new, other)] == [True, True, True, False]
    assert [f.progress_monitor for f in (old, middle, new, other)] == [False, True, True, True]


# Finding it


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts modules of these names and texts in the place of any TensorRT that is installed."""
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(p for p in sys.path if "site-packages" not in p)])
    monkeypatch.setattr(sys, "path_importer_cache", {})

    def write(**texts: str) -> None:
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(text)

    return write


def test_tensorrt_is_preferred(modules: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    modules(tensorrt="__version__ = '10.3.0'", tensorrt_rtx="__version__ = '1.7'")
    assert str(load_flavour()) == "tensorrt 10.3.0"
    assert str(load_flavour("tensorrt_rtx")) == "tensorrt_rtx 1.7"


@pytest.mark.parametrize(
    "failure",
    [
        "ImportError('libnvinfer.so.10: cannot open')",
        "OSError('libnvinfer.so.10: cannot open')",
        "TypeError('cannot open')",
    ],
)
def test_what_does_not_load_is_passed_over_or_said(failure: str, modules: Callable[..., None]) -> None:
    modules(tensorrt=f"raise {failure}", tensorrt_rtx="__version__ = '1.7'")
    assert load_flavour().name == "tensorrt_rtx"
    with pytest.raises(BackendError, match=r"tensorrt does not load: .*cannot open.*sightwire doctor"):
        load_flavour("tensorrt")


def test_none_at_all(modules: Callable[..., None]) -> None:
    with pytest.raises(BackendError, match=r"^TensorRT is not installed for .*python.*; `sightwire doctor` says how"):
        load_flavour()


def test_the_other_one_is_mentioned(modules: Callable[..., None]) -> None:
    modules(tensorrt_rtx="__version__ = '1.7'")
    with pytest.raises(BackendError, match=r"tensorrt is not installed for .* \(tensorrt_rtx is\)"):
        load_flavour("tensorrt")
