"""The stage: an agent with the user's cameras and models, a broker, and what we hear of both. All of it is ours."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from agent.chaos.children import Agent, Broker, ChaosError
from agent.chaos.heard import EventListener, Heard
from agent.chaos.proxy import Proxy
from agent.chaos.ways import NAME, Way, rewritten, way_to
from agent.config import Settings
from agent.sinks.mqtt import Config as Mqtt

KEEP = 300
"""So many events may wait in the outbox, so that it is soon full."""
DRAIN_S = 30.0
SUBSCRIBED_S = 10.0


@dataclass(frozen=True)
class Patience:
    """How long things may take, s."""

    outage_s: float = 8.0
    """How long a fault lasts."""
    key_frame_s: float = 2.0
    """Longest time between two key frames of the cameras."""
    start_s: float = 40.0
    """From the start of the agent to results of every camera; on slow machines engines are compiled."""


class Stage:
    """Everything at work when `set` returns, until it is left. Raises ChaosError where it cannot be."""

    def __init__(
        self, settings: Settings, document: dict[str, Any], patience: Patience, say: Callable[[str], None]
    ) -> None:
        """`document`: what `settings` were read from. `say`: told what is being done."""
        self.settings, self.patience, self.say = settings, patience, say
        self.heard = Heard()
        self.document = document
        self._opened = contextlib.ExitStack()
        self.ways: dict[str, Way] = {}
        self.camera = ""
        """The one that is tormented."""
        self.folder: Path
        self.broker: Broker
        self.door: Proxy
        """Between the agent and the broker."""
        self.agent: Agent
        self.listener: EventListener

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def set(self, camera: str | None = None) -> None:
        """Start everything; `camera`: the one to torment, default the first that can be."""
        self.say("finding ways to the cameras")
        self._find_ways()
        self.camera = self._chosen(camera)
        self.say("starting a broker")
        self.folder = Path(self._opened.enter_context(tempfile.TemporaryDirectory(prefix="sightwire-chaos-")))
        self.broker = Broker(self.folder)
        self._opened.callback(self.broker.stop)
        self.broker.start()
        self.door = Proxy("127.0.0.1", self.broker.port)
        self._opened.callback(self.door.close)
        self._listen()
        self._opened.callback(lambda: self.listener.close())
        config = self.folder / "chaos.yaml"
        config.write_text(yaml.safe_dump(self._config(), sort_keys=False), encoding="utf-8")
        self.agent = Agent(config, self.folder, self.heard.line)
        self._opened.callback(self.agent.end, 3)
        self.say("starting the agent")
        since_s = time.monotonic()
        self.agent.start()
        self._wait_until_it_works(since_s)

    def _listen(self) -> None:
        """To the broker, from now on. Raises ChaosError."""
        endpoint = Mqtt(url=f"mqtt://127.0.0.1:{self.broker.port}", protocol=self.broker.protocol)
        self.listener = EventListener(endpoint, f"sightwire/{NAME}/#", self.heard)
        if not self.listener.subscribed.wait(SUBSCRIBED_S):
            raise ChaosError("the broker does not take a subscriber")

    def _find_ways(self) -> None:
        """Cameras with equal sources share a connection, and so a way."""
        for names in self.settings.connections():
            try:
                way = way_to(
                    self.settings.cameras[names[0]], self.document["cameras"][names[0]]["source"], self._opened
                )
            except (OSError, ValueError) as error:
                raise ChaosError(f"cameras.{names[0]}.source: {error}") from None
            self.ways |= dict.fromkeys(names, way)
        if not any(way.live for way in self.ways.values()):
            raise ChaosError("no camera of this configuration is live, and chaos is about what lives long")

    def _chosen(self, camera: str | None) -> str:
        if camera is not None and camera not in self.ways:
            raise ChaosError(f"there is no camera {camera!r}; known: {', '.join(self.ways)}")
        reachable = [name for name, way in self.ways.items() if way.proxy]
        return camera or next(iter(reachable or self.live))

    def _config(self) -> dict[str, Any]:
        return rewritten(
            self.document, f"mqtt://127.0.0.1:{self.door.port}", self.broker.protocol, str(self.folder / "events.db"),
            self.ways.__getitem__, KEEP,
        )  # fmt: skip

    def _wait_until_it_works(self, since_s: float) -> None:
        """Results of the camera that is to be tormented, at least. Raises ChaosError."""
        heard, start_s = self.heard, self.patience.start_s + self.pause_s
        end_s = since_s + start_s
        while not heard.wait(lambda: heard.result_of(self.camera, since_s), 0.2):
            if self.agent.status is not None:
                raise ChaosError(f"the agent ended with status {self.agent.status}:\n{self.agent.said()}")
            if time.monotonic() > end_s:
                state = next((s for s in reversed(heard.states) if s.camera == self.camera), None)
                said = f"{state.state}{f', {state.reason}' if state.reason else ''}" if state else "nothing"
                raise ChaosError(f"{self.camera}: no results within {start_s:g} s; it says: {said}")

    # What faults ask

    @property
    def way(self) -> Way:
        """To the camera that is tormented."""
        return self.ways[self.camera]

    @property
    def live(self) -> list[str]:
        """Cameras that have no end."""
        return [name for name, way in self.ways.items() if way.live]

    @property
    def others(self) -> list[str]:
        """Live cameras with a connection of their own, that have results."""
        with_results = {result.camera for result in self.heard.results}
        return [name for name in self.live if self.ways[name] is not self.way and name in with_results]

    @property
    def pause_s(self) -> float:
        """Longest usual time between two results of the camera: its own pictures', and its most frequent use's."""
        own_s = float(getattr(self.settings.cameras[self.camera].source, "every", 0.0))
        return max(own_s, self.use(self.camera)[1])

    @property
    def lost_s(self) -> float:
        """How soon a camera that is silent must be called lost: five seconds, unless it is known to be quiet longer."""
        expect_s = getattr(self.settings.cameras[self.camera].source, "expect", None) or 0.0
        return max(5.0, expect_s + 1.0)

    @property
    def back_s(self) -> float:
        """How soon a camera must be back: five seconds, and until there is a picture that can be read and is wanted."""
        return 5.0 + self.pause_s + (self.patience.key_frame_s if self.way.key_frames else 0.0)

    def use(self, camera: str) -> tuple[str, float]:
        """The camera's use that looks most often, and how long it pauses, s."""
        uses = [use for use in self.settings.cameras[camera].models if use.on is None]
        chosen = min(uses, key=lambda use: use.every)
        return chosen.use, chosen.every

    def max_age_ms(self) -> dict[tuple[str, str], float]:
        """Camera and use -> the greatest age that a result may have."""
        cameras = self.settings.cameras.items()
        return {(name, use.use): use.max_age * 1e3 for name, camera in cameras for use in camera.models}

    def is_well(self, timeout_s: float) -> str | None:
        """Wait until new results come and the broker is connected; what is wrong if that takes too long."""
        heard, now_s = self.heard, time.monotonic()
        timeout_s += self.pause_s
        end_s = now_s + timeout_s
        if not self.agent.running:
            return f"the agent has ended: {self.agent.said(1)}"
        if not heard.wait(lambda: heard.result_of(self.camera, now_s), timeout_s):
            return f"{self.camera} has no results"
        if not heard.wait(lambda: heard.statuses and heard.statuses[-1].said["sinks"]["mqtt"]["connected"],
                          end_s - time.monotonic()):  # fmt: skip
            return "the agent is not connected to the broker"
        return None

    def last(self, since_s: float, outage_s: float | None = None) -> None:
        """Let the fault last."""
        self.heard.wait(lambda: False, since_s + (outage_s or self.patience.outage_s) - time.monotonic())

    def stop_broker(self) -> None:
        """In an order in which it loses nothing that it has acknowledged: first no more comes in."""
        self.door.cut()
        self.heard.wait(lambda: False, 0.3)
        self.broker.stop()
        self.listener.close()

    def start_broker(self) -> None:
        """... and nothing is heard by nobody: first there is a listener, a new one, which waits for nothing."""
        self.broker.start()
        self._listen()
        self.door.mend()

    def drained(self) -> list[str]:
        """Wait until every event is delivered; what is wrong with that."""
        heard, end_s, account = self.heard, time.monotonic() + DRAIN_S, dict[str, int]()
        while time.monotonic() < end_s:
            account = self.agent.ask("account")["mqtt"]
            if not account["waiting"]:
                break
            heard.wait(lambda: False, 0.1)
        heard.wait(lambda: heard.delivered.lost <= 0, 5)
        wrong = list(heard.delivered.faults)
        if account["made"] != sum(account[name] for name in ("acknowledged", "expired", "dropped", "waiting")):
            wrong.append(f"events do not add up: {account}")
        if account["waiting"]:
            wrong.append(f"{account['waiting']} events still wait after {DRAIN_S:g} s")
        if heard.delivered.lost > 0:
            wrong.append(f"{heard.delivered.lost} events are lost")
        return wrong
