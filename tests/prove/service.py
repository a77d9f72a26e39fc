"""`scripts/prove service`: the service set up in a booted systemd with everything it asks for, downloaded as users do.

Takes some minutes: each version gets its own copy of OpenVINO and the rest. Needs root, systemd-container, mosquitto.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from engines.pull import pull
from engines.store import ModelStore
from tests.prove.record import section, table
from tests.support.site import INPUTS, MODEL, STATUS, Site, prepared
from tests.support.versions import version_of

LONG_S = 600.0


class Timed:
    """Cases and what they took."""

    def __init__(self) -> None:
        self.rows: list[tuple[object, ...]] = []

    def __call__(self, what: str, case: Callable[[], str]) -> None:
        began = time.monotonic()
        found = case()
        self.rows.append((what, found, f"{time.monotonic() - began:.1f}"))
        print(*self.rows[-1], sep=" | ", flush=True)


def main() -> None:
    """Every case in the order of a machine's life."""
    timed = Timed()
    with tempfile.TemporaryDirectory(prefix="prove-service-") as name:
        folder, root = Path(name) / "site", Path(name) / "machine"
        folder.mkdir(), root.mkdir()
        models = ModelStore(Path(name) / "models")
        pull(MODEL, models)
        with prepared(folder, root, models) as site:
            life(site, timed)
    section(
        "service",
        "The service in a booted systemd",
        "scripts/prove service",
        "systemd-nspawn on an overlay in memory; dependencies downloaded by pip; EfficientNet-Lite0 INT8 on OpenVINO, "
        "a network camera over RTSP, MQTT with a password handed over as a credential. `RestartSec` and `WatchdogSec` "
        "are the unit's own (5 s, 30 s).\n\n" + table(("case", "found", "seconds"), timed.rows),
    )


def life(site: Site, timed: Timed) -> None:
    """Install, hang, crash, upgrade that fails, upgrade, roll back, reboot, uninstall."""
    old = site.wheel.name.split("-")[1]
    newer = version_of(site.wheel, "97.0", site.folder)
    ends = ("agent/running.py", "\nraise SystemExit('made to fail')\n")
    broken = version_of(site.wheel, "98.0", site.folder, appended=ends)

    def installed() -> str:
        # The first version as on a machine without an index, later ones with it.
        wheel, packages = site.give(site.wheel.name, site.wheel.read_bytes()), f"{INPUTS}/packages"
        site.machine.must("/usr/bin/python3", "-m", "venv", f"{INPUTS}/fetching")
        fetch = (f"{INPUTS}/fetching/bin/pip", "download", "--quiet", f"--dest={packages}", wheel)
        site.machine.must(*fetch, deadline_s=LONG_S)
        done = site.install("--now", f"--find-links={packages}", deadline_s=LONG_S)
        assert done.status == 0, done
        return "ready"

    def hung() -> str:
        (packages,) = site.machine.path("/opt/sightwire/versions").glob("*/lib/python3*/site-packages")
        site.can_hang(packages)
        site.machine.must("systemctl", "restart", "sightwire")
        found = another("SIGUSR1")
        assert "hangs.py" in site.machine.journal()
        return found

    def another(signal: str) -> str:
        before = site.pid()
        site.signal(signal)
        site.wait_for_another(before, 120)
        site.sees()
        return "another process, results again"

    def upgraded(wheel: Path) -> str:
        done = site.machine.run(
            "sightwire", "service", "upgrade", f"--wheel={site.give(wheel.name, wheel.read_bytes())}", deadline_s=LONG_S
        )
        site.sees()
        return f"exit {done.status}, {site.machine.must('sightwire', '--version').strip()} serves"

    def rolled_back() -> str:
        assert site.service("rollback").status == 0
        site.wait_for_status("version", old)
        return f"{old} serves"

    def rebooted() -> str:
        site.machine.reboot()
        site.sees()
        return "results again"

    def seen() -> str:
        site.sees()
        return str(site.subscriber.wait_for_topic(STATUS).data["engines"]["scene"]["backend"])

    def purged() -> str:
        assert site.service("uninstall", "--purge").status == 0
        left = site.everything()
        assert not left, left
        return "nothing left"

    timed("packages into a folder, install --find-links --now", installed)
    timed("first result", seen)
    timed("exposure (systemd-analyze security)", lambda: str(site.exposure()))
    timed("killed (SIGKILL)", lambda: another("SIGKILL"))
    timed("hung: ended by the watchdog", hung)
    timed("upgrade to one that does not get ready", lambda: upgraded(broken))
    timed("upgrade", lambda: upgraded(newer))
    timed("roll back", rolled_back)
    timed("reboot", rebooted)
    timed("uninstall --purge", purged)


if __name__ == "__main__":
    main()
