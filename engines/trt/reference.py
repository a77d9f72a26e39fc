"""Does a plan compute what the model computes? Probe pictures, the CPU engine's outputs of them, and a verdict.

A deviation is stated as a share of how much an output changes from one picture to the next. It is taken over parts of
an output and over its columns, so that a head whose convolution was left out is not hidden behind the others, and over
each picture, so that one wrong row of a batch is not. What is let pass follows from the network itself: INT8 networks
amplify one rounding to several levels, so honest engines are as far apart as the CPU engine is from itself when pixels
change by one level. Measured: up to 1.05 times that between OpenVINO and ONNX Runtime, with float parts in float16 too;
exchanged channels, shuffled outputs, a convolution left out: from 1.9 times on (`scripts/prove references`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from engines.base import Engine, Raw
from engines.card import Card, Precision
from engines.errors import BackendError
from engines.pixels import Geometry, Image, Picture

_RESTLESS = 1.75
"""Times the distance that pixels changed by a level make is let pass ..."""
_LIMITS = (0.1, 0.9)
"""... within these bounds: float16 in a network that hardly reacts; and where the next picture's outputs begin."""
_LEAST = 8
_PARTS = 32
_COLOURS = np.array(
    [
        [230, 40, 30], [30, 200, 60], [40, 60, 220], [240, 210, 40], [200, 50, 200], [40, 200, 210], [245, 245, 245],
        [15, 15, 15], [120, 75, 40], [255, 140, 0], [90, 110, 60], [250, 190, 170],
    ],
    np.float32,
)  # fmt: skip
_GRAIN = 8
"""Levels of noise. Networks are restless on perfectly even areas, which no camera shows: a change of the pixels by one
level moves EfficientNet-Lite0's outputs by more than another picture does; with this grain, by a sixth of that."""
_RANKING = {"TopK", "NonMaxSuppression"}


@dataclass(frozen=True, eq=False)
class Reference:
    """What is expected of the probe pictures."""

    outputs: Raw
    """The CPU engine's, name -> (N, ...)."""
    limit: float
    """Distance (`distance`) that is let pass."""
    ranked: bool = False
    """The network ranks its rows itself, where a last bit decides: they are compared in their order by value."""


def probe_pictures(size: tuple[int, int], most: int) -> NDArray[np.uint8]:
    """The pictures that every plan is tried on, (N, 3, H, W) uint8 RGB: always the same for a size and a batch.

    `size`: width and height. N is a multiple of the largest batch, `most`, and 8 at least. Shapes, gradients and
    stripes in strong colours, so that exchanged channels show.
    """
    return np.stack([_picture(*size, seed) for seed in range(most * math.ceil(_LEAST / most))])


def _picture(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """(3, H, W) uint8 RGB."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / max(width, height)
    colours = rng.permutation(_COLOURS)
    across = np.cos(rng.uniform(0, 2 * np.pi)) * x + np.sin(rng.uniform(0, 2 * np.pi)) * y
    across = ((across - across.min()) / max(float(np.ptp(across)), 1e-6))[..., None]
    picture = colours[0] * (1 - across) + colours[1] * across
    for colour in colours[2:]:
        centre, radius = rng.uniform(0, 1, 2), rng.uniform(0.05, 0.3, 2)
        u, v = (x - centre[0]) / radius[0], (y - centre[1]) / radius[1]
        inside = (np.maximum(abs(u), abs(v)) if rng.random() < 0.5 else np.hypot(u, v)) < 1
        stripes = 1 + 0.3 * np.sin(rng.uniform(20, 200) * (u + v) * radius.min()) * (rng.random() < 0.5)
        picture[inside] = (colour * stripes[..., None])[inside]
    picture = picture + rng.normal(0, _GRAIN, picture.shape)
    return np.ascontiguousarray(np.clip(picture, 0, 255).astype(np.uint8).transpose(2, 0, 1))


def outputs(engine: Engine, pictures: NDArray[np.uint8], batch: int) -> Raw:
    """What an engine says of canonical pictures, in runs of `batch` and a rest: output name -> (N, ...)."""
    height, width = pictures.shape[2:]
    whole = Geometry((0, 0, width, height), (0, 0, width, height), (width, height), 0, 0)
    # In BGR, which cameras give and which the GPU prepares as well.
    shown = [np.ascontiguousarray(picture.transpose(1, 2, 0)[..., ::-1]) for picture in pictures]
    asked = [Picture(Image((plane,), "bgr", "601", "full", (width, height))) for plane in shown]
    parts = [engine(asked[i : i + batch], [whole] * len(asked[i : i + batch])) for i in range(0, len(asked), batch)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def expected(model: Path, card: Card, precision: Precision, pictures: NDArray[np.uint8]) -> Reference:
    """Ask the CPU engine about the pictures, one by one, in float32 where it is not INT8.

    Raises BackendError, ModelFileError; also where the model itself gives what is not a number.
    """
    from engines.backends.openvino import Config

    ranked = ranks(model)
    engine = Config(float_precision="f32", streams=1).build(card, model, precision)
    try:
        exact, moved = outputs(engine, pictures, 1), outputs(engine, unsettled(pictures), 1)
    finally:
        engine.close()
    if name := _not_numbers(exact):
        raise BackendError(f"{model}: its output {name} is not a number on the CPU either: the file is damaged")
    restless, _ = distance(exact, moved, ranked=ranked)
    low, high = _LIMITS
    return Reference(exact, min(max(_RESTLESS * restless, low), high), ranked)


def unsettled(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same pictures, every value changed by -1, 0 or 1."""
    change = np.random.default_rng(0).integers(-1, 2, pictures.shape, np.int8)
    return cast(NDArray[np.uint8], np.clip(pictures.astype(np.int16) + change, 0, 255).astype(np.uint8))


def ranks(model: Path) -> bool:
    """Whether the network ranks its rows itself."""
    from engines.graph import load
    from engines.opset import nodes_of

    return any(node.op_type in _RANKING for node in nodes_of(load(model).graph))


def distance(expected: Raw, found: Raw, *, ranked: bool = False) -> tuple[float, str]:
    """How far apart two engines' outputs are, the farthest of all parts and pictures, and of which output that is.

    Infinite where something is missing, of another shape, or not a number.
    """
    worst, where = 0.0, ""
    for name in sorted({*expected, *found}):
        if name not in expected or name not in found or expected[name].shape != found[name].shape:
            return math.inf, name
        far = _distance(expected[name].astype(np.float64), found[name].astype(np.float64), ranked)
        if far >= worst:
            worst, where = far, name
    return worst, where


def differs(reference: Reference, found: Raw) -> str | None:
    """Say what is wrong with `found`; None if two honest engines may differ like that."""
    expected = reference.outputs
    if strange := sorted(expected.keys() ^ found.keys()):
        return f"its outputs are not those of the model ({', '.join(strange)})"
    for name, array in found.items():
        if array.shape != expected[name].shape:
            return f"output {name} is {array.shape}, expected {expected[name].shape}"
    if name := _not_numbers(found):
        return f"output {name} is not a number"
    far, name = distance(expected, found, ranked=reference.ranked)
    if far <= reference.limit:
        return None
    return f"output {name} is {far:.2f} from what is expected, {reference.limit:.2f} is let pass"


def check(engine: Engine, pictures: NDArray[np.uint8], reference: Reference) -> tuple[float, str | None]:
    """Run the pictures one by one and in every size of batch; return the largest distance, and what is wrong.

    Each size may be another program on the device, and one that does not fill its batch another way into it. Rows of a
    batch must agree with the same pictures alone, too.
    """
    alone = outputs(engine, pictures, 1)
    worst, wrong = distance(reference.outputs, alone, ranked=reference.ranked)[0], differs(reference, alone)
    for size in _sizes(engine.max_batch):
        if wrong is not None:
            break
        found = outputs(engine, pictures, size)
        worst = max(worst, distance(reference.outputs, found, ranked=reference.ranked)[0])
        if wrong := differs(reference, found):
            wrong = f"{wrong}, in batches of {size}"
        elif wrong := differs(replace(reference, outputs=alone), found):
            wrong = f"{wrong}: in batches of {size}, from one by one"
    return worst, wrong


def _sizes(most: int) -> Iterable[int]:
    """2, 3, 4, 8, ... and the largest."""
    sizes = {1 << n for n in range(1, most.bit_length())} | {3, most}
    return sorted(size for size in sizes if 1 < size <= most)


def _not_numbers(raw: Raw) -> str:
    return next((name for name, array in raw.items() if not np.isfinite(array).all()), "")


def _distance(a: NDArray[np.float64], b: NDArray[np.float64], ranked: bool) -> float:
    """Largest ratio of RMS deviation to RMS change from picture to picture, over columns, parts and pictures."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.inf
    a, b = _columns(a), _columns(b)
    if ranked:
        a, b = np.sort(a, 1), np.sort(b, 1)
    # Boxes in pixels and scores lie beside each other: each column by its own change. What hardly changes is measured
    # by the other columns, and what never does (anchors, say) by its size.
    change = np.square(a - a.mean(0)).mean((0, 1))
    least = np.maximum(0.01 * np.median(change), np.maximum(1e-4 * np.square(a).mean((0, 1)), 1e-12))
    unit = np.sqrt(np.maximum(change, least))
    deviation, changes = np.square((a - b) / unit), np.square((a - a.mean(0)) / unit)
    alive = min(1.0, float(changes.mean()))  # 1, but for what never changes
    parts = np.array_split(np.arange(a.shape[1]), min(_PARTS, a.shape[1]))
    ratios = [
        *deviation.mean((0, 1)),
        *deviation.mean((1, 2)),
        *(deviation[:, part].mean() / max(changes[:, part].mean(), 0.01 * alive, 1 - alive) for part in parts),
    ]
    return math.sqrt(max(ratios))


def _columns(array: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, K, C): K along the longest axis, anchors of a detector say; C what each of them has."""
    if array.ndim < 3:
        return array.reshape(len(array), -1, 1)
    axis = 1 + int(np.argmax(array.shape[1:]))
    return np.moveaxis(array, axis, 1).reshape(len(array), array.shape[axis], -1)
