"""`scripts/prove webcam`: the source `opencv` on real /dev/videoN, of the kernel's own virtual cameras (vivid).

Few machines that build software have a camera, and no container can load a kernel module. So this boots Debian's
kernel in an emulated machine that sees this one's files, read-only, plugs two virtual cameras in and out there, and
says what the source made of it. It takes about a minute and, beside Python, `apt-get install qemu-system-x86
busybox-static kmod cpio`; the kernel is fetched with apt. Debian on x86 only. Times are an emulated processor's.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from agent.errors import SourceError
from agent.frame import Timestamp
from agent.sources import Intake, Pictures, opencv
from agent.sources._v4l2 import cameras
from engines.pixels import Image
from tests.support.needs import missing

_DRIVER = Path("/sys/bus/platform/drivers/vivid")
_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "vivid")
_PROGRAMS = ("qemu-system-x86_64", "busybox", "modprobe", "depmod", "cpio", "apt-get", "dpkg")
_CAMERAS = "n_devs=2 node_types=0x1,0x1 input_types=0,0 num_inputs=1,1 multiplanar=1,1 vid_cap_nr=0,2"
_INIT = """#!/bin/sh
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
while read name options; do insmod /modules/$name $options; done < /modules/order
mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,cache=loose,ro host /host
mount -t proc proc /host/proc; mount -t sysfs sys /host/sys; mount -t devtmpfs dev /host/dev
mount -t tmpfs tmpfs /host/run
export PYTHONPATH={folder} PYTHONDONTWRITEBYTECODE=1
chroot /host /usr/bin/env -C {folder} {python} -m tests.prove.webcam inside
poweroff -f
"""


def main() -> None:
    """Boot, and show what comes over the serial line."""
    for program in _PROGRAMS:
        shutil.which(program) or missing(program)
    with tempfile.TemporaryDirectory(prefix="webcam-") as name:
        folder = Path(name)
        kernel, disk = _kernel(folder), folder / "initrd"
        _pack(folder, disk)
        command = ["qemu-system-x86_64", "-M", "q35", "-cpu", "max", "-accel", "tcg,thread=multi", "-smp", "2"]
        command += [
            "-m",
            "2048",
            "-nographic",
            "-no-reboot",
            "-nic",
            "none",
            "-kernel",
            str(kernel),
            "-initrd",
            str(disk),
        ]
        command += ["-append", "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off"]
        command += ["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"]
        run = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False
        )
    lines = [line for line in run.stdout.splitlines() if line.startswith(("ok ", "FAILED ", "Traceback"))]
    print("\n".join(lines) or run.stdout[-2000:])
    if not lines or lines[-1] != "ok all" or any(line.startswith("FAILED") for line in lines):
        sys.exit(1)


def _kernel(folder: Path) -> Path:
    """Debian's kernel and its modules, unpacked in `folder`."""
    depends = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True, check=True)
    package = next(line.split()[-1] for line in depends.stdout.splitlines() if "Depends: linux-image-" in line)
    subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True, capture_output=True)
    subprocess.run(["dpkg", "-x", next(folder.glob("*.deb")), folder], check=True)
    return next((folder / "boot").glob("vmlinuz-*"))


def _pack(folder: Path, disk: Path) -> None:
    """The first file system: busybox, the modules in their order, and an init that comes back here."""
    release = next((folder / "lib" / "modules").iterdir()).name
    subprocess.run(["depmod", "-b", folder, release], check=True)
    root = folder / "root"
    for name in ("bin", "modules", "proc", "sys", "dev", "host"):
        (root / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", root / "bin")
    for name in ("sh", "mount", "insmod", "poweroff", "chroot"):
        (root / "bin" / name).symlink_to("busybox")
    order: list[str] = []
    for module in _MODULES:
        query = ["modprobe", "-d", str(folder), "-S", release, "--show-depends", module]
        shown = subprocess.run(query, capture_output=True, text=True, check=True)
        for line in shown.stdout.splitlines():
            if line.startswith("insmod") and (path := Path(line.split()[1])).name not in order:
                shutil.copy(path, root / "modules")
                order.append(path.name)
    lines = [f"{name} {_CAMERAS}" if name == "vivid.ko" else name for name in order]
    (root / "modules" / "order").write_text("\n".join(lines) + "\n")
    init = root / "init"
    init.write_text(_INIT.format(folder=Path.cwd(), python=sys.executable))
    init.chmod(0o755)
    names = "\n".join(str(path.relative_to(root)) for path in root.rglob("*"))
    with disk.open("wb") as file:
        pack = ["cpio", "--quiet", "-o", "-H", "newc"]
        subprocess.run(pack, cwd=root, input=names.encode(), stdout=file, check=True)


def opened(device: int | str, intake: Intake | None = None, **keys: Any) -> AbstractContextManager[Pictures]:
    """The camera, ready to be read."""
    return opencv.Config(device=device, **keys).open(threading.Event(), intake or Intake())


def take(device: int | str, count: int, **keys: Any) -> tuple[Intake, list[tuple[Timestamp, Image]]]:
    """What is known of it, and so many pictures."""
    intake = Intake()
    with opened(device, intake, **keys) as pictures:
        return intake, list(itertools.islice(pictures, count))


def failure(pictures: Pictures, says: str) -> str:
    """The error that ends the pictures, which says this."""
    with pytest.raises(SourceError, match=says) as caught:
        deque(pictures, maxlen=0)
    return str(caught.value)


def refused(says: str, config: opencv.Config) -> str:
    """The error with which it cannot be opened, which says this."""
    with pytest.raises(SourceError, match=says) as caught, config.open(threading.Event(), Intake()) as pictures:
        next(pictures)
    return str(caught.value)


class Checks:
    """In the emulated machine."""

    def cameras_are_listed(self) -> str:
        """By sysfs, and by what the driver says that it can."""
        found = cameras()
        assert [device.path.name for device in found] == ["video0", "video2"], found
        return ", ".join(map(str, found))

    def formats_are_given_as_asked(self) -> str:
        """Planes as they are where the engines read them, BGR otherwise; and stamped by the driver."""
        said = []
        formats = {"YUYV": "bgr", "NV12": "nv12", "YU12": "i420", "GREY": "gray", "RGB3": "bgr"}
        for asked, image_format in formats.items():
            intake, pictures = take("vivid-001", 3, pixel_format=asked, width=640, height=360)
            assert intake.facts["codec"] == asked.lower(), intake
            assert "not_given" not in intake.facts, intake
            kinds = {(image.format, image.size, captured.clock) for captured, image in pictures}
            assert kinds == {(image_format, (640, 360), "device")}, kinds
            said.append(f"{asked} as {image_format}")
        return ", ".join(said)

    def what_is_not_given_is_said(self) -> str:
        """The driver takes the nearest."""
        intake, _ = take("/dev/video0", 1, pixel_format="MJPG", width=1920, height=1080, rate=120)
        assert intake.facts["not_given"].startswith("pixel format MJPG"), intake
        return str(intake.facts)

    def a_slow_reader_gets_the_newest(self) -> str:
        """Not what has waited in the driver's buffers."""
        ages_ms = []
        with opened(0, pixel_format="NV12", width=640, height=360) as pictures:
            for captured, _ in itertools.islice(pictures, 6):
                ages_ms.append((captured.age_ns() or 0) // 1_000_000)
                time.sleep(0.4)
        assert max(ages_ms) < 200, ages_ms
        return f"ages {ages_ms} ms, read every 400 ms"

    def a_camera_in_use_is_said(self) -> str:
        """With what finds the other program."""
        with opened(0) as pictures:
            next(pictures)
            return refused("another program has it", opencv.Config(device=0))

    def an_unplugged_camera_is_found_again(self) -> str:
        """Noticed at once; while it is away nothing else is taken for it; then read again."""
        config = opencv.Config(device=0)
        stop = threading.Event()
        with config.open(stop, Intake()) as pictures:
            next(pictures)
            threading.Timer(0.3, (_DRIVER / "unbind").write_text, ("vivid.0",)).start()
            asked = time.monotonic()
            said = failure(pictures, "was unplugged")
            took_s = time.monotonic() - asked - 0.3
        assert took_s < 2, took_s
        refused("is gone", config)
        (_DRIVER / "bind").write_text("vivid.0")
        deadline = time.monotonic() + 10
        while not cameras() and time.monotonic() < deadline:
            time.sleep(0.05)
        with config.open(stop, Intake()) as pictures:
            next(pictures)
        return f"{said}; noticed after {took_s:.2f} s, and back"

    def nothing_stays_open(self) -> str:
        """After all of this."""
        count = len(list(Path("/proc/self/fd").iterdir()))
        assert count < 10, count
        return f"{count} descriptors, {threading.active_count()} threads"


def inside() -> None:
    """Every check, a line each."""
    checks, failed = Checks(), 0
    print(flush=True)  # after what the firmware has written
    for name in (name for name in vars(Checks) if not name.startswith("_")):
        words = name.replace("_", " ")
        try:
            print(f"ok {words}: {getattr(checks, name)()}", flush=True)
        except (AssertionError, SourceError, pytest.fail.Exception) as error:
            failed += 1
            print(f"FAILED {words}: {error}", flush=True)
    print("ok all" if not failed else f"FAILED {failed}", flush=True)


if __name__ == "__main__":
    inside() if sys.argv[1:] == ["inside"] else main()
