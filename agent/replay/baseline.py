"""Events of a recording as a file, a JSON object a line, and what is different from such a file.

Two events are the same if rule, kind, phase, reason, label and the words in `data` are, and their times are near: ids,
tracks, scores, boxes and numbers may differ, as they do with every change of a model.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agent.errors import AgentError

MOVED_S = 10.0
"""An event that is missing and one that is new, alike and not further apart than this, are one that has moved."""
WORDS = ("rule", "kind", "phase")


class BaselineError(AgentError):
    """A file of events that cannot be read, or is none."""


@dataclass(frozen=True)
class Difference:
    """One event that is not as it was."""

    what: Literal["missing", "new", "moved"]
    before: dict[str, Any] | None
    now: dict[str, Any] | None

    @property
    def at_s(self) -> float:
        """When, in the recording."""
        return float((self.before or self.now or {})["at_s"])


def written(events: Iterable[dict[str, Any]]) -> str:
    """The file's text."""
    return "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events)


def read(path: Path) -> list[dict[str, Any]]:
    """The events of a file. Raises BaselineError, with the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise BaselineError(f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise BaselineError(f"{path}: cannot be read: {error.strerror}") from None
    events = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            raise BaselineError(f"{path}:{number}: not a JSON object") from None
        if wrong := _wrong(event):
            raise BaselineError(f"{path}:{number}: not an event: {wrong}")
        events.append(event)
    return events


def differences(before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]], within_s: float) -> list[Difference]:
    """What is missing, new or has moved by more than `within_s`, in the order of the recording."""
    found: list[Difference] = []
    groups: dict[tuple[Any, ...], tuple[list[dict[str, Any]], list[dict[str, Any]]]] = defaultdict(lambda: ([], []))
    for side, events in enumerate((before, now)):
        for event in sorted(events, key=lambda event: event["at_s"]):
            groups[_identity(event)][side].append(event)
    for was, are in groups.values():
        _, missing, new = _pairs(was, are, within_s)
        moved, missing, new = _pairs(missing, new, max(MOVED_S, within_s))
        found += [Difference("moved", one, other) for one, other in moved]
        found += [Difference("missing", one, None) for one in missing]
        found += [Difference("new", None, other) for other in new]
    return sorted(found, key=lambda difference: (difference.at_s, difference.what))


def told(event: dict[str, Any]) -> str:
    """An event in words: `gate enter start person`."""
    data = event.get("data", {})
    words = [event["rule"], *(str(data[key]) for key in data if isinstance(data[key], str)), event["phase"]]
    words += [f"({event['reason']})"] if event.get("reason") else []
    return " ".join([*words, *([event["label"]] if event.get("label") else [])])


def _wrong(event: Any) -> str | None:
    if not isinstance(event, dict):
        return "expected {...}"
    at_s = event.get("at_s")
    if isinstance(at_s, bool) or not isinstance(at_s, int | float) or not math.isfinite(at_s):
        return "at_s: expected seconds"
    for key in WORDS:
        if not isinstance(event.get(key), str):
            return f"{key}: expected a text"
    for key in ("reason", "label"):
        if not isinstance(event.get(key, ""), str):
            return f"{key}: expected a text"
    return None if isinstance(event.get("data", {}), dict) else "data: expected {...}"


def _identity(event: dict[str, Any]) -> tuple[Any, ...]:
    data = event.get("data", {})
    words = sorted((key, value) for key, value in data.items() if isinstance(value, str))
    return (*(event[key] for key in WORDS), event.get("reason"), event.get("label"), tuple(words))


Pair = tuple[dict[str, Any], dict[str, Any]]


def _pairs(
    was: Sequence[dict[str, Any]], are: Sequence[dict[str, Any]], within_s: float
) -> tuple[list[Pair], list[dict[str, Any]], list[dict[str, Any]]]:
    """As many pairs as there can be of events not further apart; what is left of each. Both in the order of time."""
    pairs: list[Pair] = []
    left: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    at = [0, 0]
    while at[0] < len(was) and at[1] < len(are):
        later_s = are[at[1]]["at_s"] - was[at[0]]["at_s"]
        if abs(later_s) <= within_s + 1e-9:
            pairs.append((was[at[0]], are[at[1]]))
            at = [at[0] + 1, at[1] + 1]
        else:
            side = 0 if later_s > 0 else 1
            left[side].append((was, are)[side][at[side]])
            at[side] += 1
    return pairs, [*left[0], *was[at[0] :]], [*left[1], *are[at[1] :]]
