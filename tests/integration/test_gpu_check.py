"""`scripts/gpu-check` from end to end on stand-ins for CUDA's driver and TensorRT. Its figures there mean nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engines.card import ModelFile, sha256_of, write_card
from engines.cuda import nvrtc
from engines.store import ModelStore
from engines.trt.store import PlanStore
from tests.prove.gpu_check import __main__ as gpu_check
from tests.prove.gpu_check import kernels, model, report
from tests.prove.gpu_check.counting import Counting
from tests.support import host_kernels, standin_cuda, standin_trt
from tests.support.agents import fake_store
from tests.support.means import means_model
from tests.support.standin_driver import StandInDriver
from tests.support.standin_engines import device, in_this_process, plan_of

ROOT = Path(__file__).parents[2]
COMPILER = """
import engines.cuda.nvrtc
engines.cuda.nvrtc.compile = lambda source, capability: {image!r}
"""
"""What Python runs at the start of each child: this GPU takes kernels that g++ compiled."""


def store_in(folder: Path) -> ModelStore:
    """Two models, of which `boxes` has a file that is no ONNX."""
    store = fake_store(folder / "models")
    card, where = store.find("classes")
    means = means_model(where / "model.onnx", 32)
    file = ModelFile(path="model.onnx", sha256=sha256_of(means))
    write_card(card.model_copy(update={"files": {"fp32": file}, "max_batch": 8}), where)
    return store


def environment(folder: Path) -> dict[str, str]:
    """Children see a GPU and a TensorRT that are none, and that store."""
    site = folder / "site"
    site.mkdir()
    image = standin_cuda.cubin(host_kernels.library(), prepare=2)
    (site / "sitecustomize.py").write_text(COMPILER.format(image=image))
    paths = (site, ROOT / "tests" / "support" / "standin_tensorrt", ROOT)
    return {
        **standin_cuda.environment(folder),
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "SIGHTWIRE_MODELS": str(store_in(folder).root),
    }


def check(folder: Path, variables: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, its files going to the folder."""
    command = [sys.executable, "-m", "tests.prove.gpu_check", "--quick", f"--out={folder}", *arguments]
    return subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, timeout=240)


def found_in(folder: Path) -> dict[str, Any]:
    """What it wrote for machines."""
    return dict(json.loads((folder / "gpu-check.json").read_text()))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """One run over both models; the damaged one must not end it."""
    folder = tmp_path_factory.mktemp("gpu-check")
    only = ("--only", "boxes", "--only", "classes", "--batches", "1", "8")
    return folder, check(folder, environment(folder), *only)


def test_one_model_that_fails_is_a_row_and_does_not_end_the_run(ran) -> None:
    folder, ended = ran
    models = found_in(folder)["models"]
    assert list(models) == ["boxes FP16", "classes FP16"]
    assert "boxes" in models["boxes FP16"]["failed"]
    assert "failed" not in models["classes FP16"], models
    assert ended.returncode == 1, ended.stderr


def test_a_model_is_built_compared_and_timed_in_every_size_of_batch(ran) -> None:
    measured = found_in(ran[0])["models"]["classes FP16"]
    assert (measured["prepare"], measured["graphs"], measured["wrong"]) == ("gpu", "yes", None)
    assert measured["distance"] < 0.05
    assert [rate["batch"] for rate in measured["rates"]] == [1, 8]
    assert all(rate["through_model"] > 0 and rate["bare"] > 0 for rate in measured["rates"])
    assert 0 < measured["latency_ms"] <= measured["latency_p95_ms"]


def test_batches_allocate_nothing_and_wait_once(ran) -> None:
    """Counted at the driver: true of these calls whatever is behind them."""
    measured = found_in(ran[0])["models"]["classes FP16"]
    assert measured["allocations"] == 0
    assert measured["waits_per_batch"] == 1


def test_the_kernel_is_compared_with_the_cpu_launched_and_as_a_graph(ran) -> None:
    agreement = found_in(ran[0])["memory"]["agreement"]
    assert agreement["cases"] == 45
    assert agreement["levels"] <= 1
    assert agreement["graph_levels"] == 0


def test_where_tensorrt_refuses_the_gpu_the_rest_is_checked(tmp_path: Path) -> None:
    """TensorRT-RTX on a data-centre GPU: one small network finds it out, and no model is tried."""
    variables = {**environment(tmp_path), "STANDIN_TRT_FAULTS": "device"}
    ended = check(tmp_path, variables, "--flavour=tensorrt_rtx")
    found, table = found_in(tmp_path), (tmp_path / "gpu-check.md").read_text()
    assert (ended.returncode, found["models"]) == (1, {})
    assert found["memory"]["agreement"]["levels"] <= 1
    assert "tensorrt_rtx 1.7.1 refuses this GPU: " in table
    assert "does not know this GPU: see `sightwire doctor`" in table
    assert "not run: TensorRT does not run here" in table


def test_a_binding_without_graphs_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """pycuda's, on a Jetson: kernels are compared and timed all the same, and the table says what was not."""
    monkeypatch.setattr(kernels, "REGIONS", (None,))
    monkeypatch.setattr(nvrtc, "compile", lambda *_: b"the kernel")
    driver = device("gpu")
    driver.graphs = False
    driver.make_current()
    agreement = kernels.agreement(driver)
    assert (agreement["levels"], agreement["graph_levels"]) == (0, None)
    assert kernels.speeds(driver, 0.01, 1 << 22, ["bgr 640x480 to 224x224"])
    assert driver.calls["begin_capture"] == driver.held == 0
    assert report._kernel_numbers({"agreement": agreement})[1:] == (
        "0 level over 15 cases, no graphs by this binding",
        "met",
    )
    driver.close()


def test_a_table_of_stand_ins_says_so_first(ran) -> None:
    """Nobody shall take it for a result."""
    assert (ran[0] / "gpu-check.md").read_text().startswith("**STAND-IN: this ran on no GPU. Every figure")


def test_a_table_of_stand_ins_is_not_written_to_docs(ran, monkeypatch: pytest.MonkeyPatch, capsys, tmp_path) -> None:
    """Whatever else is asked for: nothing is run for it."""
    device = found_in(ran[0])["device"]
    monkeypatch.setattr(gpu_check, "run", lambda part, *_, **__: {"device": device}[part])
    assert gpu_check.main(["--write", f"--out={tmp_path}"]) == 3
    assert "stand-in" in capsys.readouterr().err


def test_a_kept_plan_that_computes_something_else_is_named_and_taken_out_of_use(tmp_path: Path) -> None:
    """New ones are not kept in the first place."""
    card, folder = store_in(tmp_path).find("classes")
    order = model.order_of(card, folder, "fp32", [1, 8])
    plan, store = plan_of(order.model, order.batches), PlanStore(order.model)
    kept = store.save(plan.passport, plan.data, b"the kernel", None)
    with in_this_process():
        standin_trt.faults.add("wrong")
        found = model.measure(
            standin_trt.namespace("10.3.0"),
            lambda: device("gpu"),
            kept,
            card,
            order,
            batches=[32],
            seconds=0.01,
            rounds=1,
            counted=2,
            say=lambda _: None,
        )
    assert "output scores" in found["wrong"]
    assert [rate["batch"] for rate in found["rates"]] == [8], "none of the sizes that were asked for fits"
    assert "DIFFERS" in report.models_table({"classes FP16": found})
    assert store.find(plan.passport) is None


def test_no_gpu_is_said_in_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    """Here there is none."""
    ended = check(tmp_path, {**os.environ, "PYTHONPATH": str(ROOT)})
    assert ended.returncode == 3
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    assert "sightwire doctor" in ended.stderr
    assert not (tmp_path / "gpu-check.md").exists()


def test_without_a_driver_nothing_is_installed_first(tmp_path: Path) -> None:
    """TensorRT alone is hundreds of megabytes."""
    variables = {**os.environ, "SIGHTWIRE_VENV": str(tmp_path / "venv")}
    variables.pop("SIGHTWIRE_PYTHON", None)
    ended = subprocess.run([ROOT / "scripts" / "gpu-check"], env=variables, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 3
    assert ended.stderr.splitlines() == [
        "gpu-check: there is no NVIDIA driver (libcuda.so.1): docs/gpu.md says how a GPU is installed"
    ]
    assert not (tmp_path / "venv").exists()


def test_targets_are_judged_by_what_was_measured(ran) -> None:
    """The same run with other figures in it: met, missed, and by which."""
    found = found_in(ran[0])
    measured = found["models"]["classes FP16"]
    assert [what for what, _, verdict in report.targets(found) if verdict.startswith("not judged")]
    found["models"], found["device"]["standin"] = {"classes FP16": measured}, False
    found["memory"]["copies"]["device_to_device"] = 100.0
    for speed in found["memory"]["speeds"].values():
        speed["gb_s"] = 101.0
    measured["rates"][1]["share"] = 0.951
    verdicts = {what: verdict for what, _, verdict in report.targets(found)}
    assert [v for v in verdicts.values() if v.startswith("missed")] == []
    measured["rates"][1]["share"], measured["allocations"], measured["waits_per_batch"] = 0.949, 1, 2.0
    next(iter(found["memory"]["speeds"].values()))["gb_s"] = 99.0
    missed = {what: verdict for what, _, verdict in report.targets(found) if verdict.startswith("missed")}
    assert len(missed) == 4
    assert "missed: classes FP16 batch 8" in missed.values()


def test_every_call_of_a_driver_is_counted_and_passed_on() -> None:
    """So that what is counted is what the engine asks."""
    driver = Counting(StandInDriver())
    driver.make_current()
    address = driver.allocate(64)
    driver.free(address)
    assert driver.calls == {"make_current": 1, "allocate": 1, "free": 1}
    assert driver.facts.name == "Stand-in GPU"
    driver.close()
