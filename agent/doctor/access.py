"""Device files that this user may not open, and the command that changes it."""

from __future__ import annotations

import getpass
import grp
import os
from pathlib import Path


def denied(device: Path) -> str | None:
    """The command that lets us read and write `device`; None if we may already."""
    if os.access(device, os.R_OK | os.W_OK):
        return None
    about = device.stat()
    try:
        group = grp.getgrgid(about.st_gid)
    except KeyError:  # a group of the host, seen in a container
        return f"--group-add {about.st_gid} when the container is started"
    if about.st_mode & 0o060 != 0o060 or group.gr_name == "root":
        return f"sudo chgrp video {device} && sudo chmod g+rw {device}"
    if _user() in group.gr_mem:
        return "log out and in again: the group is yours, but this session is older"
    return f"sudo usermod -aG {group.gr_name} $USER, then log out and in again"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, in a container
        return ""
