"""What `watch` knows and how it looks. No broker and no terminal in here."""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agent.subscriber import Heard

SECOND_NS = 1_000_000_000
RATE_NS = 2 * SECOND_NS
"""Rates are counted over this time, ages over the last second."""
EVENTS = 8
"""So many are shown under the table."""
GOOD = {"online", "streaming", "connected"}
BAD = {"offline", "lost", "blind", "refused"}


@dataclass(frozen=True)
class Subject:
    """What a topic is about: the agent; its camera (`use` empty); a use of a camera."""

    agent: str
    camera: str
    use: str
    kind: str

    @classmethod
    def of(cls, topic: str, prefix: str) -> Subject | None:
        """Read `<prefix>/<agent>/[<camera>/[<use>/]]<kind>`; None for what is not ours."""
        start = f"{prefix}/"
        parts = topic[len(start) :].split("/") if topic.startswith(start) else []
        if not 2 <= len(parts) <= 4:
            return None
        agent, *middle, kind = parts
        camera, use = [*middle, "", ""][:2]
        return cls(agent, camera, use, kind)

    def __str__(self) -> str:
        return "/".join(part for part in (self.agent, self.camera, self.use) if part)


def clean(text: object, most: int = 200) -> str:
    """Safe for a terminal: what a broker delivers may hold control characters."""
    return "".join(c if c.isprintable() else "�" for c in str(text)[:most])


def decode(payload: bytes) -> dict[str, Any]:
    """The JSON object of a message; empty for anything else (a JPEG, say)."""
    try:
        value = json.loads(payload)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def summary(kind: str, data: dict[str, Any]) -> str:
    """What a message says in a few words: `person ×3 0.91, dog 0.55`, `mountain bike 0.62`, `streaming`."""
    if kind == "detections":
        return _objects(data.get("detections"))
    if kind == "classification":
        classes = _dicts(data.get("classes"))
        return f"{clean(classes[0].get('label'))} {_score(classes[0])}" if classes else "nothing"
    if kind == "status":
        words = [clean(data.get("state", "?")), clean(data.get("version") or data.get("reason") or "")]
        differing = [f"{entry}: {words}" for entry, words in _engines(data, differing=True)]
        return ", ".join([" ".join(word for word in words if word), *differing])
    if kind == "metrics":
        return f"{_number(data.get('rss_mb')):.0f} MB, {_number(data.get('cpu_s')):.1f} s of CPU"
    if kind == "events":
        return _event(data)
    if kind == "counts":
        return _counted(data)
    return kind


def _event(data: dict[str, Any]) -> str:
    """`gate start: person 0.91 #17, enter`."""
    told = data.get("data")
    facts = told if isinstance(told, dict) else {}
    head = [clean(data.get("rule") or data.get("kind") or "event"), clean(data.get("phase") or "")]
    words = [clean(data["label"]) + (f" {_score(data)}" if data.get("score") else "")] if data.get("label") else []
    words[-1:] = [" ".join([*words[-1:], f"#{clean(data['track'])}"])] if data.get("track") else words[-1:]
    words += [clean(facts[key]) for key in ("event", "direction", "to", "reason") if facts.get(key)]
    words += [clean(data["reason"])] if data.get("reason") else []
    return " ".join(word for word in head if word) + (f": {', '.join(words)}" if words else "")


def _counted(data: dict[str, Any]) -> str:
    """`person 2; gate: person 1; door: in 3, out 1`."""
    places = {"": data.get("labels")}
    for section in ("zones", "lines"):
        places |= data[section] if isinstance(data.get(section), dict) else {}
    said = []
    for name, numbers in places.items():
        words = ", ".join(f"{clean(k)} {clean(n)}" for k, n in numbers.items()) if isinstance(numbers, dict) else ""
        if words:
            said.append(f"{clean(name)}: {words}" if name else words)
    opened = data.get("rules")
    said += [clean(name) for name, is_open in opened.items() if is_open] if isinstance(opened, dict) else []
    return "; ".join(said) or "nothing"


def _engines(data: dict[str, Any], *, differing: bool = False) -> Iterator[tuple[str, str]]:
    """Model entry and what serves it; `differing`: only those that something else was wanted for, or is made for."""
    engines = data.get("engines")
    for entry, engine in engines.items() if isinstance(engines, dict) else ():
        facts = engine if isinstance(engine, dict) else {}
        words = [clean(facts[key]) for key in ("backend", "device", "precision") if facts.get(key)]
        if facts.get("instead_of"):
            words.append(f"instead of {clean(facts['instead_of'])} ({clean(facts.get('because', '?'))})")
        if facts.get("next"):
            words.append(f"(next {clean(facts['next'])})")
        if not differing or "instead_of" in facts or "next" in facts:
            yield clean(entry), " ".join(words)


def _objects(value: object) -> str:
    objects = _dicts(value)
    counts = Counter(clean(item.get("label")) for item in objects)
    words = []
    for label, count in counts.most_common(4):
        best = max((item for item in objects if clean(item.get("label")) == label), key=_score)
        words.append(f"{label} ×{count} {_score(best)}" if count > 1 else f"{label} {_score(best)}")
    more = len(counts) - len(words)
    return (", ".join(words) + (f" and {more} more" if more > 0 else "")) or "nothing"


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _score(item: dict[str, Any]) -> str:
    return f"{_number(item.get('score')):.2f}"


def has_objects(kind: str, data: dict[str, Any]) -> bool:
    """Something was detected."""
    return kind == "detections" and bool(data.get("detections"))


def line(subject: Subject, data: dict[str, Any], wall_s: float) -> str:
    """One scrolling line: `20:17:03  gatehouse/dock/people  person ×3 0.91  41 ms`."""
    parts = [f"{datetime.fromtimestamp(wall_s):%H:%M:%S}", f"{subject!s:<28}", summary(subject.kind, data)]
    if isinstance(data.get("age_ms"), (int, float)):
        parts.append(f"{data['age_ms']:.0f} ms")
    return "  ".join(parts)


@dataclass
class Row:
    """One use of one camera."""

    subject: Subject
    text: str = ""
    model: str = ""
    arrivals: deque[int] = field(default_factory=lambda: deque(maxlen=1000))
    ages: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=500))

    def rate(self, now_ns: int) -> float:
        """Messages per second."""
        while self.arrivals and now_ns - self.arrivals[0] > RATE_NS:
            self.arrivals.popleft()
        if len(self.arrivals) < 2:
            return len(self.arrivals) * SECOND_NS / RATE_NS
        # Intervals, not messages: right from the second message on.
        return (len(self.arrivals) - 1) * SECOND_NS / max(self.arrivals[-1] - self.arrivals[0], 1)

    def age_ms(self, now_ns: int) -> float | None:
        """Median age of the last second's results; None without any (and for recordings)."""
        while self.ages and now_ns - self.ages[0][0] > SECOND_NS:
            self.ages.popleft()
        return statistics.median(age for _, age in self.ages) if self.ages else None


class Board:
    """The newest of everything that was heard."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.messages = 0
        self.rows: dict[Subject, Row] = {}
        self.agents: dict[str, dict[str, Any]] = {}
        self.cameras: dict[tuple[str, str], dict[str, Any]] = {}
        self.events: deque[str] = deque(maxlen=EVENTS)
        """The newest, as lines."""

    def take(self, heard: Heard) -> tuple[Subject, dict[str, Any]] | None:
        """Note a message; what it is about and says, or None for what is not ours."""
        subject = Subject.of(heard.topic, self.prefix)
        if subject is None:
            return None
        self.messages += 1
        data = decode(heard.payload)
        if subject.use:
            self._result(subject, data, heard)
        elif subject.kind == "events":
            self.events.append(line(subject, data, time.time()))
        elif subject.kind == "status" and subject.camera:
            self.cameras[subject.agent, subject.camera] = data
        elif subject.kind == "status":
            self.agents[subject.agent] = data
        return subject, data

    def _result(self, subject: Subject, data: dict[str, Any], heard: Heard) -> None:
        row = self.rows.setdefault(subject, Row(subject))
        row.text = summary(subject.kind, data)
        row.model = clean(data.get("model", ""))
        row.arrivals.append(heard.arrived_ns)
        if isinstance(data.get("age_ms"), (int, float)):
            row.ages.append((heard.arrived_ns, float(data["age_ms"])))

    def camera_state(self, agent: str, camera: str) -> str:
        """As last said; `offline` with its agent, whatever was said before."""
        if self.agents.get(agent, {}).get("state") == "offline":
            return "offline"
        return clean(self.cameras.get((agent, camera), {}).get("state", "?"))


def draw(board: Board, broker: str, link: str, now_ns: int) -> RenderableType:
    """The dashboard: a line an agent, a row a use. `link` is how the connection to the broker is."""
    parts: list[RenderableType] = [_agent(name, data) for name, data in sorted(board.agents.items())]
    if board.rows or board.cameras:
        parts.append(_table(board, now_ns))
    else:
        parts.append(Text("waiting for the first message …", style="dim"))
    parts += [Text(told, no_wrap=True, overflow="ellipsis") for told in board.events]
    return Panel(
        Group(*parts),
        title=Text.assemble(("sightwire", "bold"), " at ", (clean(broker), "cyan")),
        subtitle=Text(f"{link} · {board.messages:,} messages · Ctrl-C ends", style="dim"),
        border_style="blue",
        padding=(1, 2),
    )


def _agent(name: str, data: dict[str, Any]) -> Text:
    state = clean(data.get("state", "?"))
    text = Text.assemble(_lamp(state), " ", (clean(name), "bold"), " ", (state, _style(state)))
    if data.get("version"):
        text.append(f"  {clean(data['version'])}", style="dim")
    for entry, words in _engines(data):
        text.append(f"  {entry}: {words}", style="dim")
    return text


def _table(board: Board, now_ns: int) -> Table:
    table = Table(box=SIMPLE_HEAD, expand=True, pad_edge=False, header_style="dim")
    table.add_column("camera", no_wrap=True)
    table.add_column("use", no_wrap=True)
    table.add_column("sees", ratio=1, no_wrap=True, overflow="ellipsis", min_width=12)
    table.add_column("a second", justify="right", no_wrap=True)
    table.add_column("age ms", justify="right", no_wrap=True)
    several = len({subject.agent for subject in board.rows} | set(board.agents)) > 1
    shown: set[tuple[str, str]] = set()
    for row in sorted(board.rows.values(), key=lambda row: str(row.subject)):
        subject = row.subject
        age_ms, rate = row.age_ms(now_ns), row.rate(now_ns)
        first = (subject.agent, subject.camera) not in shown
        shown.add((subject.agent, subject.camera))
        table.add_row(
            _camera(board, subject.agent, subject.camera, several) if first else "",
            Text(clean(subject.use), style="magenta"),
            Text(row.text, style="dim" if row.text == "nothing" or not rate else "bold"),
            f"{rate:.1f}",
            Text("–" if age_ms is None else f"{age_ms:.0f}", style=_age_style(age_ms)),
        )
    for agent, camera in sorted(board.cameras.keys() - shown):
        reason = clean(board.cameras[agent, camera].get("reason") or "")
        table.add_row(_camera(board, agent, camera, several), "", Text(reason, style="dim"), "", "")
    return table


def _camera(board: Board, agent: str, camera: str, several: bool) -> Text:
    state = board.camera_state(agent, camera)
    name = clean(f"{agent}/{camera}" if several else camera)
    text = Text.assemble(_lamp(state), " ", name)
    if state not in GOOD and state != "?":
        text.append(f" {state}", style=_style(state))
    return text


def _lamp(state: str) -> tuple[str, str]:
    return ("●", _style(state))


def _style(state: str) -> str:
    return "green" if state in GOOD else "red" if state in BAD else "yellow"


def _age_style(age_ms: float | None) -> str:
    if age_ms is None:
        return "dim"
    return "green" if age_ms < 100 else "yellow" if age_ms < 500 else "red"
