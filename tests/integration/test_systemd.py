"""The service in a real systemd: one machine is booted, and lives through what a machine lives through.

The tests are in the order of that life; each leaves the service running, and any of them can be run alone.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.installing.wheels import wheel_from
from engines.store import ModelStore
from tests.support.broker import USER, Mosquitto, Subscriber
from tests.support.clips import Clip
from tests.support.nspawn import Done, Machine
from tests.support.process import ROOT
from tests.support.rtsp import RtspServer
from tests.support.versions import version_of

pytestmark = pytest.mark.timeout(300)

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

    def wait_for_another(self, before: int, deadline_s: float = 40.0) -> int:
        """Until another process serves than the one before; its pid."""

        def other() -> bool:
            return self.machine.show("ActiveState") == "active" and self.pid() not in (0, before)

        self.machine.wait_for(other, deadline_s)
        return self.pid()

    def sees(self, deadline_s: float = 40.0) -> None:
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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, real_models: ModelStore) -> Iterator[Site]:
    """Installed in steps, whose words are kept; started last."""
    folder = tmp_path_factory.mktemp("site")
    root = tmp_path_factory.mktemp("machine")
    wheel = wheel_from(None, folder).path
    options = (f"--bind-ro={ROOT}:/srv/source", f"--bind-ro={real_models.root}:/srv/models")
    with (
        Mosquitto(folder, password=PASSWORD) as broker,
        Subscriber(broker.observer_url) as subscriber,
        RtspServer(Clip(gop=10)) as camera,
        Machine(root, *options) as machine,
    ):
        site = Site(machine, broker, camera, subscriber, folder, wheel)
        machine.path(machine.site).joinpath("hangs.pth").write_text("import hangs\n")
        machine.path(machine.site).joinpath("hangs.py").write_text(HANGS)
        install = ["env", "PYTHONPATH=/srv/source", "PYTHONDONTWRITEBYTECODE=1", "/usr/bin/python3", "-m", "agent"]
        install += ["service", "install", site.give("site.yaml", site.config()), "--models=/srv/models"]
        install += ["--system-packages", f"--wheel={site.give(wheel.name, wheel.read_bytes())}"]
        site.said["without credential"] = machine.run(*install)
        install += [f"--credential=mqtt={site.give('password', PASSWORD + chr(10))}"]
        site.said["dry run"] = machine.run(*install, "--dry-run")
        site.said["left by dry run"] = Done(0, " ".join(site.everything()), "")
        site.said["install"] = machine.run(*install, deadline_s=120)
        assert site.said["install"].status == 0, site.said["install"]
        site.said["enabled"] = machine.run("systemctl", "is-enabled", "sightwire")
        site.said["active"] = machine.run("systemctl", "is-active", "sightwire")
        machine.path("/etc/systemd/system/sightwire.service.d/60-sooner.conf").write_text(SOONER)
        machine.must("systemctl", "daemon-reload")
        site.said["again"] = site.service("install", f"--wheel={INPUTS}/{wheel.name}", "--now")
        assert site.said["again"].status == 0, site.said["again"]
        yield site


def test_a_credential_that_the_configuration_asks_for_must_be_given(site: Site) -> None:
    """One line, which says how."""
    refused = site.said["without credential"]
    assert refused.status == 1
    assert refused.err.strip().endswith("asks for credentials that the service has not: give --credential mqtt=FILE")


def test_a_dry_run_shows_every_step_and_changes_nothing(site: Site) -> None:
    """Commands and contents, but no password."""
    shown = site.said["dry run"]
    assert shown.status == 0, shown.err
    for step in ("systemd-sysusers", "-m venv", "pip", "cp -r /srv/models", "ln -sfn", "+DevicePolicy=closed"):
        assert step in shown.out
    assert PASSWORD not in shown.out
    assert site.said["left by dry run"].out == ""


def test_nothing_is_started_without_being_asked(site: Site) -> None:
    """Neither now nor with the machine; and the second time only that is done."""
    assert site.said["enabled"].out.strip() == "disabled"
    assert site.said["active"].out.strip() == "inactive"
    assert site.said["again"].out.splitlines() == [
        "start it with the machine",
        "start the service and wait until it is ready",
    ]


def test_it_is_ready_with_the_real_engine_in_its_sandbox(site: Site) -> None:
    """Network camera, OpenVINO, the password from a credential; as its own account."""
    site.sees()
    assert site.machine.show("ActiveState") == "active"
    status = site.subscriber.wait_for_topic(STATUS).data
    assert status["engines"]["scene"]["backend"] == "openvino", status["engines"]
    pid = site.pid()
    process = site.machine.path(f"/proc/{pid}/status").read_text()
    uid = int(site.machine.must("id", "-u", "sightwire"))
    assert re.search(rf"^Uid:\t{uid}\t{uid}\t{uid}\t{uid}$", process, re.MULTILINE)
    assert "\nSeccomp:\t2\n" in process
    assert "\nNoNewPrivs:\t1\n" in process
    assert "\nCapBnd:\t0000000000000000\n" in process


def test_its_exposure_is_two_or_better(site: Site) -> None:
    """As systemd counts it, with all drop-ins."""
    said = site.machine.must("systemd-analyze", "security", "--no-pager", "--json=short", "sightwire.service")
    assert json.loads(said)
    overall = site.machine.must("systemd-analyze", "security", "--no-pager", "sightwire.service").splitlines()[-1]
    exposure = float(re.search(r"service: ([0-9.]+)", overall)[1])  # type: ignore[index]
    assert exposure <= 2.0, overall


def test_status_is_for_people(site: Site) -> None:
    """Version, state, watchdog."""
    said = site.service("status")
    assert said.status == 0, said
    lines = dict(line.split(maxsplit=1) for line in said.out.replace("at boot", "at-boot").splitlines())
    assert lines["version"].startswith(site.wheel.name.split("-")[1])
    assert lines["state"].startswith("active (running) since ")
    assert lines["at-boot"] == "starts"
    assert lines["watchdog"].startswith("within 6s, fed ")
    logged = site.service("logs", "--no-follow", "--lines=1000")
    assert logged.status == 0
    assert PASSWORD not in logged.out


def test_a_crash_is_survived(site: Site) -> None:
    """SIGKILL: another process, and results again."""
    before = site.pid()
    site.signal("SIGKILL")
    site.wait_for_another(before)
    site.sees()


def test_a_hang_is_ended_by_the_watchdog(site: Site) -> None:
    """The main thread stands still: systemd notices, the journal says where it stood, and another process serves."""
    before = site.pid()
    site.signal("SIGUSR1")
    site.wait_for_another(before)
    journal = site.machine.journal()
    assert "Watchdog timeout" in journal
    assert "hangs.py" in journal, journal[-3000:]
    site.sees()


def test_a_changed_configuration_is_taken_in_and_a_wrong_one_refused(site: Site) -> None:
    """By `systemctl reload`, in the same process."""
    before, config = site.pid(), site.machine.path("/etc/sightwire/site.yaml")
    try:
        config.write_text(site.config().replace("dock:", "dock: # moved\n    crop: [0, 0, 0.5, 1]"))
        site.machine.must("systemctl", "reload", "sightwire")
        site.machine.wait_for(lambda: "read again" in site.machine.journal())
        config.write_text(site.config().replace("source:", "sorce:"))
        site.machine.must("systemctl", "reload", "sightwire")
        site.machine.wait_for(lambda: "did you mean 'source'?" in site.machine.journal())
    finally:
        config.write_text(site.config())
    site.machine.must("systemctl", "reload", "sightwire")
    site.sees()
    assert site.pid() == before


def test_a_wrong_configuration_is_not_started_again_and_again(site: Site) -> None:
    """Exit status 78 is for people to mend; `status` tells them."""
    config = site.machine.path("/etc/sightwire/site.yaml")
    config.write_text(site.config().replace("source:", "sorce:"))
    try:
        assert site.machine.run("systemctl", "restart", "sightwire").status == 1
        site.machine.wait_for(lambda: site.machine.show("ActiveState") == "failed")
        assert site.machine.show("ExecMainStatus") == "78"
        assert site.machine.show("NRestarts") == "0"
        status = site.service("status")
        assert status.status == 3
        assert "its configuration is wrong" in status.out
    finally:
        config.write_text(site.config())
        site.machine.must("systemctl", "restart", "sightwire")
    site.sees()


def test_an_upgrade_and_the_way_back(site: Site) -> None:
    """Each with one command; the service is started anew, and the broker is told the version."""
    old = site.wheel.name.split("-")[1]
    newer = version_of(site.wheel, "97.0", site.folder)
    upgraded = site.service("upgrade", f"--wheel={site.give(newer.name, newer.read_bytes())}")
    assert upgraded.status == 0, upgraded
    site.wait_for_status("version", "97.0")
    site.sees()

    # One that passes its check, but does not get ready: what ran before goes on by itself.
    broken = version_of(
        site.wheel, "98.0", site.folder, appended=("agent/running.py", "\nraise SystemExit('made to fail')\n")
    )
    failed = site.service("upgrade", f"--wheel={site.give(broken.name, broken.read_bytes())}")
    assert failed.status == 1
    assert "made to fail" in failed.err
    assert "going back" in failed.out
    assert site.machine.show("ActiveState") == "active"
    site.sees()
    assert site.machine.must("sightwire", "--version").strip() == "sightwire 97.0"

    back = site.service("rollback")
    assert back.status == 0, back
    site.wait_for_status("version", old)
    site.sees()
    assert not list(site.machine.path("/opt/sightwire/versions").glob("98*"))


def test_it_starts_with_the_machine_before_there_is_a_broker(site: Site) -> None:
    """Ready without one, and heals when it comes."""
    site.broker.stop()
    try:
        site.machine.reboot()
        site.machine.wait_for(lambda: site.machine.show("ActiveState") == "active")
    finally:
        site.broker.restart()
    site.sees()


def test_uninstalled_it_leaves_what_is_the_users_and_purged_nothing(site: Site) -> None:
    """Stopped, taken away, told what stays; and put back as it was."""
    gone = site.service("uninstall")
    assert gone.status == 0, gone
    assert "left: /etc/sightwire, /var/lib/sightwire" in gone.out
    assert not site.machine.path("/opt/sightwire").exists()
    assert site.machine.run("systemctl", "cat", "sightwire").status == 1
    assert site.machine.path("/etc/sightwire/site.yaml").read_text() == site.config()

    source = ["env", "PYTHONPATH=/srv/source", "PYTHONDONTWRITEBYTECODE=1", "/usr/bin/python3", "-m", "agent"]
    purged = site.machine.run(*source, "service", "uninstall", "--purge")
    assert purged.status == 0, purged
    assert site.everything() == set()
    assert site.machine.run("id", "sightwire").status == 1
