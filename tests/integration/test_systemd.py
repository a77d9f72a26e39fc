"""The service in a real systemd: one machine is booted, and lives through what a machine lives through.

The tests are in the order of that life; each leaves the service running, and any of them can be run alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from agent.installing import sandbox
from engines.backends._compiled import FOLDER
from engines.store import ModelStore
from tests.support.site import INPUTS, MODEL, PASSWORD, STATUS, Site, prepared
from tests.support.versions import version_of

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, real_models: ModelStore) -> Iterator[Site]:
    """Installed in two steps, whose words are kept; started by the second."""
    with prepared(tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("machine"), real_models) as site:
        # What the wheel asks for is in the system's Python already, and so need not be downloaded.
        site.said["install"] = site.install("--system-packages")
        assert site.said["install"].status == 0, site.said["install"]
        site.said["enabled"] = site.machine.run("systemctl", "is-enabled", "sightwire")
        site.said["active"] = site.machine.run("systemctl", "is-active", "sightwire")
        site.sooner()
        site.can_hang(site.machine.path(site.machine.site))
        site.said["again"] = site.service("install", f"--wheel={INPUTS}/{site.wheel.name}", "--now")
        assert site.said["again"].status == 0, site.said["again"]
        yield site


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
    assert status["engines"]["scene"]["backend"].startswith("openvino "), status["engines"]
    pid = site.pid()
    process = site.machine.path(f"/proc/{pid}/status").read_text()
    uid = int(site.machine.must("id", "-u", "sightwire"))
    assert re.search(rf"^Uid:\t{uid}\t{uid}\t{uid}\t{uid}$", process, re.MULTILINE)
    assert "\nSeccomp:\t2\n" in process
    assert "\nNoNewPrivs:\t1\n" in process
    assert "\nCapBnd:\t0000000000000000\n" in process
    # It may keep what it has compiled beside the model.
    assert list(site.machine.path(f"/var/lib/sightwire/models/{MODEL}").glob(f"{FOLDER}/*"))


IN_SANDBOX = """
import ctypes, mmap, os, pathlib, psutil, socket, tempfile, threading

from agent.sources import Intake, synthetic
from agent.sources._isolated import as_read

def refused(what):
    try:
        what()
    except OSError:
        return
    raise SystemExit(f"not refused: {what.__code__.co_consts}")

# What engines, cameras and status need.
memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
os.sched_setaffinity(0, os.sched_getaffinity(0))
assert psutil.virtual_memory().total and psutil.net_if_addrs()["lo"]
group = socket.inet_aton("239.1.2.3") + socket.inet_aton("127.0.0.1")
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
for folder in (os.environ["STATE_DIRECTORY"], os.environ["CACHE_DIRECTORY"], "/tmp"):
    tempfile.TemporaryFile(dir=folder)
open("/dev/nvmap").close()  # of the group video
isolated = as_read(synthetic.Config(isolated=True))  # its process, and its memory without a name
with isolated.open(threading.Event(), Intake()) as pictures:
    assert next(pictures)
# What they do not need.
refused(lambda: open("/dev/unnamed"))
refused(lambda: os.listdir("/root"))
refused(lambda: open("/opt/sightwire/mine", "w"))
refused(lambda: open("/etc/sightwire/site.yaml", "a"))
refused(lambda: open("/etc/sightwire/credentials/mqtt"))
refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
refused(lambda: os.unshare(os.CLONE_NEWUSER) if hasattr(os, "unshare") else os.setuid(0))
"""


def test_its_sandbox_allows_what_the_agent_needs_and_no_more(site: Site) -> None:
    """Memory that is written and run, cores, multicast, devices by name and group; not the rest of the machine."""
    for name, minor, mode in (("nvmap", "183", "660"), ("unnamed", "232", "666")):  # the kernel's hwrng and kvm
        site.machine.must("mknod", "-m", mode, f"/dev/{name}", "c", "10", minor)
        site.machine.must("chgrp", "video", f"/dev/{name}")
    unit = site.machine.path("/etc/systemd/system/sightwire.service").read_text()
    options = [word for line in sandbox.properties(unit) for word in ("--property", line)]
    script = site.give("sandboxed.py", IN_SANDBOX)
    site.machine.must(
        "systemd-run", "--wait", "--pipe", "--collect", *options, "/opt/sightwire/current/bin/python", script
    )


def test_its_exposure_is_two_or_better(site: Site) -> None:
    """As systemd counts it, with all drop-ins."""
    assert site.exposure() <= 2.0


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


def test_a_command_is_tried_as_the_service_would_run_it(site: Site) -> None:
    """With its account, models and credential, which the same command by hand has not."""
    tried = site.service("try", "check")
    assert tried.status == 0, tried
    assert "/etc/sightwire/site.yaml" in tried.out


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
    # As after a backup of another machine, whose account had another number.
    site.machine.must("chown", "-R", "61234:61234", "/var/lib/sightwire")
    upgraded = site.service("upgrade", f"--wheel={site.give(newer.name, newer.read_bytes())}")
    assert upgraded.status == 0, upgraded
    site.wait_for_status("version", "97.0")
    site.sees()
    assert site.machine.must("find", "/var/lib/sightwire", "!", "-user", "sightwire") == ""

    # One that passes its check, but does not get ready: what ran before goes on by itself.
    (file,) = site.machine.path("/opt/sightwire/versions").glob(f"{old}-*/lib/python3*/site-packages/agent/running.py")
    sound = file.read_text()
    file.write_text(f"{sound}\nraise SystemExit('made to fail')\n")
    failed = site.service("rollback")
    file.write_text(sound)
    assert failed.status == 1
    assert "made to fail" in failed.err
    assert "going back" in failed.out
    assert site.machine.show("ActiveState") == "active"
    assert site.machine.must("sightwire", "--version").strip() == "sightwire 97.0"
    site.sees()

    back = site.service("rollback")
    assert back.status == 0, back
    site.wait_for_status("version", old)
    site.sees()


@pytest.fixture(scope="module")
def booted_without_broker(site: Site) -> str:
    """Booted again; the state in which it was before there was a broker."""
    site.broker.stop()
    site.machine.reboot()
    site.machine.wait_for(lambda: site.machine.show("ActiveState") == "active")
    state = f"{site.machine.show('SubState')}: {site.machine.show('StatusText')}"
    site.broker.restart()
    return state


def test_it_starts_with_the_machine_before_there_is_a_broker(site: Site, booted_without_broker: str) -> None:
    """Ready without one, and heals when it comes."""
    assert booted_without_broker.startswith("running: ")
    site.sees()


def test_uninstalled_it_leaves_what_is_the_users_and_purged_nothing(site: Site) -> None:
    """Stopped, taken away, told what stays; and put back as it was."""
    gone = site.service("uninstall")
    assert gone.status == 0, gone
    assert "left: /etc/sightwire, /var/lib/sightwire" in gone.out
    assert not site.machine.path("/opt/sightwire").exists()
    assert site.machine.run("systemctl", "cat", "sightwire").status == 1
    assert site.machine.path("/etc/sightwire/site.yaml").read_text() == site.config()

    purged = site.from_source("uninstall", "--purge")
    assert purged.status == 0, purged
    assert site.everything() == set()
    assert site.machine.run("id", "sightwire").status == 1
