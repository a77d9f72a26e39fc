"""How many of what are there: retained, said anew when it changes, and not for every flicker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from agent.frame import Timestamp
from agent.messages import CountsPayload, rfc3339
from agent.rules import Rule
from agent.watching.incidents import Incidents

HOLD_NS = 1_000_000_000
"""A number that rises is believed at once, one that falls when it has been lower for so long (of its own time)."""

Key = tuple[str, str, str]
"""(section of the payload, zone or line, label or direction)"""
Numbers = dict[Key, int]
SECTIONS = {"zone": "zones", "line": "lines"}
"""Kind of a rule that counts -> where."""


class Steady:
    """Numbers that rise at once and fall when they have been lower for a while."""

    def __init__(self, hold_ns: int = HOLD_NS) -> None:
        self._hold_ns = hold_ns
        self._shown: Numbers = {}
        self._lower_since: dict[Key, int] = {}

    def take(self, numbers: Numbers, at_ns: int) -> Numbers:
        """What to believe at that time. What was named once is named for ever, as 0 where it is not there."""
        for key in self._shown.keys() | numbers.keys():
            number, shown = numbers.get(key, 0), self._shown.get(key)
            if shown is None or number >= shown:
                self._shown[key] = number
                self._lower_since.pop(key, None)
            elif at_ns - self._lower_since.setdefault(key, at_ns) >= self._hold_ns:
                self._shown[key] = number
                del self._lower_since[key]
        return self._shown

    @property
    def settled(self) -> bool:
        """Whether time alone changes nothing."""
        return not self._lower_since


class Counts:
    """The counts of one camera."""

    def __init__(
        self,
        agent: str,
        camera: str,
        rules: Sequence[Rule],
        incidents: Incidents,
        *,
        labels: Iterable[str] = (),
        hold_ns: int = HOLD_NS,
    ) -> None:
        """`labels`: those that are told from the start, though none was seen."""
        self._agent, self._camera, self._incidents = agent, camera, incidents
        self._rules, self._hold_ns = list(rules), hold_ns
        self._labels = dict.fromkeys(labels, 0)
        self._steady = Steady(hold_ns)
        self._raw: Numbers | None = None
        self._open: set[str] = set()
        self._said: dict[str, Any] | None = None

    def take(self, shown: Iterable[str] | None, captured: Timestamp) -> CountsPayload | None:
        """Count after a frame; what to publish, if any. `shown`: labels of the objects in it, None: as before."""
        raw, opened = self._numbers(shown), self._incidents.open_rules()
        if raw == self._raw and opened == self._open and self._steady.settled:
            return None
        self._raw, self._open = raw, opened
        return self._changed(self._steady.take(raw, captured.monotonic_ns), captured)

    def forget(self, captured: Timestamp) -> CountsPayload | None:
        """The camera is lost: nothing is there as far as we know, at once. Crossings of lines stay counted."""
        last, self._raw = self._steady.take({}, captured.monotonic_ns), None
        self._open, self._steady = self._incidents.open_rules(), Steady(self._hold_ns)
        nothing = {key: n if key[0] == "lines" else 0 for key, n in last.items()}
        return self._changed(self._steady.take(nothing, captured.monotonic_ns), captured)

    def _numbers(self, shown: Iterable[str] | None) -> Numbers:
        if shown is None:
            numbers = {key: n for key, n in (self._raw or {}).items() if key[0] == "labels"}
        else:
            numbers = {("labels", "", label): n for label, n in {**self._labels, **Counter(shown)}.items()}
        for rule in self._rules:
            if section := SECTIONS.get(rule.kind):
                for label, n in rule.counts().items():
                    numbers[section, rule.name, label] = n
        return numbers

    def _changed(self, numbers: Numbers, captured: Timestamp) -> CountsPayload | None:
        said: dict[str, Any] = {
            "labels": {},
            "zones": {rule.name: {} for rule in self._rules if rule.kind == "zone"},
            "lines": {rule.name: {} for rule in self._rules if rule.kind == "line"},
            "rules": {rule.name: rule.name in self._open for rule in self._rules if rule.kind not in SECTIONS},
        }
        for (section, name, label), n in sorted(numbers.items()):
            (said[section][name] if name else said[section])[label] = n
        if said == self._said:
            return None
        self._said = said
        return CountsPayload.model_construct(
            schema_="sightwire.counts/1",
            agent=self._agent,
            camera=self._camera,
            captured_at=rfc3339(captured.wall_ns),
            **said,
        )
