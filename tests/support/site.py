"""A machine that gets the service, with a broker and a network camera that it talks to."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.installing.wheels import wheel_from
from engines.store import ModelStore
from tests.support.broker import USER, Mosquitto, Subscriber
from tests.support.clips import Clip
from tests.support.nspawn import Done, Machine
from tests.support.patience import PATIENCE_S
from tests.support.process import ROOT
from tests.support.rtsp import RtspServer

PASSWORD = "geh@im: no/body's"
MODEL = "efficientnet-lite0"
INPUTS = "/srv/inputs"
RESULTS = "sightwire/gatehouse/dock/scene/classification"
STATUS = "sightwire/gatehouse/status"
CONFIG = """agent: {{name: gatehouse}}
mqtt: {{url: '{broker}', username: {user}, password: 'credential:mqtt'}}
models:
  scene: {{model: {model}}}
cameras:
  dock:
    source: {camera}
    models: [{{use: scene, every: 0.3s}}]
"""
#: what is the same as in earnest, only sooner
SOONER = "[Service]\nRestartSec=0.2\nWatchdogSec=6\nTimeoutAbortSec=3\n"
HANGS = "import signal, time\nsignal.signal(signal.SIGUSR1, lambda *_: time.sleep(1e6))\n"


@dataclass
class Site:
    """A machine with the service, and the broker and the camera that it talks to."""

    machine: Machine
    broker: Mosquitto
    camera: RtspServer
    subscriber: Subscriber
    folder: Path
    wheel: Path
    said: dict[str, Done] = field(default_factory=dict)
    """What the commands of the installation said."""

    def config(self) -> str:
        """Of the agent."""
        camera = self.camera.urls[0]
        return CONFIG.format(broker=self.broker.url, user=USER, model=MODEL, camera=camera)

    def give(self, name: str, content: str | bytes) -> str:
        """A file for the machine; its path there."""
        self.machine.path(INPUTS).mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        self.machine.path(f"{INPUTS}/{name}").write_bytes(data)
        return f"{INPUTS}/{name}"

    def service(self, *arguments: str) -> Done:
        """`sightwire service ...` of the service's own installation, as root."""
        return self.machine.run("sightwire", "service", *arguments, deadline_s=120)

    def pid(self) -> int:
        """The agent's, as the machine counts; 0: none."""
        return int(self.machine.show("MainPID"))

    def signal(self, name: str) -> None:
        """To the agent's process alone."""
        self.machine.must("systemctl", "kill", "--kill-who=main", f"--signal={name}", "sightwire.service")

    def wait_for_another(self, before: int, deadline_s: float = PATIENCE_S) -> int:
        """Until another process serves than the one before; its pid."""

        def other() -> bool:
            return self.machine.show("ActiveState") == "active" and self.pid() not in (0, before)

        self.machine.wait_for(other, deadline_s)
        return self.pid()

    def sees(self, deadline_s: float = PATIENCE_S) -> None:
        """Until a result comes of a picture that was taken after this call."""
        since_ns = time.monotonic_ns()
        self.subscriber.wait_for(
            lambda messages: any(m.topic == RESULTS and m.arrived_ns > since_ns for m in messages[-200:]), deadline_s
        )

    def version(self) -> str:
        """What the status at the broker says, newest word."""
        return str(self.subscriber.wait_for_topic(STATUS).data["version"])

    def wait_for_status(self, key: str, value: object) -> None:
        """Until the newest status says so."""
        self.subscriber.wait_for(
            lambda messages: next((m.data for m in reversed(messages) if m.topic == STATUS), {}).get(key) == value, 40
        )

    def everything(self) -> set[str]:
        """Files that have to do with the service, wherever they are."""
        places = ("/etc", "/opt", "/var/lib", "/var/cache", "/usr/local", "/run/systemd")
        found = self.machine.must("find", *places, "-name", "*sightwire*", "-not", "-path", "*/journal/*")
        return set(found.split())

    def exposure(self) -> float:
        """As systemd scores the unit with all its drop-ins; 0 is best, 10 worst."""
        said = self.machine.must("systemd-analyze", "security", "--no-pager", "sightwire.service")
        found = re.search(r"exposure level for sightwire.service: ([0-9.]+)", said)
        assert found, said
        return float(found[1])

    def from_source(self, *arguments: str, deadline_s: float = 120) -> Done:
        """`sightwire service ...` of this tree, as its user would call it before there is a service."""
        python = ["env", "PYTHONPATH=/srv/source", "PYTHONDONTWRITEBYTECODE=1", "/usr/bin/python3", "-m", "agent"]
        return self.machine.run(*python, "service", *arguments, deadline_s=deadline_s)

    def install(self, *more: str, deadline_s: float = 120) -> Done:
        """Install, not start."""
        config, wheel = self.give("site.yaml", self.config()), self.give(self.wheel.name, self.wheel.read_bytes())
        password = self.give("password", PASSWORD + "\n")
        options = ["--models=/srv/models", f"--wheel={wheel}", f"--credential=mqtt={password}"]
        return self.from_source("install", config, *options, *more, deadline_s=deadline_s)

    def can_hang(self, packages: Path) -> None:
        """Where Python looks for packages in the machine: from there on SIGUSR1 hangs its main thread."""
        packages.joinpath("hangs.pth").write_text("import hangs\n")
        packages.joinpath("hangs.py").write_text(HANGS)

    def sooner(self) -> None:
        """What takes its time on purpose takes less."""
        drop_in = self.machine.path("/etc/systemd/system/sightwire.service.d/60-sooner.conf")
        drop_in.write_text(SOONER)
        self.machine.must("systemctl", "daemon-reload")


@contextmanager
def prepared(folder: Path, root: Path, models: ModelStore) -> Iterator[Site]:
    """Everything but the service."""
    wheel = wheel_from(None, folder).path
    with (
        Mosquitto(folder, password=PASSWORD) as broker,
        Subscriber(broker.observer_url) as subscriber,
        RtspServer(Clip(gop=10)) as camera,
        Machine(root, f"--bind-ro={ROOT}:/srv/source", f"--bind-ro={models.root}:/srv/models") as machine,
    ):
        yield Site(machine, broker, camera, subscriber, folder, wheel)
