"""Values that several sections of the configuration have: names, shares of a picture, shapes made of them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Union

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from engines.parts import find_parts

RESERVED = frozenset({"status", "metrics", "events", "command", "reply", "snapshot", "counts", "about"})


def _name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name):
        raise ValueError("expected a name of a-z, 0-9, _ and -, starting with a letter or digit, at most 63 long")
    if name in RESERVED:
        raise ValueError(f"{name!r} is a reserved word: {', '.join(sorted(RESERVED))}")
    return name


Name = Annotated[str, AfterValidator(_name)]
Share = Annotated[float, Field(ge=0, le=1)]
Point = tuple[Share, Share]
Polygon = Annotated[list[Point], Field(min_length=3)]

Count = Annotated[int, Field(gt=0)]
Score = Annotated[float, Field(gt=0, lt=1)]


def _region(region: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    if not (region[0] < region[2] and region[1] < region[3]):
        raise ValueError("expected left, top, right, bottom: left less than right and top less than bottom")
    return region


Region = Annotated[tuple[Share, Share, Share, Share], AfterValidator(_region)]


class Section(BaseModel):
    """Base of the configuration's sections: unknown keys are mistakes, and no value shows up in an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)


def union_of_parts(package: str, group: str) -> Any:
    """Every part of that kind, told apart by its `type`."""
    kinds = tuple(dict.fromkeys(find_parts(package, group).values()))
    return Annotated[Union[kinds], Field(discriminator="type")] if len(kinds) > 1 else kinds[0]  # noqa: UP007  # dynamic
