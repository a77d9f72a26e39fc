"""The cameras that Linux has: what sysfs and udev say of each /dev/videoN, and which of them is meant."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from agent.errors import SourceError

_QUERYCAP = 0x80685600
"""_IOR('V', 0, struct v4l2_capability), see linux/videodev2.h."""
_CAPABILITY = struct.Struct("16s32s32sIII12x")
_CAPTURE = 0x1 | 0x1000
"""V4L2_CAP_VIDEO_CAPTURE, V4L2_CAP_VIDEO_CAPTURE_MPLANE."""
_USB_PORT = re.compile(r"\d+-\d+(?:\.\d+)*")


@dataclass(frozen=True)
class VideoDevice:
    """A camera that is plugged in now."""

    path: Path
    """/dev/videoN; N changes when it is plugged in again."""
    name: str
    """What the driver calls it: `HD Pro Webcam C920`."""
    bus: str
    """Where it is plugged in: `usb-1-4.2`, else the name of its device: `0000:03:00.0`, `rkisp1`."""
    by_id: Path | None
    """udev's lasting name, with the serial number: /dev/v4l/by-id/usb-046d_..._ABCD-video-index0."""

    def __str__(self) -> str:
        return f"{self.path} ({self.name}, {self.bus})"


def cameras(root: Path = Path("/sys"), dev: Path = Path("/dev")) -> list[VideoDevice]:
    """Everything that captures video, in the order of its numbers. `root`, `dev`: where sysfs and /dev are mounted.

    One camera often has several /dev/videoN, of which some give metadata only: these are left out.
    """
    lasting = {link.resolve(): link for link in sorted((dev / "v4l" / "by-id").glob("*"))}
    entries = (root / "class" / "video4linux").glob("video*")
    found = (_device(entry, dev, lasting) for entry in sorted(entries, key=_number))
    return [device for device in found if device is not None]


def find(wanted: int | str, before: VideoDevice | None, root: Path = Path("/sys"), dev: Path = Path("/dev")) -> Path:
    """The path of the camera that is meant by a number, a path, a part of its name, or the port it is plugged into.

    `before`: the camera that a number meant last time. By its serial number or its port it is found again under
    another number, and another camera that has taken its number is not taken for it. Raises SourceError.
    """
    known = cameras(root, dev)
    if isinstance(wanted, int):
        wanted = str(dev / f"video{wanted}")
    path = Path(wanted)
    if before is not None and path.parent == dev:
        if (same := _same(before, known)) is None:
            raise SourceError(f"{before}: is gone; {_instead(known)}")
        return same.path
    if path.is_absolute():
        if not path.exists():
            raise SourceError(f"{path}: is not there; {_instead(known)}")
        return path
    meant = [device for device in known if wanted in (device.name, device.bus)]
    meant = meant or [device for device in known if wanted.lower() in device.name.lower()]
    if not meant:
        raise SourceError(f"{wanted}: no such camera is plugged in; {_instead(known)}")
    if len(meant) > 1:
        ways = ", ".join(str(device.by_id or device) for device in meant)
        raise SourceError(f"{wanted}: several cameras are called that: choose one by {ways}")
    return meant[0].path


def describe(path: Path, known: list[VideoDevice]) -> VideoDevice | None:
    """The camera behind a path, through links; None if it is no camera that sysfs knows."""
    real = path.resolve()
    return next((device for device in known if device.path.resolve() == real), None)


def _same(before: VideoDevice, known: list[VideoDevice]) -> VideoDevice | None:
    """The best guess: the same serial number in the same port, else the same serial number, else the same port.

    Cameras without a serial number share their udev name, so the port counts as well; the several cameras of one
    device share the port, so name and number count, too.
    """

    def likeness(device: VideoDevice) -> int:
        alike = (
            before.by_id is not None and device.by_id == before.by_id,
            device.bus == before.bus,
            device.name == before.name,
            device.path == before.path,
        )
        return sum(weight * same for weight, same in zip((8, 4, 2, 1), alike, strict=True))

    best = max(known, key=likeness, default=None)
    return best if best is not None and likeness(best) >= 4 else None


def _instead(known: list[VideoDevice]) -> str:
    if known:
        return f"there are {', '.join(map(str, known))}"
    return "no camera is plugged in (v4l2-ctl --list-devices, sightwire doctor)"


def _device(entry: Path, dev: Path, lasting: dict[Path, Path]) -> VideoDevice | None:
    path = dev / entry.name
    captures = _captures(path)
    if captures is None:
        captures = _read(entry / "index") in ("0", "")
    if not captures:
        return None
    return VideoDevice(path, _read(entry / "name") or entry.name, _bus(entry), lasting.get(path.resolve()))


def _captures(path: Path) -> bool | None:
    """What the driver itself says; None where it cannot be asked."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return False if error.errno == errno.ENODEV else None
    try:
        answer = fcntl.ioctl(handle, _QUERYCAP, bytes(_CAPABILITY.size))
    except OSError:
        return None
    finally:
        os.close(handle)
    *_, capabilities = _CAPABILITY.unpack(answer)
    return bool(capabilities & _CAPTURE)


def _bus(entry: Path) -> str:
    device = (entry / "device").resolve()
    for part in reversed(device.parts):
        # 1-4.2:1.0 is an interface of the device in port 1-4.2
        if _USB_PORT.fullmatch(part):
            return f"usb-{part}"
    return device.name


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(entry: Path) -> tuple[int, str]:
    digits = entry.name.removeprefix("video")
    return (int(digits) if digits.isdecimal() else 1 << 30), entry.name
