"""What is plugged in, by the kernel's own list: it needs no driver."""

from __future__ import annotations

from pathlib import Path

from agent.doctor.files import read

NVIDIA, INTEL = "0x10de", "0x8086"


def display_vendors(root: Path) -> set[str]:
    """PCI vendors of the display controllers. `root`: where /sys is."""
    found = set()
    for device in (root / "sys/bus/pci/devices").glob("*"):
        if read(device / "class").startswith("0x03"):
            found.add(read(device / "vendor").strip())
    return found
