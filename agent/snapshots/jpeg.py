"""From a frame to a JPEG: made smaller first, then converted, drawn on and encoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.drawing import draw
from engines.card import Input
from engines.errors import PictureError
from engines.pixels import Geometry, Image, Picture, TensorWriter, fit
from engines.results import Detections, Result

MOST_BYTES = 128_000
"""Of what is published: payloads stay under it."""
_WORSE = 0.7
"""Of quality, from try to try, where a picture is too large."""
_WORST = 25
"""No lower quality: then a smaller picture looks better."""
_NARROWEST = 32


class Encoder:
    """Makes JPEGs; keeps its scratch memory, so belongs to one thread."""

    def __init__(self) -> None:
        self._writer = TensorWriter()

    def encode(
        self,
        image: Image,
        *,
        max_width: int,
        quality: int,
        result: Result | None = None,
        labels: Sequence[str] = (),
        most_bytes: int | None = None,
    ) -> bytes:
        """Encode the picture, at most `max_width` wide and `most_bytes` large, with what is in `result` drawn on it.

        Raises PictureError for a picture without pixels, or that cannot be made so small.
        """
        while True:
            geometry = _smaller(image.size, max_width)
            pixels = self._bgr(image, geometry)
            if result is not None and len(result):
                pixels = draw(pixels, _moved(result, geometry), labels)
            data = _encoded(pixels, quality)
            while most_bytes is not None and len(data) > most_bytes and quality > _WORST:
                quality = max(_WORST, round(quality * _WORSE))
                data = _encoded(pixels, quality)
            if most_bytes is None or len(data) <= most_bytes:
                return data
            max_width = geometry.tensor[0] * 2 // 3
            if max_width < _NARROWEST:
                raise PictureError(f"a picture of at most {most_bytes} bytes shows nothing")

    def _bgr(self, image: Image, geometry: Geometry) -> NDArray[np.uint8]:
        """(H, W, 3) BGR by the one way that pictures go (law 1)."""
        width, height = geometry.tensor
        rgb = np.empty((3, height, width), np.uint8)
        self._writer.write(Picture(image), geometry, rgb)
        return cast("NDArray[np.uint8]", cv2.merge([rgb[2], rgb[1], rgb[0]]))


def _smaller(size: tuple[int, int], max_width: int) -> Geometry:
    width = min(max_width, size[0])
    height = max(1, round(size[1] * width / size[0]))
    return fit(size, None, Input(width=width, height=height, fit="stretch", resize="area"))


def _moved(result: Result, geometry: Geometry) -> Result:
    if isinstance(result, Detections):
        return replace(result, xyxy=geometry.to_tensor(result.xyxy))
    return result


def _encoded(pixels: NDArray[np.uint8], quality: int) -> bytes:
    done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise PictureError("a picture of {1}x{0} cannot be a JPEG".format(*pixels.shape))
    return data.tobytes()
