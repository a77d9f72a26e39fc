"""Objects of pictures in a COCO json: `images`, `categories` and `annotations` with `bbox`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from calibration.errors import DatasetError
from calibration.pictures import Sample
from calibration.truth import Boxes, Objects
from calibration.truth.names import match, named, quoted, some

_PARTS = ("images", "categories", "annotations")
_LARGEST = 1e9
"""Pixels, also square ones; no NaN is below it."""


class Annotations:
    """A file whose pictures and categories are read, and whose annotations are read as they are asked for."""

    def __init__(self, content: Any, source: str) -> None:
        """Raise DatasetError if it is not COCO's form."""
        if not isinstance(content, Mapping) or not all(isinstance(content.get(part), list) for part in _PARTS):
            raise DatasetError(f"{source}: not a COCO json: wants lists called {', '.join(_PARTS)}")
        self._source, self._rows = source, content["annotations"]
        self.ids: dict[str, int | str] = {}
        """Name of each picture as it stands there -> COCO's id."""
        for index, row in enumerate(content["images"]):
            name, image = self._text("image", index, row, "file_name"), self._id("image", index, row)
            if self.ids.setdefault(name, image) != image:
                raise self._wrong("image", index, f"{quoted(name)} has the id {quoted(image)} here and another above")
        self._names = {
            self._id("category", index, row): self._text("category", index, row, "name")
            for index, row in enumerate(content["categories"])
        }

    def objects(self, samples: Sequence[Sample], labels: Sequence[str], partial: bool) -> Objects:
        """The samples' objects that the model knows. Raises DatasetError."""
        entry_of = match(self.ids, samples, self._source, partial)
        boxes = self.boxes([self.ids[entry] for entry in entry_of.values()], labels)
        return Objects(dict(zip(entry_of, boxes, strict=True)))

    def boxes(self, ids: Sequence[int | str], labels: Sequence[str]) -> list[Boxes]:
        """Objects of each picture, given by COCO's ids, that the model knows. Raises DatasetError."""
        known = named(self._names.values(), labels, self._source)
        if not known:
            raise DatasetError(
                f"{self._source}: labels of another model: it has {some(self._names.values()) or 'none'}, "
                f"this model knows {some(labels)}"
            )
        objects: dict[int | str, list[_Object]] = {image: [] for image in ids}
        for index, row in enumerate(self._rows):
            image = self._id("annotation", index, row, "image_id")
            category = self._id("annotation", index, row, "category_id")
            if category not in self._names:
                raise self._wrong("annotation", index, f"no category has the id {quoted(category)}")
            label = known.get(self._names[category])
            if image in objects and label is not None:
                objects[image].append(self._object(index, row, label))
        return [_columns(objects[image]) for image in ids]

    def _object(self, index: int, row: Mapping[str, Any], label: int) -> _Object:
        box = row.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_length, box)) or min(box[2:]) < 0:
            raise self._wrong("annotation", index, f"bbox is {quoted(box)}, not [left, top, width, height] in pixels")
        left, top, width, height = map(float, box)
        area, crowd = row.get("area", width * height), row.get("iscrowd", 0)
        if not _is_length(area) or area < 0:
            raise self._wrong("annotation", index, f"area is {quoted(area)}, not square pixels")
        if crowd not in (0, 1):
            raise self._wrong("annotation", index, f"iscrowd is {quoted(crowd)}, not 0 or 1")
        return _Object((left, top, left + width, top + height), label, bool(crowd), float(area))

    def _id(self, kind: str, index: int, row: Any, key: str = "id") -> int | str:
        value = self._value(kind, index, row, key)
        if not isinstance(value, int | str):
            raise self._wrong(kind, index, f"{key} is {quoted(value)}, not a number")
        return value

    def _text(self, kind: str, index: int, row: Any, key: str) -> str:
        value = self._value(kind, index, row, key)
        if not isinstance(value, str):
            raise self._wrong(kind, index, f"{key} is {quoted(value)}, not a text")
        return value

    def _value(self, kind: str, index: int, row: Any, key: str) -> Any:
        if not isinstance(row, Mapping):
            raise self._wrong(kind, index, f"is {quoted(row)}, not an object")
        return row.get(key)

    def _wrong(self, kind: str, index: int, what: str) -> DatasetError:
        return DatasetError(f"{self._source}: {kind} {index}: {what}")


class _Object(NamedTuple):
    xyxy: tuple[float, float, float, float]
    label: int
    crowd: bool
    area: float


def _columns(objects: Sequence[_Object]) -> Boxes:
    return Boxes(
        xyxy=np.array([o.xyxy for o in objects], np.float64).reshape(-1, 4),
        label=np.array([o.label for o in objects], np.int32),
        crowd=np.array([o.crowd for o in objects], np.bool_),
        area=np.array([o.area for o in objects], np.float64),
    )


def _is_length(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < _LARGEST
