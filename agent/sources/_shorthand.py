"""What may stand in place of a source's mapping: a URL, a path, a device, a pipeline."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

NETWORK_SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https")
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
NUMBERED = re.compile(r"%0?(\d*)d")
"""Where the name of a file has the number of a picture: `shot_%04d.png`."""


def from_text(text: str) -> dict[str, object]:
    """The mapping that a text stands for. Raises ValueError for a URL of a kind that no source reads."""
    if " ! " in text:  # first, because a pipeline may name a URL
        return {"type": "gstreamer", "pipeline": text}
    if match := _URL.match(text):
        scheme = match[1].lower()
        if scheme == "file":
            return from_text(text[match.end() :])
        if scheme not in NETWORK_SCHEMES:
            raise ValueError(
                f"unknown kind of URL, {match[0]}: expected one of {', '.join(NETWORK_SCHEMES)}; "
                "what else OpenCV can read is written {type: opencv, url: ...}"
            )
        return {"type": "rtsp", "url": text}
    if text.startswith(("/dev/video", "/dev/v4l/")):
        return {"type": "opencv", "device": text}
    if NUMBERED.search(Path(text).name):
        return {"type": "opencv", "path": text}
    if text.endswith("/") or os.path.isdir(text):  # noqa: PTH112 - Path.is_dir raises for a text that can be no path
        return {"type": "images", "path": text}
    return {"type": "file", "path": text}


def glob_of(name: str) -> str:
    """The pattern of the files that a name with a number means: `shot_%02d.png` -> `shot_[0-9][0-9].png`."""
    match = NUMBERED.search(name)
    if match is None:
        return glob.escape(name)
    digits = "[0-9]" * int(match[1]) if match[1] else "[0-9]*"
    return glob.escape(name[: match.start()]) + digits + glob.escape(name[match.end() :])
