"""Devices other than the CPU, which tests have not got: what would be asked of them, and what is said without them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from engines.backends import onnxruntime, openvino
from engines.backends._devices import options_of, present, wanted
from engines.errors import BackendError
from engines.quiet import openvino_core
from tests.contract.test_engines import asked


def test_auto_prefers_a_gpu_and_a_list_its_own_order() -> None:
    assert wanted("AUTO") == ["GPU", "CPU"]
    assert wanted("AUTO:CPU,GPU.1") == ["CPU", "GPU.1"]
    assert wanted("GPU.1") == ["GPU.1"]


@pytest.mark.parametrize(
    ("device", "found", "expected"),
    [
        ("CPU", ["CPU"], ["CPU"]),
        ("AUTO", ["CPU"], ["CPU"]),
        ("AUTO", ["CPU", "GPU"], ["GPU", "CPU"]),
        ("AUTO", ["CPU", "GPU.0", "GPU.1", "NPU"], ["GPU", "CPU"]),
        ("AUTO:NPU,GPU.1,CPU", ["CPU", "GPU.0", "GPU.1"], ["GPU.1", "CPU"]),
        ("GPU.0", ["CPU", "GPU"], ["GPU.0"]),
        ("NPU", ["CPU", "NPU"], ["NPU"]),
    ],
)
def test_devices_that_are_there_are_tried_in_order(device: str, found: list[str], expected: list[str]) -> None:
    assert present(device, found) == expected


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("GPU", "finds no GPU here, only CPU: .*intel-opencl-icd"),
        ("GPU.1", "finds no GPU.1 here, only CPU: .*intel-opencl-icd"),
        ("NPU", "finds no NPU here, only CPU: .*linux-npu-driver"),
        ("AUTO:NPU,GPU", "finds no NPU or GPU here, only CPU: .*linux-npu-driver"),
    ],
)
def test_a_device_that_is_absent_is_named_with_those_found_and_what_brings_it(device, message, card, model) -> None:
    with pytest.raises(BackendError, match=message):
        openvino.Config(device=device, float_precision="f16").build(card, model, "fp32")


def test_each_device_gets_its_float_precision_and_only_the_options_it_takes() -> None:
    assert options_of("CPU", 4, 2, "f32") == {
        "INFERENCE_NUM_THREADS": 4,
        "NUM_STREAMS": 2,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    assert options_of("GPU.1", 4, 2, "f32") == {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 2}
    assert options_of("NPU", 4, 2, "f16") == {"INFERENCE_PRECISION_HINT": "f16"}


@pytest.mark.parametrize(("device", "floats"), [("NPU", "f32"), ("NPU", "bf16"), ("GPU", "bf16")])
def test_a_precision_that_a_device_cannot_compute_in_is_refused_and_not_replaced(device: str, floats: str) -> None:
    with pytest.raises(BackendError, match=f"{device} computes in .*float_precision"):
        options_of(device, 4, 2, floats)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "pattern"),
        ({"device": "AUTO:"}, "pattern"),
        ({"device": "AUTO:CPU,"}, "pattern"),
        ({"device": "CPU.1"}, "pattern"),
        ({"device": "GPU", "threads": 2}, "threads are the CPU's"),
        ({"device": "NPU", "batch": 2}, "takes one picture in a run"),
        ({"device": "AUTO:NPU,CPU", "batch": 2}, "takes one picture in a run"),
    ],
)
def test_a_device_that_does_not_exist_or_takes_no_such_option_is_a_mistake_of_the_configuration(
    options, message
) -> None:
    with pytest.raises(ValidationError, match=message):
        openvino.Config(**options)


def test_status_says_what_a_cpu_without_bf16_computes_in_and_answers_as_in_f32(card, model) -> None:
    """OpenVINO takes f32 then and says nothing. On CPUs with bf16 the answer is near."""
    answers, said = [], []
    for floats in ("f32", "bf16"):
        engine = openvino.Config(threads=1, float_precision=floats).build(card, model, "fp32")
        answers.append(engine(*asked(1))["scores"].copy())
        said.append(engine.description["float_precision"])
        engine.close()
    has = "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert said == ["f32", "bf16" if has else "f32, since this device has no bf16"]
    assert np.abs(answers[1] - answers[0]).max() <= (0.02 * np.abs(answers[0]).max() if has else 0)


class GpuThatFails:
    """OpenVINO's core, where a GPU is said to be present that compiles nothing."""

    available_devices = ("CPU", "GPU")

    def __init__(self, seen: list[str]) -> None:
        self._core, self._seen = openvino_core(), seen

    def get_property(self, device: str, name: str) -> Any:
        return f"Pretended {name}" if device == "GPU" else self._core.get_property(device, name)

    def compile_model(self, graph: Any, device: str, options: dict) -> Any:
        self._seen.append(device)
        if device == "GPU":
            raise RuntimeError("Exception from somewhere\nout of resources")
        return self._core.compile_model(graph, device, options)

    def import_model(self, blob: Any, device: str, options: dict) -> Any:
        return self._core.import_model(blob, device, options)


def test_auto_goes_on_to_the_cpu_where_the_gpu_fails_and_says_so(card, model, monkeypatch) -> None:
    seen: list[str] = []
    core = GpuThatFails(seen)
    monkeypatch.setattr(openvino, "openvino_core", lambda: core)
    engine = openvino.Config(device="AUTO", threads=1).build(card, model, "fp32")
    assert seen == ["GPU", "CPU"]
    assert "means.onnx: OpenVINO cannot compile it for GPU: out of resources" in engine.description["device"]
    assert engine(*asked(1))["scores"].shape == (1, 3)
    engine.close()
    with pytest.raises(BackendError, match="for GPU: out of resources"):
        openvino.Config(device="GPU").build(card, model, "fp32")


class Session:
    """A session of ONNX Runtime that loaded `providers`."""

    def __init__(self, providers: list[str]) -> None:
        self.get_providers = lambda: providers


def onnxruntime_with(available: list[str], loaded: list[str], asked_for: list) -> SimpleNamespace:
    def session(path: str, options: Any, providers: list, enable_fallback: bool) -> Session:
        asked_for.append(providers)
        return Session(loaded)

    return SimpleNamespace(
        __version__="1.99",
        SessionOptions=lambda: SimpleNamespace(add_session_config_entry=lambda *_: None),
        InferenceSession=session,
        get_available_providers=lambda: available,
    )


CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def test_cuda_is_used_where_it_is_there_and_at_full_float32() -> None:
    for provider in ("cuda", "auto"):
        seen: list = []
        _, device = onnxruntime._open(onnxruntime_with([CUDA, CPU], [CUDA, CPU], seen), Path("m"), provider, 1)
        assert device == "CUDA"
        assert seen == [[(CUDA, {"use_tf32": "0"}), CPU]]


def test_cuda_that_was_asked_for_and_does_not_load_is_an_error_and_not_a_slow_cpu() -> None:
    with pytest.raises(BackendError, match=r"did not load CUDA.*nvidia-smi"):
        onnxruntime._open(onnxruntime_with([CUDA, CPU], [CPU], []), Path("m"), "cuda", 1)
    with pytest.raises(BackendError, match="without CUDA: pip uninstall onnxruntime && pip install 'onnxruntime-gpu"):
        onnxruntime._open(onnxruntime_with([CPU], [CPU], []), Path("m"), "cuda", 1)


def test_auto_takes_the_cpu_where_cuda_does_not_load_and_says_so() -> None:
    _, device = onnxruntime._open(onnxruntime_with([CUDA, CPU], [CPU], []), Path("m"), "auto", 1)
    assert device.endswith("(CUDA did not load)")
    _, device = onnxruntime._open(onnxruntime_with([CPU], [CPU], []), Path("m"), "auto", 1)
    assert "CUDA" not in device


def test_without_onnxruntime_its_extra_is_named(card, model, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r"pip install 'sightwire\[onnxruntime\]'"):
        onnxruntime.Config().build(card, model, "fp32")


def test_the_machine_is_divided_only_where_the_configuration_left_it_open() -> None:
    one = openvino.Config().shared(threads=4, askers=1)
    assert (one.threads, one.streams) == (4, 1)
    many = onnxruntime.Config().shared(threads=4, askers=12)
    assert (many.threads, many.streams) == (4, 4)
    asked_for = openvino.Config(threads=3, streams=2).shared(threads=4, askers=1)
    assert (asked_for.threads, asked_for.streams) == (3, 2)
