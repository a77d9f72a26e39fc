"""Short clips whose frames carry their own number as the barcode of `agent.sources.synthetic`.

H.264 unless they say otherwise. Made with the ffmpeg program when first asked for, and removed at the end of the run.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent.sources.synthetic import BITS, CELL
from engines.pixels import Matrix, Range
from tests.support.needs import missing

_COLORSPACE = {"601": "smpte170m", "709": "bt709"}


@dataclass(frozen=True)
class Clip:
    """What a clip looks like; equal clips share a file."""

    size: tuple[int, int] = (640, 360)
    frames: int = 120
    fps: int = 30
    profile: str = "baseline"
    b_frames: int = 0
    gop: int = 30
    range: Range = "limited"
    matrix: Matrix = "601"
    codec: Literal["h264", "h265"] = "h264"

    def path(self) -> Path:
        """The clip as an MP4 file, made now if it is not there yet."""
        return _made(self)


SMALL = Clip()
"""The everyday camera of the tests."""
HD = Clip(size=(1280, 720), frames=150, matrix="709")
"""The camera that latency is stated for: 720p30, baseline, 4 Mbit/s."""
SHORT = Clip(frames=45)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="clips-")


@functools.cache
def _made(clip: Clip) -> Path:
    ffmpeg = shutil.which("ffmpeg") or missing("ffmpeg")
    path = Path(_folder().name) / f"{len(list(Path(_folder().name).iterdir()))}.mp4"
    (width, height), full = clip.size, clip.range == "full"
    space = _COLORSPACE[clip.matrix]
    filters = f"{_barcode()},scale=out_range={clip.range}:out_color_matrix={space}"
    filters += f",format={'yuvj420p' if full else 'yuv420p'}"
    bitrate = str(width * height * clip.fps // 7)
    command = [ffmpeg, "-nostdin", "-hide_banner", "-loglevel", "error", "-f", "lavfi"]
    command += ["-i", f"testsrc2=size={width}x{height}:rate={clip.fps}", "-frames:v", str(clip.frames), "-vf", filters]
    if clip.codec == "h264":
        command += ["-c:v", "libx264", "-preset", "superfast", "-profile:v", clip.profile, "-bf", str(clip.b_frames)]
        command += ["-g", str(clip.gop), "-keyint_min", str(clip.gop), "-sc_threshold", "0"]
    else:
        parameters = f"log-level=none:keyint={clip.gop}:min-keyint={clip.gop}:scenecut=0:bframes={clip.b_frames}"
        command += ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", parameters]
    command += ["-threads", "1", "-bitexact"]
    command += ["-b:v", bitrate, "-maxrate", bitrate, "-bufsize", bitrate]
    command += ["-color_range", "pc" if full else "tv", "-colorspace", space, str(path)]
    subprocess.run(command, check=True, timeout=120)
    return path


def _barcode() -> str:
    """FFmpeg's filters that draw what `read_barcode` reads: a white cell, a black one, the bits, lowest first."""
    boxes = [_box(0, 1, "white"), _box(1, 1 + BITS, "black")]
    boxes += [_box(2 + bit, 1, "white") + f":enable='mod(floor(n/{1 << bit}),2)'" for bit in range(BITS)]
    return ",".join(boxes)


def _box(cell: int, count: int, color: str) -> str:
    return f"drawbox=x={cell * CELL}:y=0:w={count * CELL}:h={CELL}:color={color}:t=fill"
