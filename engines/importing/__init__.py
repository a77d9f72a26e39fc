"""Makes a model of a user's own ONNX file: facts gathered, network made plain, both compared, card written.

The file itself is run beside what becomes of it, on the same pictures: a model that is installed computes what its
file computed, within a tolerance that its card states.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from pydantic import ValidationError

from engines import graph, qdq
from engines.assembly import check_card, write_model
from engines.batch import proved_batch
from engines.card import Card, Imported, Input, ModelFile, Origin, write_card
from engines.errors import CardError, ModelFileError
from engines.graph import Normalisation, shape_of
from engines.importing.comparison import compare
from engines.importing.ends import ends
from engines.importing.export import Export, read_export, shape_text
from engines.importing.facts import Fact, Facts, Given, check_scale, labels_from, numbers_from
from engines.importing.families import Family, Reading, Seen, family
from engines.importing.plain import has_half, is_quantised, plain, trimmed
from engines.numerics import output_shapes, runner
from engines.store import ModelStore

Stage = Literal["read", "convert", "compare", "prove"]
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True)
class Result:
    """A model that was imported."""

    card: Card
    folder: Path
    facts: tuple[Fact, ...]


def import_model(
    path: Path,
    given: Given,
    store: ModelStore,
    progress: Callable[[Stage], None] = lambda stage: None,
    *,
    again: bool = False,
) -> Result:
    """Import an ONNX file into the store. `again`: replace a model of that name.

    Raises ModelFileError for a file that is no such network, or of which something must be said, naming the flags;
    CardError for values that no card takes; LintError for INT8 that some backend would misread.
    """
    name = _name(path, given, store, again=again)
    progress("read")
    made = _Making(read_export(path), given)
    progress("convert")
    made.settle()
    progress("compare")
    made.compare()
    progress("prove")
    made.prove_batch()
    try:
        with store.install(name) as folder:
            card = made.write(name, folder)
    except OSError as error:
        raise ModelFileError(f"{name}: cannot be written to {store.root} ({error.strerror or error})") from None
    return Result(card, store.root / name, tuple(made.facts.known))


def _name(path: Path, given: Given, store: ModelStore, *, again: bool) -> str:
    name = given.name or re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).strip("-_")[:63]
    if not _NAME.fullmatch(name):
        raise CardError(f"{name!r} is no name for a model: a-z, 0-9, - and _, at most 63; give --name NAME")
    if name in store.names() and not again:
        raise CardError(
            f"there is a model {name!r} in {store.root} already; give --name NAME, or --again to replace it"
        )
    return name


class _Making:
    """One import, step by step; each leaves what the next needs."""

    def __init__(self, export: Export, given: Given) -> None:
        self._export, self._given, self._where = export, given, str(export.path)
        self.facts = Facts(self._where)
        self._half = has_half(export.model)
        self._int8 = is_quantised(export.model)
        if self._int8 and not given.unproven:
            raise ModelFileError(
                f"{self._where}: is an INT8 file, and nothing proves what it lost: import the FP32 export and calibrate "
                "that, or give --unproven to take it as it is"
            )

    def settle(self) -> None:
        """Gather the facts and make the plain network."""
        kind = self._family()
        layout, batch, size = self._input()
        self._batch, self._size = batch, size
        self._network = plain(self._export.model, self._shape(layout, max(batch, 1)), self._where)
        shapes = self._shapes(self._network)
        settled = self.facts.settle
        given = self._given
        channels = settled("channels", "--channels rgb or bgr", flag=given.channels, family=kind.channels)
        mean, std = self._mean_and_std(kind)
        fit = settled("fit", "--fit stretch, letterbox or crop", flag=given.fit, family=kind.fit)
        into: dict[str, Any] = {"width": size[0], "height": size[1], "fit": fit}
        if fit == "letterbox":
            into["fill"] = settled("fill", "--fill", flag=given.fill, family=kind.fill)
            into["align"] = settled("align", "--align", flag=given.align, family=kind.align)
        elif fit == "crop":
            into["crop"] = settled("crop", "--crop SHARE (0.875: ImageNet's)", flag=given.crop, family=kind.crop)
        into["resize"] = settled("resize", "--resize", flag=given.resize, family=kind.resize)
        self._labels, self._task = self._reading(kind, shapes)
        self.facts.complete()
        self._into = _checked(Input, into, self._where)
        norm = {"mean": mean, "std": std, "channels": channels, "layout": layout}
        self._normalisation = _checked(Normalisation, norm, self._where)
        self._outputs = _named(self._task, set(shapes))
        self._layout = layout

    def _family(self) -> Family:
        said = self._export.said
        guess = "ultralytics" if said["ultralytics"] else None
        name = self.facts.settle("family", "--family NAME", flag=self._given.family, metadata=guess)
        self.facts.complete()
        if (task := said.get("task", "detect")) not in ("detect", "classify"):
            raise ModelFileError(
                f"{self._where}: its metadata says that its task is {task!r}; detectors and classifiers can be imported "
                "so far"
            )
        if name == "ultralytics" and task == "classify":
            name = "ultralytics-cls"
        self.family = str(name)
        return family(self.family, self._where)

    def _input(self) -> tuple[str, int, tuple[int, int]]:
        """Layout, batch (-1: free), (width, height)."""
        value, given = self._export.input, self._given
        shape = shape_of(value)
        if len(shape) != 4:
            raise ModelFileError(
                f"{self._where}: its input {value.name} is {shape_text(shape)}, not pictures: (N, 3, H, W) or (N, H, W, 3)"
            )
        fits = {name: shape[axis] in (3, -1) for name, axis in (("nchw", 1), ("nhwc", 3))}
        if not any(fits.values()):
            raise ModelFileError(
                f"{self._where}: its input {value.name} is {shape_text(shape)}; pictures of 3 channels are wanted"
            )
        certain = [name for name, axis in (("nchw", 1), ("nhwc", 3)) if shape[axis] == 3]
        seen = certain[0] if len(certain) == 1 else None
        layout = self.facts.settle("layout", "--layout nchw or nhwc", flag=given.layout, graph=seen)
        self.facts.complete()
        if not fits[str(layout)]:
            raise ModelFileError(f"{self._where}: --layout {layout}: its input is {shape_text(shape)}")
        height, width = shape[2:] if layout == "nchw" else shape[1:3]
        asked, fixed = given.size, (width, height) if width > 0 and height > 0 else None
        if asked and any(side not in (-1, want) for side, want in zip((width, height), asked, strict=True)):
            raise ModelFileError(
                f"{self._where}: --size {asked[0]}x{asked[1]}: its input is {shape_text(shape)}, fixed"
            )
        said = self._export.said.get("size") if not fixed else None
        if said and any(side not in (-1, want) for side, want in zip((width, height), said, strict=True)):
            said = None
        size = self.facts.settle("size", "--size WIDTHxHEIGHT", flag=asked, metadata=said, graph=fixed)
        self.facts.complete()
        return str(layout), shape[0], size or (0, 0)

    def _shape(self, layout: str, batch: int) -> tuple[int, ...]:
        width, height = self._size
        return (batch, 3, height, width) if layout == "nchw" else (batch, height, width, 3)

    def _shapes(self, network: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
        """Output -> shape for one picture; found by running the network where it does not follow from the graph."""
        shapes = output_shapes(network, self._where)
        if any(side < 0 for shape in shapes.values() for side in shape):
            (value,) = network.graph.input
            run = runner(network, self._where)(np.zeros(shape_of(value), np.float32))
            shapes = {name: array.shape for name, array in run.items()}
        batch = max(self._batch, 1)
        return {n: (1, *shape[1:]) if shape[:1] == (batch,) else shape for n, shape in shapes.items()}

    def _mean_and_std(self, kind: Family) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
        given, where = self._given, self._where
        mean = numbers_from("mean", given.mean, where, lambda p: p[0]) if given.mean else None
        std = numbers_from("std", given.std, where, lambda p: p[1]) if given.std else None
        if std is None and given.mean and mean is not None and not re.match(r"[\[(\s]*-?[\d.]", given.mean):
            std = numbers_from("mean", given.mean, where, lambda p: p[1])  # a preset names both
        mean = self.facts.settle(
            "mean", "--mean R,G,B on the scale 0 to 255 (or imagenet, unit, signed, raw)",
            flag=mean, family=kind.norm and kind.norm[0],
        )  # fmt: skip
        std = self.facts.settle("std", "--std R,G,B", flag=std, family=kind.norm and kind.norm[1])
        if mean is not None and std is not None:
            check_scale(mean, std, where)
        return mean, std

    def _reading(self, kind: Family, shapes: dict[str, tuple[int, ...]]) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Labels, and the task's config."""
        given, said = self._given, self._export.said
        counted = given.labels not in (None, "numbers")
        flagged = labels_from(str(given.labels), None, self._where) if counted else None
        known = flagged or (said.get("names") if given.labels is None else None)
        seen = Seen(self._where, shapes, ends(self._network), self._size, known and len(known), said)
        reading = kind.read(seen)
        if given.labels == "numbers":
            flagged = labels_from("numbers", reading.classes, self._where)
        ask = "--labels FILE, or names with commas, or coco, imagenet, numbers"
        labels = self.facts.settle("labels", ask, flag=flagged, metadata=said.get("names"))
        task = {**reading.task, **given.task}
        for field in kind.open_task:
            if field not in task:
                self.facts.settle(f"task {field}", f"--task {field}=VALUE", flag=None)
        if "type" not in task:
            self.facts.settle("task", "--task type=TYPE and its numbers", flag=None)
        for field, value in task.items():
            self.facts.note(f"task {field}", value, "flag" if field in given.task else "graph")
        if labels is not None:
            self._check_labels(labels, reading)
        return labels or (), task

    def _check_labels(self, labels: tuple[str, ...], reading: Reading) -> None:
        classes = reading.classes
        if classes is not None and self._given.task.get("background") and "background" not in reading.task:
            classes -= 1
        if classes is None or classes == len(labels):
            return
        hint = (
            "; where a column means 'nothing', say --task background=first or last"
            if classes == len(labels) + 1
            else ""
        )
        raise ModelFileError(
            f"{self._where}: as {self.family} its outputs have {classes} classes, and there are {len(labels)} labels"
            f"{hint if reading.task.get('type') == 'detr' else ''}"
        )

    def compare(self) -> None:
        """Bake, and compare with the file itself. Raises ModelFileError if they differ or the file gives NaN."""
        network = trimmed(self._network, self._outputs)
        self._baked = graph.bake(network, self._normalisation, self._where)
        graph.check(self._baked, self._where)
        if self._int8:
            qdq.lint(self._baked)
        self._compared = compare(
            self._export, self._baked, self._normalisation, batch=max(self._batch, 1), half=self._half, int8=self._int8
        )

    def prove_batch(self) -> None:
        """Free the batch where batches give what single pictures give. Raises ModelFileError if it is fixed at several."""
        if self._batch < 0:
            free = plain(self._export.model, self._shape(self._layout, -1), self._where)
            free = graph.bake(trimmed(free, self._outputs), self._normalisation, self._where)
        else:
            free = self._baked
        free = graph.free_batch(free, max(self._batch, 1))
        try:
            self._max_batch = proved_batch(free, self._given.max_batch) if self._given.max_batch > 1 else 1
        except ModelFileError:
            self._max_batch = 1
        if self._max_batch == 1 and self._batch > 1:
            raise ModelFileError(
                f"{self._where}: is fixed at {self._batch} pictures at once; export it with a batch of 1, or a free one"
            )
        self._final = free if self._max_batch > 1 else self._baked
        for value, shape in zip(
            self._final.graph.output, output_shapes(self._final, self._where).values(), strict=True
        ):
            _set_shape(value, shape)

    def write(self, name: str, folder: Path) -> Card:
        """Write model and card into `folder`. Raises CardError if they do not fit each other."""
        from engines.model import task_config

        file = write_model(self._final, folder / ("model.int8.onnx" if self._int8 else "model.onnx"))
        files: dict[Any, ModelFile] = {"fp32": file}
        if self._int8:
            files = {"int8": file.model_copy(update={"unproven": True})}
        given, said = self._given, self._export.said
        licence = self.facts.settle(
            "licence", "--licence", flag=given.licence, metadata=said.get("licence"), family="unknown"
        )
        card = Card(
            schema="sightwire.card/1",
            name=name,
            summary=given.summary or f"imported from {self._export.path.name}",
            input=self._into,
            task=self._task,
            labels=self._labels,
            files=files,
            origin=Origin(
                source=f"{self._export.path.name} (imported)",
                sha256=self._export.sha256,
                licence=str(licence),
                homepage=given.homepage,
            ),
            max_batch=self._max_batch,
            imported=Imported(
                family=self.family,
                facts={fact.name: fact.source for fact in self.facts.known},
                opset=self._export.opset,
                **self._compared,
            ),
        )
        try:
            task_config(card)
            check_card(card, self._final)
        except CardError as error:
            raise ModelFileError(f"{self._where}: as {self.family}: {str(error).removeprefix(f'{name}: ')}") from None
        write_card(card, folder)
        return card


def _checked(kind: type[Any], content: dict[str, Any], where: str) -> Any:
    """Build a pydantic value; its complaints become one line with the flags' names."""
    try:
        return kind(**content)
    except ValidationError as error:
        mistakes = "; ".join(f"--{'.'.join(map(str, e['loc'])) or kind.__name__}: {e['msg']}" for e in error.errors())
        raise ModelFileError(f"{where}: {mistakes}") from None


def _named(task: dict[str, Any], outputs: set[str]) -> set[str]:
    """Return the outputs that a task's config names. Raises nothing: what it names and is not there, the card says."""
    found = set()
    for value in task.values():
        for part in value if isinstance(value, list | tuple) else [value]:
            if isinstance(part, str) and part in outputs:
                found.add(part)
    return found or outputs


def _set_shape(value: onnx.ValueInfoProto, shape: tuple[int, ...]) -> None:
    kind = value.type.tensor_type.elem_type
    dims: list[int | str | None] = [
        side if side >= 0 else "N" if axis == 0 else None for axis, side in enumerate(shape)
    ]
    value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, dims))
