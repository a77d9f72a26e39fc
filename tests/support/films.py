"""Films of a bright block for the detector of `tests.support.blobs`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np

SIZE = (640, 360)
BLOCK = (80, 90)


def film(path: Path, places: Iterable[tuple[float, float] | None], rate: int = 10) -> Path:
    """A block whose centre is at those shares of the picture, a frame each; None: no block."""
    width, height = SIZE
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 4_000_000
        for place in places:
            picture = np.full((height, width, 3), 60, np.uint8)
            if place is not None:
                left, top = round(place[0] * width - BLOCK[0] / 2), round(place[1] * height - BLOCK[1] / 2)
                picture[max(0, top) : top + BLOCK[1], max(0, left) : max(0, left + BLOCK[0])] = 250
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return path
