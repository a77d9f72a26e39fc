"""Which line of a label file means which picture, and which of the model's labels it names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from calibration.errors import DatasetError
from calibration.pictures import Sample
from calibration.truth import Classes

_LONGEST = 60
"""Letters of a foreign value that an error shows."""


def quoted(value: Any) -> str:
    """A value of somebody's file as one short piece of an error's line."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def some(values: Iterable[Any], count: int = 3) -> str:
    """The first of them, quoted: `'cat', 'dog', 'fox', …`."""
    shown = list(values)
    return ", ".join(quoted(value) for value in shown[:count]) + (", …" if len(shown) > count else "")


def match(entries: Iterable[str], samples: Sequence[Sample], source: str, partial: bool = False) -> dict[str, str]:
    """Name of each sample -> the entry (a path in a label file) that means it.

    They mean the same picture if one path ends with the whole of the other: `a/1.jpg` is `/data/a/1.jpg` and is not
    `b/1.jpg`. Raises DatasetError for samples that no entry means (`partial`: if there is none but those), and where
    it cannot be told which is meant.
    """
    meant = {_path(entry): entry for entry in entries}
    wanted = {_path(sample.name): sample.name for sample in samples}
    found = {name: [entry] for path, name in wanted.items() if (entry := _longest(path, meant)) is not None}
    short = {path: name for path, name in wanted.items() if name not in found}
    for path, entry in meant.items():
        if (name := _longest(path, short)) is not None:
            found.setdefault(name, []).append(entry)
    missing = [sample.name for sample in samples if sample.name not in found]
    if missing and not (partial and found):
        raise DatasetError(
            f"{source}: {len(missing)} of {len(samples)} pictures have no label in it, the first is "
            f"{quoted(missing[0])}; it labels {some(meant.values(), 2) or 'none'}"
        )
    users: dict[str, str] = {}
    for name, several in found.items():
        if len(several) > 1:
            raise DatasetError(f"{source}: {quoted(name)} may be {some(several, 2)}: name pictures with their folders")
        other = users.setdefault(several[0], name)
        if other != name:
            raise DatasetError(
                f"{source}: {quoted(several[0])} may be {some([other, name])}: label pictures with their folders"
            )
    return {name: several[0] for name, several in found.items()}


def classes(
    written: Mapping[str, str],
    samples: Sequence[Sample],
    labels: Sequence[str],
    source: str,
    partial: bool = False,
    *,
    by_index: bool = False,
) -> Classes:
    """The class of each sample from what is written for each entry: a label of the model, or its index.

    `by_index`: only as an index. Raises DatasetError as `match`, and for labels that the model does not know.
    """
    entry_of = match(written, samples, source, partial)
    used = list(dict.fromkeys(written[entry] for entry in entry_of.values()))
    known = {} if by_index else named(used, labels, source)
    unknown = [text for text in used if text not in known]
    if unknown and (by_index or not known):
        # Also those without a picture: the last class of a list that starts at 1 gives it away.
        known = _indices(written.values(), len(labels)) or known
        unknown = [text for text in used if text not in known]
    if by_index and unknown:
        wrong = next((text for text in written.values() if _index(text, len(labels)) is None), unknown[0])
        raise DatasetError(
            f"{source}: labels of another model: it has class_index {quoted(wrong)}, "
            f"this model knows 0 to {len(labels) - 1}"
        )
    if unknown:
        raise DatasetError(_another_model(unknown, bool(known), labels, source))
    return Classes({name: known[written[entry]] for name, entry in entry_of.items()})


def named(texts: Iterable[str], labels: Sequence[str], source: str) -> dict[str, int]:
    """Index of the label that each text names, for those that name one: letter by letter, else `Fire_Truck` too.

    Raises DatasetError for a name that two labels have.
    """
    exact, loose = _places(labels, str), _places(labels, _loosely)
    found = {}
    for text in texts:
        places = exact.get(text) or loose.get(_loosely(text)) or []
        if len(places) > 1:
            where = " and ".join(map(str, places[:2]))
            raise DatasetError(
                f"{source}: {quoted(text)} is more than one of the model's labels ({where}): give a class_index"
            )
        if places:
            found[text] = places[0]
    return found


def is_label(text: str, labels: Sequence[str]) -> bool:
    """Whether that may be one of the labels, or the index of one."""
    return _index(text, len(labels)) is not None or _loosely(text) in map(_loosely, labels)


def _another_model(unknown: Sequence[str], some_known: bool, labels: Sequence[str], source: str) -> str:
    if not some_known:
        return f"{source}: labels of another model: it has {some(unknown)}, this model knows {some(labels)}"
    loose = {_loosely(label): label for label in labels}
    near = difflib.get_close_matches(_loosely(unknown[0]), loose, n=1)
    hint = f"did you mean {quoted(loose[near[0]])}?" if near else f"it knows {some(labels)}"
    more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
    return f"{source}: the model has no label {quoted(unknown[0])}{more}; {hint}"


def _path(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", ".."))


def _longest(path: tuple[str, ...], among: Mapping[tuple[str, ...], str]) -> str | None:
    """What the longest of the path's ends means."""
    return next((among[path[start:]] for start in range(len(path)) if path[start:] in among), None)


def _places(labels: Sequence[str], key: Any) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        places.setdefault(key(label), []).append(index)
    return places


def _loosely(text: str) -> str:
    return " ".join(text.replace("_", " ").replace("-", " ").casefold().split())


def _index(text: str, count: int) -> int | None:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else count
    return number if number < count else None


def _indices(texts: Iterable[str], count: int) -> dict[str, int]:
    """Every text as an index; empty if one of them is none."""
    numbers = {text: _index(text, count) for text in texts}
    found = {text: number for text, number in numbers.items() if number is not None}
    return found if len(found) == len(numbers) else {}
