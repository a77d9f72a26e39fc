"""Broker, camera and GPU, each there or not there when the agent starts: it is up, says what is missing, and heals.

Driver and TensorRT are stand-ins: what is tested is what we do and in which order, not what TensorRT or a GPU does.
"""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.broker import Mosquitto, Subscriber, free_port
from tests.support.clips import SHORT
from tests.support.process import Sightwire
from tests.support.rtsp import RtspServer
from tests.support.standin_cuda import library
from tests.support.standin_gpu import TENSORRT, environment, means_store

START_S, HEAL_S = 60.0, 90.0
"""For eight agents at once on a busy machine; alone, each takes a tenth of it."""


@dataclass
class Agent:
    """One of the eight."""

    name: str
    broker: bool
    camera: bool
    gpu: bool
    process: Sightwire

    def said(self, topic: str) -> list[dict[str, Any]]:
        """What it wrote on standard output under a topic, oldest first."""
        wanted = f'"topic":"sightwire/{self.name}/{topic}"'
        return [json.loads(line) for line in self.process.out.splitlines() if wanted in line]

    def reports(self) -> bool:
        """Whether its last status tells of each of the three, as it is at the start."""
        status, camera = self.said("status")[-1:], self.said("gate/status")[-1:]
        if not (status and camera):
            return False
        sink, engine = status[0]["sinks"]["mqtt"], status[0]["engines"]["c"]
        # It takes over with the next picture, if one comes.
        on_gpu = engine["backend"].startswith("tensorrt") or engine.get("next", "").startswith("tensorrt: ready")
        return bool(
            status[0]["state"] == "online"
            and sink["connected"] is self.broker
            and (self.broker or sink["reason"])
            and camera[0]["state"] == ("streaming" if self.camera else "lost")
            and (self.camera or camera[0]["reason"])
            and (on_gpu if self.gpu else "libcuda" in engine["because"] or "no NVIDIA driver" in engine["because"])
        )

    def heals(self, heard: Subscriber) -> bool:
        """Whether the broker has a result that its GPU found in a camera's picture, and the word that all is well."""
        messages = list(heard.messages)
        status = [m.data for m in messages if m.topic == f"sightwire/{self.name}/status"][-1:]
        return bool(
            status
            and status[0]["cameras"]["gate"] == "streaming"
            and status[0]["engines"]["c"]["backend"].startswith("tensorrt")
            and any(m.topic == f"sightwire/{self.name}/gate/c/classification" for m in messages)
        )


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


class Site:
    """What is there, what comes later, and an agent for each of the eight."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._stack = stack
        self._store = means_store(folder / "models")
        self.brokers = {here: stack.enter_context(Mosquitto(folder / f"broker-{here}")) for here in (True, False)}
        self.brokers[False].stop()
        self._ports = {True: stack.enter_context(RtspServer(SHORT, fps=10)).port, False: free_port()}
        self._drivers = {True: library().parent, False: folder / "driver"}
        self._drivers[False].mkdir()
        self.agents = [self._start(folder, *here) for here in itertools.product((True, False), repeat=3)]

    def _start(self, folder: Path, broker: bool, camera: bool, gpu: bool) -> Agent:
        name = "-".join(["with", *(what for what, here in zip("bcg", (broker, camera, gpu), strict=True) if here)])
        at = folder / name
        at.mkdir()
        source = {"type": "rtsp", "url": f"rtsp://127.0.0.1:{self._ports[camera]}/cam0"}
        content = {
            "agent": {"name": name},
            "mqtt": {"url": self.brokers[broker].url},
            "sinks": [{"type": "jsonl", "path": "-"}],
            "models": {"c": {"model": "classes", "precision": "fp32", "threshold": 0.01}},
            "cameras": {
                "gate": {
                    "source": source,
                    "models": [{"use": "c", "every": "500ms"}],
                    "rules": {"lit": {"type": "presence", "use": "c", "after": "0s", "score": 0.01}},
                }
            },
        }
        (at / "site.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        env = environment(at, TENSORRT, fail="") | {"STATE_DIRECTORY": str(at)}
        env["LD_LIBRARY_PATH"] = str(self._drivers[gpu])
        process = self._stack.enter_context(Sightwire("run", at / "site.yaml", models=self._store.root, env=env))
        return Agent(name, broker, camera, gpu, process)

    def arrive(self) -> None:
        """Whatever was not there."""
        self.brokers[False].restart()
        self._stack.enter_context(RtspServer(SHORT, fps=10, port=self._ports[False]))
        partial = self._drivers[False] / ".partial"
        shutil.copy(library(), partial)
        partial.rename(self._drivers[False] / library().name)


def test_whatever_is_absent_at_the_start_the_agent_is_up_says_so_and_heals_alone(agents: Site) -> None:
    """All eight at once. In the end each has its GPU's results and its events at its broker; none is unaccounted."""
    for agent in agents.agents:
        until_told(agent, agent.reports, START_S)
    agents.arrive()
    with ExitStack() as stack:
        heard = {here: stack.enter_context(Subscriber(broker.observer_url)) for here, broker in agents.brokers.items()}
        for agent in agents.agents:
            until_told(agent, lambda agent=agent: agent.heals(heard[agent.broker]), HEAL_S)
        for agent in agents.agents:
            assert agent.process.end(deadline_s=30) == 0, agent.process.err
    for agent in agents.agents:
        metrics = agent.said("metrics")[-1]
        counts = metrics["cameras"]["gate"]["uses"]["c"]
        ways = ("inferred", "not_due", "replaced", "stale", "failed", "disabled")
        assert counts["offered"] == sum(counts[way] for way in ways), (agent.name, counts)
        assert counts["failed"] == 0, (agent.name, counts)
        events = metrics["events"]["mqtt"]
        assert events["made"] == events["acknowledged"] > 0, (agent.name, events)
        assert "Traceback" not in agent.process.err, agent.process.err


def until_told(agent: Agent, wanted: Any, deadline_s: float) -> None:
    """Wait; says what the agent last said if it is in vain."""
    end_s = time.monotonic() + deadline_s
    while not wanted():
        assert agent.process.running, agent.process.err
        assert time.monotonic() < end_s, (agent.name, agent.said("status")[-1:], agent.process.err[-2000:])
        time.sleep(0.05)
