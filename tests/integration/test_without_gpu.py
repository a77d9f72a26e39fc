"""`backend: tensorrt` and `auto` where they cannot be: one clear line, the CPU's results, and an ordinary end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from engines.backends import auto
from engines.trt.here import lacking
from tests.support.process import Sightwire
from tests.support.standin_cuda import Device, on_standin
from tests.support.standin_gpu import environment, means_store

LOST_LIBRARY = 'raise OSError("libnvinfer.so.10: cannot open shared object file: No such file or directory")\n'
LEAN = '__version__ = "10.3.0"\n\n\nclass Runtime:\n    pass\n'


def site(folder: Path, **source: Any) -> Path:
    """One camera, the same model twice."""
    models = {name: {"model": "classes", "precision": "fp32", "backend": name} for name in ("auto", "tensorrt")}
    camera = {"source": {"type": "synthetic", **source}, "models": list(models)}
    content = {
        "agent": {"name": "gate"},
        "sinks": [{"type": "jsonl", "path": "-"}],
        "models": models,
        "cameras": {"dock": camera},
    }
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def engines(agent: Sightwire) -> dict[str, dict[str, Any]]:
    """What the last status says."""
    return [m for m in agent.messages if m["topic"].endswith("gate/status")][-1]["engines"]


def results(agent: Sightwire, use: str) -> list[int]:
    return [m["seq"] for m in agent.messages if m["topic"].endswith(f"/{use}/classification")]


def lines(agent: Sightwire, about: str) -> list[str]:
    return [line for line in agent.err.splitlines() if f"models.{about}:" in line]


@pytest.mark.parametrize(
    ("tensorrt", "driver", "why"),
    [
        pytest.param(None, {}, "libcuda.so.1 of the NVIDIA driver cannot be loaded .*install the driver", id="nothing"),
        pytest.param(LEAN, "text", "libcuda.so.1 of the NVIDIA driver cannot be loaded .*ELF", id="broken driver"),
        pytest.param(LEAN, {"init": 803}, "of different versions .*sudo reboot", id="failing driver"),
        pytest.param(None, {"init": 0}, "TensorRT is not installed .*sightwire doctor", id="no TensorRT"),
    ],
)
def test_what_is_missing_is_said_at_the_start_and_the_cpu_serves(
    tmp_path: Path, tensorrt: str | None, driver: dict[str, Any] | str, why: str
) -> None:
    if isinstance(driver, str):
        (tmp_path / "libcuda.so.1").write_text(driver * 100)
        env = {**environment(tmp_path, tensorrt), "LD_LIBRARY_PATH": str(tmp_path)}
    else:
        env = environment(tmp_path, tensorrt, **driver)
    store = means_store(tmp_path / "models")
    config = site(tmp_path, pace="lossless", frames=20)
    with Sightwire("run", config, models=store.root, env=env) as agent:
        assert agent.wait() == 0, agent.err
        assert results(agent, "auto") == results(agent, "tensorrt") == list(range(20))
        said = engines(agent)
        assert said["tensorrt"]["backend"].startswith("openvino")
        assert (said["tensorrt"]["instead_of"], "next" in said["tensorrt"]) == ("tensorrt", False)
        assert "instead_of" not in said["auto"]
        assert re.search("auto: no NVIDIA driver on this machine" if driver == {} else why, said["auto"]["because"])
        assert re.search(why, said["tensorrt"]["because"])
        (line,) = lines(agent, "tensorrt")
        assert line.startswith("WARNING")
        assert line.endswith(said["tensorrt"]["because"])


@pytest.mark.parametrize(
    ("tensorrt", "driver", "why"),
    [
        pytest.param(LOST_LIBRARY, {"init": 0}, "libnvinfer.so.10: cannot open", id="a library is missing"),
        pytest.param(LEAN, {"init": 0}, "10.3.0 runs plans and builds none (a lean", id="lean runtime"),
    ],
)
def test_what_shows_later_is_said_then_and_the_cpu_serves_on(
    tmp_path: Path, tensorrt: str, driver: dict[str, Any], why: str
) -> None:
    env = environment(tmp_path, tensorrt, **driver)
    store = means_store(tmp_path / "models")
    with Sightwire("run", site(tmp_path, rate=50), models=store.root, env=env) as agent:
        for name in ("auto", "tensorrt"):
            agent.wait_for(lambda it, name=name: any("instead of" in line for line in lines(it, name)))
            before = len(results(agent, name))
            agent.wait_for(lambda it, name=name, before=before: len(results(it, name)) > before + 3)
        assert agent.end() == 0
        for name in ("auto", "tensorrt"):
            assert why in engines(agent)[name]["because"]
            assert len([line for line in lines(agent, name) if "WARNING" in line]) == 1


@pytest.mark.parametrize(
    ("missing", "has"), [("libcuda.so.1", False), ("libnvidia-ptxjitcompiler.so.1", True)], ids=["absent", "broken"]
)
def test_a_driver_that_lacks_a_library_of_its_own_is_not_called_absent(missing: str, has: bool, monkeypatch) -> None:
    def load(_name: str) -> None:
        raise OSError(f"{missing}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(auto.ctypes, "CDLL", load)
    assert auto._has_driver() is has


@on_standin(init=100, clean=False)
def test_a_driver_without_a_gpu_is_said() -> None:
    assert re.search("no GPU is to be seen .*nvidia-smi", lacking(0, None))


@on_standin(driver=(11, 4), clean=False)
def test_a_driver_that_is_too_old_is_said() -> None:
    assert lacking(0, None) == "the NVIDIA driver takes CUDA 11.4, and 12.0 is needed: update the driver"


@on_standin(Device("Orin", (8, 7)), clean=False)
def test_a_gpu_that_is_not_there_is_said_with_those_that_are() -> None:
    assert lacking(1, None) == "there is no GPU 1; there are 0: Orin: set `device` to one of these"
