"""What is really in the pictures: classes or boxes, from a folder per class, a CSV or a COCO json.

`calibration.truth.read.read_truth` tells the three apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Classes:
    """The one right class of each picture."""

    of: Mapping[str, int]
    """Name of a sample -> index into the model's labels."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """The objects of one picture. float64, as COCO's evaluation computes: its limits are sharp."""

    xyxy: NDArray[np.float64]
    """(N, 4) left, top, right, bottom in source pixels."""
    label: NDArray[np.int32]
    """(N,) index into the model's labels."""
    crowd: NDArray[np.bool_]
    """(N,) COCO's `iscrowd`: finding it counts neither way."""
    area: NDArray[np.float64]
    """(N,) COCO's `area`, square pixels."""


@dataclass(frozen=True)
class Objects:
    """The objects of each picture."""

    of: Mapping[str, Boxes]
    """Name of a sample -> its objects; objects whose label the model does not know are left out."""


Truth = Classes | Objects
