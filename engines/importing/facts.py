"""What must be known of a model, who said it, and what nobody said."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

from engines.errors import ModelFileError

Source = Literal["flag", "metadata", "graph", "family"]
T = TypeVar("T")
#: name -> (mean, std) on the scale 0 to 255: one for all channels, or one for each of red, green and blue, in that
#: order whatever `--channels` says. A user's own numbers are in the order of `--channels`, as in training code.
PRESETS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "unit": ((0.0,), (255.0,)),
    "signed": ((127.5,), (127.5,)),
    "raw": ((0.0,), (1.0,)),
}


@dataclass(frozen=True)
class Given:
    """What the user says of a model; None: nothing."""

    family: str | None = None
    labels: str | None = None
    """A file with one a line, `coco`, `imagenet`, `numbers`, or the labels themselves with commas."""
    size: tuple[int, int] | None = None
    """Width, height."""
    layout: str | None = None
    channels: str | None = None
    mean: str | None = None
    """Numbers on the scale 0 to 255 with commas, or a preset."""
    std: str | None = None
    fit: str | None = None
    fill: int | None = None
    align: str | None = None
    crop: float | None = None
    resize: str | None = None
    task: Mapping[str, Any] = field(default_factory=dict)
    """Numbers of the task's config that override what was derived."""
    name: str | None = None
    summary: str | None = None
    licence: str | None = None
    homepage: str | None = None
    max_batch: int = 8
    unproven: bool = False


@dataclass(frozen=True)
class Fact:
    """One thing that is known, and from whom."""

    name: str
    value: Any
    source: Source


class Facts:
    """Facts as they are settled: the user's word first, then the file's own, then the graph, then the family."""

    def __init__(self, where: str) -> None:
        self.known: list[Fact] = []
        self._where = where
        self._missing: list[str] = []

    def note(self, name: str, value: T, source: Source) -> T:
        """Record a fact."""
        self.known.append(Fact(name, value, source))
        return value

    def settle(self, name: str, ask: str, **said: T | None) -> T | None:
        """Take the first that is not None of `flag`, `metadata`, `graph`, `family`; else remember what to ask for."""
        sources: tuple[Source, ...] = ("flag", "metadata", "graph", "family")
        for source in sources:
            value = said.get(source)
            if value is not None:
                return self.note(name, value, source)
        self._missing.append(f"{name}: give {ask}")
        return None

    def complete(self) -> None:
        """Raise ModelFileError naming everything that nobody said, with the flags that say it."""
        if self._missing:
            raise ModelFileError(f"{self._where}: nothing says {'; nothing says '.join(self._missing)}")


def labels_from(text: str, classes: int | None, where: str) -> tuple[str, ...]:
    """Read `--labels`. Raises ModelFileError for a file that is not there or has none."""
    if text == "numbers":
        if classes is None:
            raise ModelFileError(f"{where}: the graph does not say how many labels there are; give --labels with names")
        return tuple(map(str, range(classes)))
    if re.fullmatch("[a-z][a-z0-9-]*", text):
        shipped = resources.files("engines.catalogue").joinpath(f"labels/{text}.txt")
        if shipped.is_file():
            return tuple(shipped.read_text(encoding="utf-8").splitlines())
    path = Path(text)
    if _is_file(path):
        if path.suffix in (".json", ".yaml", ".yml"):
            raise ModelFileError(f"{path}: not a list of labels: a text file with one a line is wanted")
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise ModelFileError(f"{path}: not a readable list of labels: {error}") from None
        while lines and not lines[-1]:
            lines.pop()
        if not lines or "" in lines:
            at = f"line {lines.index('') + 1} is empty" if lines else "it is empty"
            raise ModelFileError(f"{path}: not a list of labels: {at}")
        return tuple(lines)
    if "/" in text or path.suffix in (".txt", ".names", ".csv", ".json", ".yaml", ".yml"):
        raise ModelFileError(f"{path}: no such list of labels")
    found = tuple(label.strip() for label in text.split(","))
    if "" in found:
        raise ModelFileError(f"--labels {text!r}: a label is empty")
    return found


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # eighty labels with commas are too long for a file's name
        return False


def numbers_from(flag: str, text: str, where: str, pick: Callable[[tuple[Any, Any]], Any]) -> tuple[float, ...]:
    """Read `--mean` or `--std`: one number or three, or a preset. Raises ModelFileError."""
    if text in PRESETS:
        return tuple(pick(PRESETS[text]))
    try:
        values = tuple(float(part) for part in text.strip("[]() ").split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, 3):
        known = ", ".join(PRESETS)
        raise ModelFileError(f"{where}: --{flag} {text!r}: expected one number or three with commas, or {known}")
    return values


def check_scale(mean: tuple[float, ...], std: tuple[float, ...], where: str) -> None:
    """Refuse numbers that look as if they were for pixels of 0 to 1, with the flags for pixels of 0 to 255.

    Raises ModelFileError.
    """
    if any(not value > 0 for value in std):
        raise ModelFileError(f"{where}: --std {_text(std)}: must be greater than 0")
    if all(value >= 1 for value in std) and not any(0 < abs(value) < 1 for value in mean):
        return
    scaled = [_text(tuple(255 * value for value in values)) for values in (mean, std)]
    raise ModelFileError(
        f"{where}: mean {_text(mean)} and std {_text(std)} look like numbers for pixels of 0 to 1; here they are "
        f"0 to 255: --mean {scaled[0]} --std {scaled[1]}"
    )


def _text(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:.7g}" for value in values)
