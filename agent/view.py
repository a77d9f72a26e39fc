"""What a camera entry sees of its source's picture: a part of it, with what nobody may look at painted black."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engines.pixels import Box, Image, black

Region = tuple[float, float, float, float]
"""left, top, right, bottom, 0 to 1."""


class View:
    """A crop and masks. Masks are shares of the cropped picture, the one that results are about."""

    def __init__(self, crop: Region | None = None, masks: Sequence[Sequence[tuple[float, float]]] = ()) -> None:
        self._crop = crop
        self._masks = [np.array(polygon, np.float64) for polygon in masks]

    def of(self, image: Image) -> Image:
        """The picture as this camera sees it; a copy only where something is masked."""
        if self._crop is not None:
            image = image.cropped(pixels(self._crop, image.size))
        if self._masks:
            size = np.array(image.size)
            image = black(image, [np.rint(polygon * size).astype(np.int32) for polygon in self._masks])
        return image


def pixels(region: Region, size: tuple[int, int]) -> Box:
    """A region in shares of a picture of `size` (width, height), in its pixels: at least one of them."""
    width, height = size
    left, top = min(round(region[0] * width), width - 1), min(round(region[1] * height), height - 1)
    return left, top, max(left + 1, round(region[2] * width)), max(top + 1, round(region[3] * height))
