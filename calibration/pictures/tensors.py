"""From a sample to what an engine is given: by the code of the run time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.errors import DatasetError
from calibration.pictures.sample import Sample
from engines.card import Input
from engines.errors import PictureError
from engines.pixels import Box, Geometry, Picture, TensorWriter, fit


def tensor(sample: Sample, into: Input, region: Box | None = None) -> tuple[NDArray[np.uint8], Geometry]:
    """The (1, 3, H, W) uint8 RGB tensor of a picture or a region of it, and its geometry. Raises DatasetError."""
    image = sample.read()
    out = np.empty((1, 3, into.height, into.width), np.uint8)
    try:
        geometry = fit(image.size, region, into)
        TensorWriter().write(Picture(image), geometry, out[0])
    except PictureError as error:
        raise DatasetError(f"{sample.name}: {error}") from None
    return out, geometry
