"""`sightwire build` as it is typed: with TensorRT-RTX itself for GPUs elsewhere, on stand-ins for a GPU here.

Of stand-ins only what calls what is shown, and what is said of what goes wrong.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from typer.testing import CliRunner

from agent.commands._app import app
from engines.card import write_card
from engines.store import ModelStore
from tests.support.plans import elsewhere, tiny_store
from tests.support.process import Sightwire, sightwire
from tests.support.standin_cuda import Device
from tests.support.standin_gpu import TENSORRT, environment


@pytest.fixture
def models(tmp_path: Path) -> ModelStore:
    return tiny_store(tmp_path / "models")


@pytest.fixture
def rtx_here(models: ModelStore, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    elsewhere()
    monkeypatch.setenv("SIGHTWIRE_MODELS", str(models.root))
    return models


def here(*arguments: str | Path) -> tuple[int, str, str]:
    """The command in this process: exit status, standard output, standard error."""
    done = CliRunner().invoke(app, ["build", *map(str, arguments)], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def on_standin(models: ModelStore, *arguments: str, faults: str = "", device: Device | None = None, **driver: Any):
    """The command on a machine with a stand-in GPU and TensorRT 10.3's stand-in."""
    folder = models.root.parent
    env = environment(folder, TENSORRT, **{"init": 0, **driver})
    return sightwire("build", *arguments, models=models.root, env={**env, "STANDIN_TRT_FAULTS": faults})


def passports(folder: Path) -> list[dict[str, Any]]:
    """Of all plans that are kept under it."""
    found = sorted(folder.rglob(".tensorrt/*.json"))
    return [json.loads(path.read_bytes()) for path in found if not path.name.endswith(".failed.json")]


# TensorRT-RTX itself


def test_a_plan_for_a_gpu_elsewhere_is_made_where_it_can_be_copied_from(rtx_here: ModelStore, tmp_path: Path) -> None:
    status, out, err = here("tiny", "--target", "8.6", "--out", tmp_path / "plans")
    assert (status, err) == (0, "")
    first, *notes = out.splitlines()
    pattern = (
        r"tiny@int8, f16 elsewhere, for any GPU \(compute capability 8\.6\), tensorrt_rtx [\d.]+: "
        r"(\S+\.plan), [\d.]+ MiB, \d+ s, not checked: built for a GPU that is not here"
    )
    found = re.fullmatch(pattern, first)
    assert found
    assert Path(found[1]).parent == tmp_path / "plans" / "tiny" / ".tensorrt"
    assert all(note.startswith("  note: ") for note in notes)
    (passport,) = passports(tmp_path / "plans")
    assert (passport["precision"], passport["compute_capability"], passport["device"]) == ("int8", "8.6", None)
    assert not passports(rtx_here.root)
    shutil.copytree(tmp_path / "plans", rtx_here.root, dirs_exist_ok=True)
    status, out, _ = here("tiny", "--target", "8.6")
    assert (status, "was there" in out) == (0, True), "where it was copied to, it is found"
    status, out, _ = here("tiny", "--target", "8.6", "--again")
    assert (status, "was there" in out) == (0, False)


def test_a_configuration_s_plans_are_made_with_its_settings_and_each_once(rtx_here: ModelStore, tmp_path: Path) -> None:
    settings = {"type": "tensorrt", "batch": 2}
    content = {
        "agent": {"name": "gate"},
        "models": {
            "a": {"model": "tiny", "backend": settings},
            "b": {"model": "tiny", "backend": settings},
            "c": {"model": "tiny", "precision": "fp32"},
            "d": {"model": "tiny", "backend": "openvino"},
        },
        "cameras": {"dock": {"source": "x.mp4", "models": ["a", "b", "c", "d"]}},
    }
    config = tmp_path / "site.yaml"
    config.write_text(yaml.safe_dump(content))
    status, out, err = here("--all", config, "--target", "8.6")
    assert (status, err) == (0, "")
    assert [line.partition(",")[0] for line in out.splitlines() if "note" not in line] == ["tiny@int8", "tiny@fp32"]
    made = {p["precision"]: p["batches"] for p in passports(rtx_here.root)}
    assert made == {"int8": [1, 2, 2], "fp32": [1, 4, 4]}


def test_one_that_fails_does_not_keep_the_others_from_being_made(rtx_here: ModelStore) -> None:
    card, folder = rtx_here.find("tiny")
    broken = rtx_here.root / "broken"
    shutil.copytree(folder, broken)
    write_card(card.model_copy(update={"name": "broken"}), broken)
    for path in broken.glob("*.onnx"):
        path.write_bytes(b"no ONNX")
    status, out, err = here("broken", "tiny", "--target", "8.6")
    assert status == 1
    assert re.fullmatch(r"sightwire: broken@int8: \S+int8\.onnx: .*altered; pull the model again\n", err)
    assert out.startswith("tiny@int8")


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        ((), 2, "say which models"),
        (("tiny", "--target", "86"), 2, "--target 86: expected a compute capability"),
        (("tiny", "--target", "8.7"), 1, r"does not build for compute capability 8\.7, only for 7\.5, 8\.0"),
        (("tinny", "--target", "8.6"), 1, "did you mean 'tiny'"),
        (("tiny", "--all", "site.yaml"), 2, "--all takes models, precisions and batches from the configuration"),
        (("--all", "absent.yaml"), 78, "absent.yaml: cannot be read"),
        (("tiny",), 1, "NVIDIA driver .* or say for which GPU elsewhere, as in --target 8.6"),
    ],
)
def test_mistakes_are_a_line(rtx_here: ModelStore, arguments: tuple[str, ...], status: int, why: str) -> None:
    found, out, err = here(*arguments)
    assert (found, out, len(err.splitlines())) == (status, "", 1)
    assert re.search(why, err)


def test_ctrl_c_ends_it_and_leaves_nothing(models: ModelStore) -> None:
    elsewhere()
    with Sightwire("build", "tiny", "--target", "8.6", models=models.root) as command:
        process = psutil.Process(command.pid)
        children: list[psutil.Process] = []
        while not children and command.running:
            children = process.children()
        command.interrupt()
        assert command.wait() == 130
        assert command.err == "sightwire: interrupted\n"
    assert not psutil.wait_procs(children, 5)[1]
    assert not passports(models.root)


# Stand-ins for a GPU and for TensorRT


def test_a_plan_for_the_gpu_that_is_here_is_checked_on_it(models: ModelStore) -> None:
    status, out, err = on_standin(models, "tiny")
    assert (status, err) == (0, "")
    assert re.search(r"for Stand-in GPU \(compute capability 8\.9\), tensorrt 10\.3\.0: .* checked: \d+% of what", out)
    (passport,) = passports(models.root)
    assert passport["device"] == passport["made"]["built_on"] == "Stand-in GPU"
    assert passport["made"]["driver"] == "13.0"
    assert 0 <= passport["made"]["agreement"] < 1
    assert passport["made"]["unchecked"] is None


def test_int8_that_the_device_does_not_build_is_replaced_by_float16_and_said(models: ModelStore) -> None:
    status, out, _ = on_standin(models, "tiny", faults="int8")
    assert status == 0
    assert out.startswith("tiny@fp32, f16 elsewhere")
    assert re.search(r"\n  instead of int8: \S+int8\.onnx: ", out)
    (passport,) = passports(models.root)
    assert passport["precision"] == "fp32"
    assert passport["made"]["instead_of"].startswith("int8: ")


def test_int8_and_nothing_else_fails_where_it_cannot_be(models: ModelStore) -> None:
    status, out, err = on_standin(models, "tiny", "--precision", "int8", faults="int8")
    assert (status, out) == (1, "")
    assert re.fullmatch(r"sightwire: tiny@int8: .*cannot build it.*\n", err)
    status, out, err = on_standin(models, "tiny", "--precision", "int8", "--again")
    assert (status, out.partition(",")[0], err) == (0, "tiny@int8", "")


@pytest.mark.parametrize(
    ("faults", "why"),
    [
        ("wrong", "its plan computes something else than the model: output logits is .* from what is expected"),
        ("deserialise", "does not load"),
        ("execute", "stand-in"),
    ],
)
def test_a_plan_that_is_no_good_is_not_kept(models: ModelStore, faults: str, why: str) -> None:
    status, out, err = on_standin(models, "tiny", "--precision", "fp32", faults=faults)
    assert (status, out, len(err.splitlines())) == (1, "", 1)
    assert re.search(why, err)
    assert [path.name.partition("-")[0] for path in models.root.rglob("*.failed.json")] == ["fp32"]
    assert not list(models.root.rglob("*.plan"))


def test_a_lean_runtime_builds_nothing_and_says_so(models: ModelStore) -> None:
    lean = '__version__ = "10.3.0"\n\n\nclass Runtime:\n    pass\n'
    env = environment(models.root.parent, lean, init=0)
    for target in ((), ("--target", "8.6", "--flavour", "tensorrt")):
        status, out, err = sightwire("build", "tiny", *target, models=models.root, env=env)
        assert (status, out, len(err.splitlines())) == (1, "", 1)
        assert "10.3.0 runs plans and builds none" in err


def test_a_device_without_room_is_no_fault_of_the_plan(models: ModelStore) -> None:
    status, _, err = on_standin(models, "tiny", fail="cuMemAlloc:1+=2")
    assert (status, len(err.splitlines())) == (1, 1)
    assert not list(models.root.rglob("*.failed.json"))


def test_a_machine_without_a_package_for_cuda_is_no_fault_of_the_plan(models: ModelStore) -> None:
    """It is said before anything is built."""
    env = environment(models.root.parent, TENSORRT, init=0)
    hidden = models.root.parent / "modules" / "cuda"
    hidden.mkdir()
    (hidden / "__init__.py").write_text("raise ImportError('half an installation')\n")
    status, _, err = sightwire("build", "tiny", models=models.root, env=env)
    assert (status, "no package for CUDA can be used" in err) == (1, True)
    assert not list(models.root.rglob("*.failed.json"))
