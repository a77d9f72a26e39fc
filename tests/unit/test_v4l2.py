"""Which /dev/videoN is meant: against a tree made up like sysfs and /dev of a machine with webcams."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import SourceError
from agent.sources._v4l2 import VideoDevice, cameras, describe, find


class Machine:
    """A /sys and a /dev under one folder, in which cameras are plugged in and out."""

    def __init__(self, folder: Path) -> None:
        self.root, self.dev = folder / "sys", folder / "dev"
        (self.root / "class" / "video4linux").mkdir(parents=True)
        (self.dev / "v4l" / "by-id").mkdir(parents=True)

    def plug(self, number: int, name: str, port: str = "1-4", serial: str = "", index: int = 0) -> None:
        """Make /dev/videoN. `serial` makes a link in by-id."""
        interface = self.root / "devices" / "pci0000:00" / "0000:00:14.0" / "usb1" / port / f"{port}:1.0"
        real = interface / "video4linux" / f"video{number}"
        real.mkdir(parents=True)
        (real / "name").write_text(f"{name}\n")
        (real / "index").write_text(f"{index}\n")
        (real / "device").symlink_to(interface)
        (self.root / "class" / "video4linux" / f"video{number}").symlink_to(real)
        (self.dev / f"video{number}").touch()
        if serial:
            link = self.dev / "v4l" / "by-id" / f"usb-{serial}-video-index{index}"
            link.unlink(missing_ok=True)
            link.symlink_to(f"../../video{number}")

    def unplug(self, number: int) -> None:
        """As udev and the kernel do it."""
        (self.root / "class" / "video4linux" / f"video{number}").unlink()
        node = self.dev / f"video{number}"
        for link in (self.dev / "v4l" / "by-id").iterdir():
            if link.resolve() == node:
                link.unlink()
        node.unlink()

    def cameras(self) -> list[VideoDevice]:
        return cameras(self.root, self.dev)

    def find(self, wanted: int | str, before: VideoDevice | None = None) -> str:
        return find(wanted, before, self.root, self.dev).name


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.plug(0, "HD Pro Webcam C920", "1-4", "046d_C920_ABCD")
    machine.plug(1, "HD Pro Webcam C920", "1-4", "046d_C920_ABCD", index=1)
    machine.plug(2, "Integrated Camera: IR", "1-7.2")
    machine.plug(10, "bcm2835", "3-1")
    return machine


def test_cameras_are_listed_with_all_that_tells_them_apart(machine: Machine) -> None:
    """In the order of their numbers, without the second node that gives only metadata."""
    webcam, infrared, ribbon = machine.cameras()
    by_id = machine.dev / "v4l/by-id/usb-046d_C920_ABCD-video-index0"
    assert webcam == VideoDevice(machine.dev / "video0", "HD Pro Webcam C920", "usb-1-4", by_id)
    assert (infrared.path.name, infrared.bus, infrared.by_id) == ("video2", "usb-1-7.2", None)
    assert ribbon.path.name == "video10"


def test_a_machine_without_cameras_has_none(tmp_path: Path) -> None:
    assert cameras(tmp_path / "sys", tmp_path / "dev") == []


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        (2, "video2"),
        ("HD Pro Webcam C920", "video0"),
        ("hd pro", "video0"),
        ("integrated", "video2"),
        ("usb-3-1", "video10"),
    ],
)
def test_a_camera_is_found_by_number_name_or_port(machine: Machine, wanted: int | str, path: str) -> None:
    assert machine.find(wanted) == path


def test_a_camera_is_found_by_its_path_and_through_a_link(machine: Machine) -> None:
    link = machine.dev / "v4l/by-id/usb-046d_C920_ABCD-video-index0"
    assert find(str(link), None, machine.root, machine.dev) == link
    assert describe(link, machine.cameras()) == machine.cameras()[0]


def test_a_camera_that_comes_back_under_another_number_is_found_again(machine: Machine) -> None:
    before = machine.cameras()[0]
    machine.unplug(0)
    machine.unplug(1)
    with pytest.raises(SourceError, match=r"video0 \(HD Pro Webcam C920, usb-1-4\): is gone; there are .*video2"):
        machine.find(0, before)
    machine.plug(5, "HD Pro Webcam C920", "1-5", "046d_C920_ABCD")
    assert machine.find(0, before) == "video5"


def test_another_camera_that_took_the_number_is_not_taken_for_it(machine: Machine) -> None:
    before = machine.cameras()[0]
    machine.unplug(0)
    machine.plug(0, "Cheap Cam", "2-1")
    with pytest.raises(SourceError, match="is gone"):
        machine.find(0, before)


def test_a_new_camera_in_the_same_port_takes_the_place_of_the_old_one(machine: Machine) -> None:
    before = machine.cameras()[0]
    machine.unplug(0)
    machine.unplug(1)
    machine.plug(6, "Other Webcam", "1-4", "1234_Other")
    assert machine.find(0, before) == "video6"


def test_twins_without_serial_numbers_are_told_apart_by_their_ports(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.plug(0, "Twin", "1-1", "1bcf_Twin")
    machine.plug(2, "Twin", "1-2", "1bcf_Twin")
    first = machine.cameras()[0]
    machine.unplug(0)
    machine.plug(4, "Twin", "1-1", "1bcf_Twin")
    assert machine.find(0, first) == "video4"
    with pytest.raises(
        SourceError, match=r"several cameras are called that: choose one by .*video2 .Twin, usb-1-2., .*1bcf_Twin"
    ):
        machine.find("twin")


def test_several_cameras_of_one_device_are_told_apart(tmp_path: Path) -> None:
    """As those of a board's image processor."""
    machine = Machine(tmp_path)
    machine.plug(0, "rkisp1_mainpath", "1-1")
    machine.plug(1, "rkisp1_selfpath", "1-1")
    assert machine.find(1, machine.cameras()[1]) == "video1"


def test_a_camera_that_is_not_there_is_an_error_that_says_what_is(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"video7: is not there; there are .*HD Pro"):
        machine.find(7)
    with pytest.raises(SourceError, match="BRIO: no such camera is plugged in; there are"):
        machine.find("BRIO")
    with pytest.raises(SourceError, match=r"no camera is plugged in \(v4l2-ctl --list-devices, sightwire doctor\)"):
        Machine(tmp_path / "empty").find(0)
