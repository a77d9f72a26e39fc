"""Settles everything that must be known of an export: the user's word, its metadata, its graph, its family."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx
from pydantic import BaseModel, ValidationError

from engines.card import Input
from engines.errors import ModelFileError
from engines.graph import Normalisation, shape_of
from engines.importing.ends import ends
from engines.importing.export import Export, shape_text
from engines.importing.facts import Facts, Given, check_scale, labels_from, numbers_from
from engines.importing.families import Family, family, read
from engines.importing.plain import plain
from engines.importing.readings import Reading, Seen
from engines.numerics import output_shapes, runner

Value = TypeVar("Value", bound=BaseModel)
_CHANNEL = {"nchw": 1, "nhwc": 3}
"""Axis of the channels."""


@dataclass(frozen=True, eq=False)
class Settled:
    """All that an import needs to know."""

    family: str
    layout: str
    batch: int
    """That the file is fixed at; -1: free."""
    into: Input
    normalisation: Normalisation
    labels: tuple[str, ...]
    task: dict[str, Any]
    """The card's."""
    network: onnx.ModelProto
    """Plain, for as many pictures as the file takes, one where that is free."""
    outputs: frozenset[str]
    """That the task reads."""

    def shape(self, batch: int) -> tuple[int, ...]:
        """Shape of the network's own input."""
        return _shape(self.layout, batch, (self.into.width, self.into.height))


def settle(export: Export, given: Given, facts: Facts) -> Settled:
    """Gather the facts, each noted in `facts`.

    Raises ModelFileError naming all that nobody says, with the flags that say it.
    """
    where = str(export.path)
    name, kind = _family(export, given, facts)
    layout, batch = _layout(export, given, facts), shape_of(export.input)[0]
    size = _size(export, given, facts, layout)
    network = plain(export.model, _shape(layout, max(batch, 1), size), where)
    norm = _normalisation(given, facts, kind, where) | {"layout": layout}
    into = _input(given, facts, kind) | {"width": size[0], "height": size[1]}
    seen = Seen(_shapes(network, where), ends(network), size, _known_labels(export, given))
    reading = read(kind, seen, where)
    labels = _labels(export, given, facts, reading)
    task = _task(given, facts, kind, reading)
    facts.complete()
    _check_labels(labels, reading, given, name, where)
    return Settled(
        family=name,
        layout=layout,
        batch=batch,
        into=_checked(Input, into, where),
        normalisation=_checked(Normalisation, norm, where),
        labels=labels,
        task=task,
        network=network,
        outputs=_named(task, set(seen.shapes)),
    )


def _family(export: Export, given: Given, facts: Facts) -> tuple[str, Family]:
    said = export.said
    task = said.get("task", "detect")
    if task not in ("detect", "classify"):
        raise ModelFileError(
            f"{export.path}: its metadata says that its task is {task!r}; detectors and classifiers can be imported "
            "so far"
        )
    # `ultralytics` stands for all that it exports, and its metadata says which that is.
    flag = said.get("family", given.family) if given.family == "ultralytics" else given.family
    name = facts.settle("family", "--family NAME (--families lists them)", flag=flag, metadata=said.get("family"))
    facts.complete()
    return str(name), family(str(name), str(export.path))


def _layout(export: Export, given: Given, facts: Facts) -> str:
    """`nchw` or `nhwc`: where the input has its 3 channels."""
    value = export.input
    shape = shape_of(value)
    what = f"{export.path}: its input {value.name} is {shape_text(shape)}"
    if len(shape) != 4:
        raise ModelFileError(f"{what}, not pictures: (N, 3, H, W) or (N, H, W, 3)")
    if not any(shape[axis] in (3, -1) for axis in _CHANNEL.values()):
        raise ModelFileError(f"{what}; pictures of 3 channels are wanted")
    certain = [name for name, axis in _CHANNEL.items() if shape[axis] == 3]
    layout = facts.settle(
        "layout", "--layout nchw or nhwc", flag=given.layout, graph=certain[0] if len(certain) == 1 else None
    )
    facts.complete()
    if shape[_CHANNEL[str(layout)]] not in (3, -1):
        raise ModelFileError(f"{what}, and --layout says {layout}")
    return str(layout)


def _size(export: Export, given: Given, facts: Facts, layout: str) -> tuple[int, int]:
    """(width, height) of the input."""
    shape = shape_of(export.input)
    height, width = shape[2:] if layout == "nchw" else shape[1:3]

    def fits(size: tuple[int, int]) -> bool:
        return all(side in (-1, wanted) for side, wanted in zip((width, height), size, strict=True))

    if given.size and not fits(given.size):
        asked = "x".join(map(str, given.size))
        raise ModelFileError(f"{export.path}: --size {asked}: its input is {shape_text(shape)}, which is fixed")
    fixed = (width, height) if width > 0 and height > 0 else None
    said = export.said.get("size")
    said = said if fixed is None and said is not None and fits(said) else None
    size = facts.settle("size", "--size WIDTHxHEIGHT", flag=given.size, metadata=said, graph=fixed)
    facts.complete()
    return size or (0, 0)


def _shape(layout: str, batch: int, size: tuple[int, int]) -> tuple[int, ...]:
    width, height = size
    return (batch, 3, height, width) if layout == "nchw" else (batch, height, width, 3)


def _shapes(network: onnx.ModelProto, where: str) -> dict[str, tuple[int, ...]]:
    """Output -> shape for one picture; found by running the network where it does not follow from the graph."""
    shapes = output_shapes(network, where)
    (batch, *sides) = shape_of(network.graph.input[0])
    if any(side < 0 for shape in shapes.values() for side in shape):
        run = runner(network, where)(np.zeros((batch, *sides), np.float32))
        shapes = {name: array.shape for name, array in run.items()}
    return {name: (1, *shape[1:]) if shape[:1] == (batch,) else shape for name, shape in shapes.items()}


def _normalisation(given: Given, facts: Facts, kind: Family, where: str) -> dict[str, Any]:
    channels = facts.settle("channels", "--channels rgb or bgr", flag=given.channels, family=kind.channels)
    step = -1 if channels == "bgr" else 1  # presets are in the order of RGB
    mean = numbers_from("mean", given.mean, where, lambda preset: preset[0][::step]) if given.mean else None
    std = numbers_from("std", given.std, where, lambda preset: preset[1][::step]) if given.std else None
    if std is None and given.mean and re.match("[a-z]", given.mean):  # a preset names both
        std = numbers_from("mean", given.mean, where, lambda preset: preset[1][::step])
    turn = -1 if None not in (channels, kind.channels) and channels != kind.channels else 1  # a family's: in its own
    usual = tuple(values[::turn] for values in kind.norm) if kind.norm else (None, None)
    mean = facts.settle(
        "mean", "--mean, one number or three in the order of --channels, on the scale 0 to 255 (or imagenet, unit, "
        "signed, raw)", flag=mean, family=usual[0],
    )  # fmt: skip
    std = facts.settle("std", "--std, in the same way", flag=std, family=usual[1])
    if mean is not None and std is not None:
        check_scale(mean, std, where)
    return {"channels": channels, "mean": mean, "std": std}


def _input(given: Given, facts: Facts, kind: Family) -> dict[str, Any]:
    fit = facts.settle("fit", "--fit stretch, letterbox or crop", flag=given.fit, family=kind.fit)
    into: dict[str, Any] = {"fit": fit}
    if fit == "letterbox":
        into["fill"] = facts.settle("fill", "--fill", flag=given.fill, family=kind.fill)
        into["align"] = facts.settle("align", "--align", flag=given.align, family=kind.align)
    elif fit == "crop":
        into["crop"] = facts.settle("crop", "--crop SHARE (0.875: ImageNet's)", flag=given.crop, family=kind.crop)
    into["resize"] = facts.settle("resize", "--resize", flag=given.resize, family=kind.resize)
    return into


def _known_labels(export: Export, given: Given) -> int | None:
    """How many labels there are, where the graph need not be asked."""
    if given.labels == "numbers":
        return None
    labels = labels_from(given.labels, None, str(export.path)) if given.labels else export.said.get("names")
    return len(labels) if labels else None


def _labels(export: Export, given: Given, facts: Facts, reading: Reading) -> tuple[str, ...]:
    return (
        facts.settle(
            "labels", "--labels FILE, or names with commas, or coco, imagenet, numbers",
            flag=labels_from(given.labels, reading.classes, str(export.path)) if given.labels else None,
            metadata=export.said.get("names"),
        ) or ()
    )  # fmt: skip


def _task(given: Given, facts: Facts, kind: Family, reading: Reading) -> dict[str, Any]:
    task = {**reading.task, **given.task}
    for field in ("type", *kind.open_task):
        if field not in task:
            facts.settle(f"task {field}", f"--task {field}=VALUE")
    for field, value in task.items():
        facts.note(f"task {field}", value, "flag" if field in given.task else "graph")
    return task


def _check_labels(labels: tuple[str, ...], reading: Reading, given: Given, name: str, where: str) -> None:
    classes = reading.classes
    if classes is not None and given.task.get("background") and "background" not in reading.task:
        classes -= 1
    if classes in (None, len(labels)):
        return
    one_more = reading.task.get("type") == "detr" and classes == len(labels) + 1
    hint = "; where a column means 'nothing', say --task background=first or last" if one_more else ""
    raise ModelFileError(
        f"{where}: as {name} its outputs have {classes} classes, and there are {len(labels)} "
        f"label{'s' * (len(labels) != 1)}{hint}"
    )


def _checked(kind: type[Value], content: dict[str, Any], where: str) -> Value:
    """Build a pydantic value; its complaints become one line with the flags' names."""
    try:
        return kind(**content)
    except ValidationError as error:
        mistakes = "; ".join(f"--{'.'.join(map(str, e['loc'])) or kind.__name__}: {e['msg']}" for e in error.errors())
        raise ModelFileError(f"{where}: {mistakes}") from None


def _named(task: dict[str, Any], outputs: set[str]) -> frozenset[str]:
    """Outputs that a task's config names; all of them where it names none, which the card's check then says."""
    values = [part for value in task.values() for part in (value if isinstance(value, list | tuple) else [value])]
    return frozenset(part for part in values if isinstance(part, str) and part in outputs) or frozenset(outputs)
