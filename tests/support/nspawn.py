"""A machine with a real systemd as its first process: systemd-nspawn on a throw-away overlay of this machine's files.

Nothing is downloaded and nothing can be left behind: the overlay is in memory, mounts and processes are in namespaces
that end with the machine, however the tests end. It shares the network, so that brokers and cameras of tests are
reached on loopback. It needs root and Debian's `systemd-container`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tests.support.broker import die_with_parent
from tests.support.needs import missing
from tests.support.patience import PATIENCE_S

T = TypeVar("T")

_PROGRAMS = ("systemd-nspawn", "nsenter", "unshare", "mount")
_SYSTEM_PYTHON = "/usr/bin/python3"
_MAKE_ROOT = r"""
set -e
top=$1 packages=$2 site=$3
shift 3
mount -t tmpfs -o size=4g tmpfs "$top"
mkdir "$top"/up "$top"/work "$top"/root "$top"/up2 "$top"/work2
mount -t overlay -o lowerdir=/,upperdir="$top"/up,workdir="$top"/work overlay "$top"/root
cd "$top"/root
rm -rf etc/machine-id var/log/journal; : > etc/machine-id
# Of what this machine starts, only what systemd itself brings is wanted.
rm -rf etc/systemd/system/*.wants etc/systemd/system/sightwire.service* opt/sightwire etc/sightwire var/lib/sightwire
mkdir -p srv/packages "$site"
mount -t overlay -o lowerdir="$packages",upperdir="$top"/up2,workdir="$top"/work2 overlay srv/packages
rm -rf srv/packages/sightwire-*.dist-info
echo /srv/packages > "$site"/of-the-tests.pth
# One hierarchy of control groups, as systems have it today, whatever this one has; and a branch of our own of it.
mount -t cgroup2 cgroup2 /sys/fs/cgroup
group=$(mktemp -d /sys/fs/cgroup/machine-of-tests-XXXXXXXX)
echo $$ > $group/cgroup.procs
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
# It asks with this status to be started again: the machine reboots. That it may use BPF is for DeviceAllow=.
status=133
while [ $status = 133 ]; do
    status=0
    systemd-nspawn --register=no --keep-unit --quiet --boot --directory=. --console=pipe \
        --capability=CAP_BPF,CAP_NET_ADMIN --system-call-filter=bpf "$@" -- --unit=multi-user.target || status=$?
done
echo $$ > /sys/fs/cgroup/cgroup.procs
find $group -depth -type d -exec rmdir {} +
exit $status
"""


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str


class Machine:
    """Boots when it is entered, and is gone without a trace when it is left."""

    def __init__(self, folder: Path, *options: str) -> None:
        """`folder`: an empty one. `options`: for systemd-nspawn. Skips or fails the test where it cannot be had."""
        for program in _PROGRAMS:
            shutil.which(program) or missing(f"{program} (systemd-container)")
        if os.geteuid() != 0:
            missing("root, which systemd-nspawn needs,")
        self.site = _site_of_system_python()
        """Where its Python looks for packages."""
        packages = sysconfig.get_paths()["purelib"]
        self._log = (folder.parent / f"{folder.name}.log").open("w+b")
        words = [
            "unshare",
            "--mount",
            "--propagation=private",
            "--pid",
            "--mount-proc",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            _MAKE_ROOT,
            "sh",
            str(folder),
            packages,
        ]
        self._process = subprocess.Popen(
            [*words, self.site.lstrip("/"), *options],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )

    def __enter__(self) -> Machine:
        try:
            self.wait_booted()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def leader(self) -> int:
        """Its first process, as this machine counts."""
        pid = self._process.pid  # unshare, and a shell and systemd-nspawn between
        for _ in range(3):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if not children:
                raise ProcessLookupError("the machine is not there")
            pid = int(children[0])
        return pid

    def path(self, inside: str | Path) -> Path:
        """A file of the machine, as seen from outside."""
        return Path(f"/proc/{self.leader}/root") / str(inside).lstrip("/")

    def run(self, *argv: str | Path, deadline_s: float = 60.0) -> Done:
        """Run a command as its root, in an environment of its own."""
        command = ["nsenter", "--target", str(self.leader), "--all", "--", "/usr/bin/env", "--ignore-environment"]
        clean = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"]
        words = [*command, "--chdir=/", *clean, *map(str, argv)]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=deadline_s)
        return Done(done.returncode, done.stdout, done.stderr)

    def must(self, *argv: str | Path, deadline_s: float = 60.0) -> str:
        """Run a command that succeeds; its output."""
        done = self.run(*argv, deadline_s=deadline_s)
        assert done.status == 0, f"{argv}: {done.status}\n{done.out}{done.err}"
        return done.out

    def show(self, name: str, unit: str = "sightwire.service") -> str:
        """What systemd knows of a unit."""
        return self.must("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def journal(self, unit: str = "sightwire.service") -> str:
        """What a unit said."""
        return self.must("journalctl", "--unit", unit, "--output=cat", "--no-pager")

    def wait_for(self, what: Callable[[], T], deadline_s: float = PATIENCE_S) -> T:
        """Until it is true, and then what it is. Raises TimeoutError with the journal's end."""
        deadline = time.monotonic() + deadline_s
        while not (found := what()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not seen in {deadline_s} s; the journal ends with:\n{self.journal()[-3000:]}")
            time.sleep(0.05)
        return found

    def reboot(self) -> None:
        """As `systemctl reboot`: the same files, all processes new."""
        before = self.leader
        self.must("systemctl", "reboot")
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                if self.leader != before:
                    break
            assert time.monotonic() < deadline, "it did not go down"
            time.sleep(0.05)
        self.wait_booted()

    def wait_booted(self, deadline_s: float = PATIENCE_S) -> None:
        """Until systemd says so, whether or not all of this machine's units like a container."""
        deadline = time.monotonic() + deadline_s
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                if self.run("systemctl", "is-system-running").out.strip() in ("running", "degraded"):
                    return
            time.sleep(0.05)
        self._log.seek(0)
        raise TimeoutError(f"did not boot: {self._log.read().decode(errors='replace')[-2000:]}")

    def close(self) -> None:
        """Power off; by force if need be. May be called twice."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                os.kill(self.leader, signal.SIGRTMIN + 4)
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()


def _site_of_system_python() -> str:
    """Where the system's Python looks for packages. It must be of the tests' own version, whose packages it gets."""
    ask = "import site, sys; print('%d.%d' % sys.version_info[:2]); print(site.getsitepackages()[0])"
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if not Path(_SYSTEM_PYTHON).is_file():
        missing(f"{_SYSTEM_PYTHON} {ours}")
    said = subprocess.run([_SYSTEM_PYTHON, "-I", "-c", ask], capture_output=True, text=True, check=True).stdout
    version, site = said.splitlines()
    if version != ours:
        missing(f"{_SYSTEM_PYTHON} {ours}")
    return site
