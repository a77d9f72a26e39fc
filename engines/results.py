"""What a model says of one picture: frozen columns, one class per kind of result.

Columns are read-only arrays of equal length; a boolean mask or an index array selects rows:
`detections[detections.score > 0.5]`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Rows = TypeVar("Rows", bound="Columns")


class Columns:
    """Base of column-wise results: checks shapes, freezes arrays, selects rows."""

    #: per field: dtype and the shape of one row
    layout: dict[str, tuple[type[np.generic], tuple[int, ...]]]

    def __post_init__(self) -> None:
        rows: int | None = None
        for field in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            dtype, row = self.layout[field.name]
            column = np.asarray(getattr(self, field.name), dtype)
            if column.ndim != 1 + len(row) or column.shape[1:] != row:
                raise ValueError(
                    f"{field.name}: expected shape (N{''.join(f', {n}' for n in row)}), got {column.shape}"
                )
            if rows is not None and len(column) != rows:
                raise ValueError(f"{field.name}: expected {rows} rows, got {len(column)}")
            rows = len(column)
            column = column.view()
            column.flags.writeable = False
            object.__setattr__(self, field.name, column)

    def __len__(self) -> int:
        return len(getattr(self, next(iter(self.layout))))

    def __getitem__(self: Rows, rows: Any) -> Rows:
        return type(self)(
            **{
                name: np.atleast_1d(getattr(self, name)[rows])
                if isinstance(rows, slice | np.ndarray)
                else getattr(self, name)[[rows]]
                for name in self.layout
            }
        )

    @classmethod
    def empty(cls: type[Rows]) -> Rows:
        """No rows."""
        return cls(**{name: np.empty((0, *row), dtype) for name, (dtype, row) in cls.layout.items()})


@dataclass(frozen=True, eq=False)
class Classification(Columns):
    """The best classes of a picture, best first."""

    label: NDArray[np.int32]
    """(N,) index into the model's labels."""
    score: NDArray[np.float32]
    """(N,) probability, 0 to 1."""

    layout = {"label": (np.int32, ()), "score": (np.float32, ())}  # noqa: RUF012  # a constant of the class


@dataclass(frozen=True, eq=False)
class Detections(Columns):
    """Boxes in source pixels, best first."""

    xyxy: NDArray[np.float32]
    """(N, 4) left, top, right, bottom in source pixels."""
    score: NDArray[np.float32]
    """(N,) 0 to 1."""
    label: NDArray[np.int32]
    """(N,) index into the model's labels."""

    layout = {"xyxy": (np.float32, (4,)), "score": (np.float32, ()), "label": (np.int32, ())}  # noqa: RUF012  # as above


Result = Classification | Detections
