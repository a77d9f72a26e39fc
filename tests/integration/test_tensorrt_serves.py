"""An agent on TensorRT, from the CPU's first frame to the GPU's last, on stand-ins for driver and TensorRT.

That they are stand-ins is to say: what is tested is what we do and in which order, not what TensorRT or a GPU does.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import yaml

from tests.support.patience import PATIENCE_S
from tests.support.plans import tiny_store
from tests.support.process import Sightwire
from tests.support.standin_cuda import Device, library, read_report
from tests.support.standin_gpu import TENSORRT, environment, means_store

SERVES = "tensorrt 10.3.0 serves, on Stand-in GPU"
LIVE = {"type": "synthetic", "rate": 50}


class Site:
    """A folder with models, and agents that are started there one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = means_store(folder / "models")

    def run(
        self,
        source: dict[str, Any] = LIVE,
        *gpus: Device,
        backend: Any = "tensorrt",
        faults: str = "",
        fail: str = "",
        model: str = "classes",
        precision: str = "fp32",
        late: bool = False,
    ) -> Sightwire:
        """`faults`: of TensorRT; `fail`: of the driver; `late`: it is there after `driver_comes`."""
        content = {
            "agent": {"name": "gate"},
            "sinks": [{"type": "jsonl", "path": "-"}],
            "models": {"c": {"model": model, "precision": precision, "backend": backend}},
            "cameras": {"dock": {"source": source, "models": ["c"]}},
        }
        config = self.folder / "site.yaml"
        config.write_text(yaml.safe_dump(content), encoding="utf-8")
        env = environment(self.folder, TENSORRT, *gpus, fail=fail) | {"STANDIN_TRT_FAULTS": faults}
        if late:
            (self.folder / "late").mkdir()
            env["LD_LIBRARY_PATH"] = str(self.folder / "late")
        return Sightwire("run", config, models=self.store.root, env=env)

    def driver_comes(self) -> None:
        shutil.copy(library(), self.folder / "late")

    @property
    def plans(self) -> Path:
        return self.store.root / "classes" / ".tensorrt"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def backends(agent: Sightwire) -> list[str]:
    """That status named, one after the other."""
    named = [m["engines"]["c"]["backend"].split()[0] for m in agent.messages if m["topic"].endswith("gate/status")]
    return [name for i, name in enumerate(named) if named[i - 1 : i] != [name]]


def said(agent: Sightwire) -> dict[str, Any]:
    """Of the engine, in the last status."""
    return [m for m in agent.messages if m["topic"].endswith("gate/status")][-1]["engines"]["c"]


def results(agent: Sightwire) -> int:
    return agent.out.count("classification/1")


def more_results(agent: Sightwire, count: int = 10) -> None:
    before = results(agent)
    agent.wait_for(lambda it: results(it) >= before + count)


def counts(agent: Sightwire) -> dict[str, int]:
    """The last account, which adds up; each result was sent once at most, and in order."""
    counts = [m for m in agent.messages if m["topic"].endswith("/metrics")][-1]["cameras"]["dock"]["uses"]["c"]
    assert counts["offered"] == counts["inferred"] + counts["replaced"] + counts["stale"] + counts["failed"]
    seqs = [m["seq"] for m in agent.messages if m["topic"].endswith("/classification")]
    assert seqs == sorted(set(seqs))
    assert len(seqs) <= counts["inferred"]  # of a live camera the newest is sent
    return counts


class Recording:
    """A folder that is read losslessly, and grows at the test's pace."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.source = {"type": "images", "path": str(folder), "watch": True}
        self.count = 0
        self._folder = folder
        self._picture = cv2.imencode(".png", np.full((48, 64, 3), 99, np.uint8))[1].tobytes()

    def add(self, count: int = 1) -> None:
        for _ in range(count):
            (self._folder / f"{self.count:05}.png").write_bytes(self._picture)
            self.count += 1


def test_a_plan_is_built_once_there_is_a_gpu_used_at_the_next_start_given_up_when_lost_and_built_anew_when_cut(
    site: Site,
) -> None:
    recording = Recording(site.folder / "recording")
    with site.run(recording.source, late=True) as agent:
        agent.wait_for_log("serves instead of tensorrt: libcuda.so.1 of the NVIDIA driver cannot be loaded", 20)
        site.driver_comes()
        deadline = time.monotonic() + PATIENCE_S
        while SERVES not in agent.err:
            assert time.monotonic() < deadline, agent.err
            recording.add()
            threading.Event().wait(0.05)
        recording.add(10)
        agent.wait_for(lambda it: results(it) == recording.count)
        assert agent.end() == 0, agent.err
        assert backends(agent) == ["openvino", "tensorrt"]
        assert said(agent).keys() & {"next", "instead_of", "because"} == set()
        assert agent.err.count("INFO GPU 0 is here now: TensorRT is made ready") == 1
        assert counts(agent)["offered"] == counts(agent)["inferred"] == recording.count
        assert sum(read_report(site.folder)["leaked"].values()) == 0
    with site.run(fail="cuMemcpyHtoDAsync:100=700!") as agent:
        agent.wait_for_log("serves instead of tensorrt: lost at", 20)
        more_results(agent)
        assert agent.end() == 0, agent.err
        assert backends(agent) == ["tensorrt", "openvino"]
        assert "building" not in agent.err
        assert "tried again at" in said(agent)["next"]
        assert 1 <= counts(agent)["failed"] <= 2
    (plan,) = site.plans.glob("*.plan")
    plan.write_bytes(plan.read_bytes()[:-1])
    with site.run() as agent:
        agent.wait_for_log("next tensorrt: building since", 40)
        more_results(agent)
        builders = psutil.Process(agent.pid).children()
        assert agent.end() == 0, agent.err
        assert f"WARNING {plan}: is cut short or altered (sha256): it is not used, and made anew" in agent.err
        assert backends(agent) == ["openvino"]
        assert not any(builder.is_running() for builder in builders)


def test_a_plan_that_computes_something_else_is_not_used_and_not_built_at_each_start(site: Site) -> None:
    for again in (False, True):
        with site.run(faults="" if again else "wrong") as agent:
            agent.wait_for_log("serves instead of tensorrt", 40)
            more_results(agent)
            assert agent.end() == 0, agent.err
            assert backends(agent) == ["openvino"]
            assert "computes something else than the model" in said(agent)["because"]
            assert ("next tensorrt: building" in agent.err) is not again
            assert ("not again until" in said(agent)["because"]) is again
            assert counts(agent)["failed"] == 0


def test_int8_that_the_device_does_not_build_is_served_at_float16_and_said(site: Site) -> None:
    site.store = tiny_store(site.folder / "both")
    with site.run(faults="int8", model="tiny", precision="int8") as agent:
        agent.wait_for_log(f"{SERVES.partition(',')[0]} instead of int8: ", 40)
        more_results(agent)
        assert agent.end() == 0, agent.err
        assert backends(agent) == ["openvino", "tensorrt"]
        engine = said(agent)
        assert (engine["precision"], engine["float_precision"], engine["instead_of"]) == ("fp32", "f16", "int8")
        assert "cannot build it" in engine["because"]
        assert counts(agent)["failed"] == 0


def test_a_folder_where_plans_cannot_be_kept_is_said_and_the_cpu_serves(site: Site) -> None:
    site.plans.write_text("in the way")
    with site.run() as agent:
        agent.wait_for_log("serves instead of tensorrt", 40)
        more_results(agent)
        assert agent.end() == 0, agent.err
        assert re.search(r"\.tensorrt: plans cannot be kept here .*make it writable", said(agent)["because"])


def test_a_gpu_that_tensorrt_refuses_is_said_once_and_the_cpu_serves(site: Site) -> None:
    """TensorRT-RTX on a data-centre GPU: the build says so, and is not tried again."""
    backend = {"type": "tensorrt", "flavour": "tensorrt_rtx"}
    for again in (False, True):
        with site.run(LIVE, Device("NVIDIA H100", (9, 0)), backend=backend, faults="device") as agent:
            agent.wait_for_log("serves instead of tensorrt", 40)
            more_results(agent)
            assert agent.end() == 0, agent.err
            assert backends(agent) == ["openvino"]
            assert "does not know this GPU: see `sightwire doctor` (tensorrt_rtx 1.7.1: " in said(agent)["because"]
            assert ("next tensorrt: building" in agent.err) is not again
            assert counts(agent)["failed"] == 0
