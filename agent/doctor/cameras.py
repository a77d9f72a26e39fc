"""Cameras that are plugged in, what GStreamer could decode, and (if asked) ONVIF cameras on the network."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from agent.doctor.access import denied
from agent.doctor.findings import Finding, note, ok, problem

TOPIC = "cameras"
ELEMENTS = {
    "nvarguscamerasrc": "Jetson CSI cameras",
    "nvv4l2decoder": "Jetson decoder",
    "nvh264dec": "NVDEC",
    "vah264dec": "VA-API",
    "v4l2h264dec": "V4L2 decoder",
}
"""GStreamer's elements for hardware, and what they are for."""
_EACH_S = 3.5


def plugged_in(root: Path = Path("/sys"), dev: Path = Path("/dev")) -> Iterator[Finding]:
    """V4L2 devices by name, and those that may not be opened."""
    from agent.sources._v4l2 import cameras

    found = cameras(root, dev)
    if not found:
        yield note(TOPIC, "no camera is plugged in (V4L2)")
    for camera in found:
        lasting = f", lasting name {camera.by_id}" if camera.by_id else ""
        yield ok(TOPIC, f"{camera}{lasting}")
        if camera.path.exists() and (command := denied(camera.path)):
            yield problem(TOPIC, f"{camera.path} may not be opened by this user", command)


def gstreamer() -> Iterator[Finding]:
    """Version, whether Python can use it, and elements for hardware."""
    program = shutil.which("gst-inspect-1.0")
    if program is None:
        yield note(TOPIC, "GStreamer's tools are not installed; only sources of type gstreamer would need it")
        return
    try:
        version = _said(program, "--version").partition("\n")[0].rpartition(" ")[2]
        elements = {name for line in _said(program).splitlines() for name in re.findall(r"^\S+:\s+(\S+):", line)}
    except subprocess.TimeoutExpired:
        yield note(TOPIC, "GStreamer is here, but does not say what it has", "gst-inspect-1.0")
        return
    have = [f"{name} ({what})" for name, what in ELEMENTS.items() if name in elements]
    hardware = f"for hardware: {', '.join(have)}" if have else "no element for hardware"
    python = "" if importlib.util.find_spec("gi") else "; PyGObject (gi) is not in this Python"
    yield ok(TOPIC, f"GStreamer {version}, {hardware}{python}")


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_EACH_S, check=False)
    return done.stdout


def onvif() -> Iterator[Finding]:
    """Search the networks that this machine is in; sends multicast."""
    from agent.doctor.onvif import search

    found = search()
    for device in found:
        yield ok(TOPIC, f"ONVIF: {device}")
    if not found:
        yield note(TOPIC, "no ONVIF camera answered in this machine's networks")
