"""The configuration: one YAML file, and errors that name its lines.

site.yaml:6: cameras.dock.sorce: unknown key, did you mean 'source'?
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationError,
    model_validator,
)

from agent.clips.settings import ClipSection
from agent.durations import Seconds
from agent.errors import ConfigError
from agent.outbox.settings import EventsSection
from agent.remote.settings import CommandsSection
from agent.rules import RuleConfig, line, zone
from agent.sight.settings import REASONS, Blind, BlindSection, Motion
from agent.sinks import SinkConfig
from agent.sinks._address import parse_url
from agent.sinks.mqtt import Config as Mqtt
from agent.snapshots.settings import SnapshotSection
from agent.sources import SourceConfig
from agent.sources._shorthand import from_text
from agent.tracking.settings import TrackSection
from agent.values import Count, Name, Polygon, Region, Score, Section, union_of_parts
from agent.yaml_lines import Located, key_of, parse
from engines.backends import BackendConfig
from engines.card import Precision
from engines.lines import printable
from engines.tiles import Tiles

At = tuple[str | int, ...]
"""Keys and indices that lead to a place in the file."""

_MOST_TOLD = 100
"""Mistakes that are named one by one."""


def _or_by_label(kind: Any) -> Any:
    """One value for all labels, or label -> value for those that are named."""
    return Annotated[
        Annotated[kind, Tag("[all]")] | Annotated[dict[str, kind], Tag("[each]")],
        Discriminator(lambda value: "[each]" if isinstance(value, dict) else "[all]"),
    ]


if TYPE_CHECKING:
    Scores = float | dict[str, float]
    Counts = int | dict[str, int]
else:
    Scores, Counts = _or_by_label(Score), _or_by_label(Count)


def _source(value: object) -> object:
    """A URL, a path, a device or a pipeline instead of a mapping with `type`."""
    return from_text(value) if isinstance(value, str) else value


def _backend(value: object) -> object:
    """A backend's name instead of a mapping with `type`."""
    return {"type": value} if isinstance(value, str) else value


if TYPE_CHECKING:  # the unions are made of whatever parts are installed
    AnySource = SourceConfig
    AnySink = SinkConfig
    AnyBackend = BackendConfig
    AnyRule = RuleConfig
else:
    AnySource = Annotated[union_of_parts("agent.sources", "sightwire.sources"), BeforeValidator(_source)]
    AnySink = union_of_parts("agent.sinks", "sightwire.sinks")
    AnyBackend = Annotated[union_of_parts("engines.backends", "sightwire.backends"), BeforeValidator(_backend)]
    AnyRule = union_of_parts("agent.rules", "sightwire.rules")


class AgentSection(Section):
    """`agent:` who we are."""

    name: Name


class ModelSection(Section):
    """An entry of `models:`, one engine."""

    model: str
    """Name of a model in the store, or path to a card (relative to the configuration)."""
    precision: Precision = "int8"
    backend: AnyBackend = Field(default_factory=lambda: cast(Any, _backend("auto")), validate_default=True)
    threshold: Scores | None = None
    """Least score that is reported, of all labels or of those that are named."""
    top: Counts | None = None
    """At most so many results of a picture; or so many of each label that is named."""
    only: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Labels that are reported at all."""
    iou: Annotated[float, Field(gt=0, le=1)] | None = None
    """Detectors: overlap over which the weaker of two boxes goes; 1: none goes."""
    agnostic: bool | None = None
    """Detectors: whether a box also suppresses boxes of other labels."""
    linger: Seconds = 0.0
    """How long a batch waits for more cameras' frames, where the backend takes batches."""


class UseSection(Section):
    """An entry of a camera's `models:`."""

    use: str
    every: Seconds = 0.0
    roi: Region | None = None
    tiles: Tiles | None = None
    """Look at parts of the picture one by one, for small objects."""
    threshold: Scores | None = None
    max_age: Seconds = 1.0
    """Results of older pictures are dropped, not sent."""
    retain: bool = False
    on: str | None = None
    """Cascade: look at the objects that this other use of the camera finds."""
    labels: list[str] | None = None
    """Cascade: only at objects of these labels."""
    pad: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Cascade: added on each side of the box, as a share of it."""
    max: Annotated[int, Field(gt=0, le=100)] = 8
    """Cascade: objects of one frame, best first."""

    @model_validator(mode="after")
    def _fits_together(self) -> UseSection:
        if self.on is None and (given := self.model_fields_set & {"labels", "pad", "max"}):
            raise ValueError(f"{', '.join(sorted(given))}: only with 'on'")
        if self.on is not None and (given := self.model_fields_set & {"every", "roi", "tiles", "retain", "max_age"}):
            raise ValueError(
                f"{', '.join(sorted(given))}: not with 'on': a cascade looks whenever its parent found something"
            )
        return self


def _use(value: object) -> object:
    return {"use": value} if isinstance(value, str) else value


class CameraSection(Section):
    """An entry of `cameras:`."""

    source: AnySource
    """Cameras whose sources are equal share one connection."""
    crop: Region | None = None
    """The part of the source's picture that is this camera's."""
    models: list[Annotated[UseSection, BeforeValidator(_use)]] = Field(min_length=1)
    weight: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    """Its part of each engine that cannot keep up, against the other cameras' weights."""
    floor: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Pictures a second that each of its uses gets before weights are looked at; 0: none."""
    masks: list[Polygon] = Field(default_factory=list)
    """Polygons, 0 to 1 of the picture, that are black before anything looks at it."""
    track: TrackSection | None = None
    zones: dict[Name, zone.Config] = Field(default_factory=dict)
    """Areas of the picture; what enters, leaves or stays there is told by the tracked use."""
    lines: dict[Name, line.Config] = Field(default_factory=dict)
    rules: dict[Name, AnyRule] = Field(default_factory=dict)
    snapshots: SnapshotSection | None = None
    """Pictures of incidents, where wanted."""
    clips: ClipSection | None = None
    """Clips around incidents, of the stream's own packets."""
    blind: Blind = None
    """Whether the camera still sees is judged from its pictures. Default: of cameras yes, of recordings no."""
    motion: Motion = None
    """`gate`: pictures in which nothing has changed are not looked at."""

    @property
    def blindness(self) -> BlindSection | None:
        """What is judged, if anything is."""
        section = self.blind or (None if self.source.lossless else BlindSection())
        return section if section and any(map(section.watches, REASONS)) else None

    def all_rules(self) -> Iterator[tuple[str, str, RuleConfig]]:
        """Key of the section, name and config of each zone, line and rule, in the order of the file."""
        for section, entries in (("zones", self.zones), ("lines", self.lines), ("rules", self.rules)):
            for name, rule in entries.items():
                yield section, name, rule


class CollectSection(Section):
    """`collect:` of `calibration:`: a sample of what each camera sees is kept."""

    folder: Path
    limit: Annotated[int, Field(gt=0, le=100_000)] = 500
    """Pictures of each camera."""
    every: Seconds = 10.0
    """One frame of each camera is a candidate at most so often."""
    max_mb: Annotated[int, Field(gt=0)] = 2000
    """Of all pictures together."""


class CalibrationSection(Section):
    """`calibration:` what the agent does for it."""

    collect: CollectSection | None = None


@dataclass(frozen=True)
class _Origin:
    """Where settings were read; of no matter for whether two of them are the same."""

    name: str = field(default="", compare=False)
    document: Located | None = field(default=None, compare=False, repr=False)


class Settings(Section):
    """The whole file."""

    agent: AgentSection
    mqtt: Mqtt | None = None
    sinks: list[AnySink] = Field(default_factory=list)
    models: dict[Name, ModelSection] = Field(min_length=1)
    cameras: dict[Name, CameraSection] = Field(min_length=1)
    calibration: CalibrationSection = Field(default_factory=CalibrationSection)
    events: EventsSection = Field(default_factory=EventsSection)
    commands: CommandsSection = Field(default_factory=CommandsSection)
    """What may be asked over MQTT."""
    log: Literal["debug", "info", "warning", "error"] = "info"

    _origin: _Origin = PrivateAttr(default_factory=lambda: _Origin())

    def told(self, mistakes: Iterable[tuple[At, str]]) -> str:
        """A line for each mistake, in their order in the file; without line numbers if this was not read from one."""
        document = self._origin.document
        said = [(document.line(at) if document else 0, f"{_dotted(at)}: {what}") for at, what in mistakes]
        return _sorted(said, self._origin.name) if document else "\n".join(line for _, line in said)

    def connections(self) -> list[list[str]]:
        """Names of the cameras, those with equal sources together: each source is opened once."""
        found: list[list[str]] = []
        for name, section in self.cameras.items():
            for names in found:
                if self.cameras[names[0]].source == section.source:
                    names.append(name)
                    break
            else:
                found.append([name])
        return found

    def all_sinks(self) -> list[SinkConfig]:
        """`mqtt:` and `sinks:` together."""
        return [*([self.mqtt] if self.mqtt else []), *self.sinks]


def load(path: Path) -> Settings:
    """Read and check a configuration. Raises ConfigError with a line for every mistake in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}") from None
    return loads(text, str(path))


def loads(text: str, name: str) -> Settings:
    """As `load`, of a text; `name` is what errors call it."""
    document = parse(text, name)
    try:
        settings = Settings.model_validate(document.value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        # Of a list whose entries are wrong, it is said too that it has too few right ones.
        above = {problem["loc"][:depth] for problem in problems for depth in range(len(problem["loc"]))}
        told = [p for p in problems if not (p["type"] == "too_short" and p["loc"] in above)]
        lines = [_explain(document, problem) for problem in told[:_MOST_TOLD]]
        more = len(told) - len(lines)
        last = f"\n{name}:{max(line for line, _ in lines)}: and {more} mistakes more" if more else ""
        raise ConfigError(_sorted(lines, name) + last) from None
    settings._origin = _Origin(name, document)
    if mistakes := list(_cross_check(settings)):
        raise ConfigError(settings.told(mistakes))
    return settings


def _sorted(lines: list[tuple[int, str]], name: str) -> str:
    return "\n".join(f"{name}:{line}: {printable(what)}" for line, what in sorted(lines))


def _dotted(at: tuple[Any, ...]) -> str:
    dotted = ""
    for part in at:
        dotted += f"[{part}]" if isinstance(part, int) else f".{key_of(part)}" if dotted else key_of(part)
    return dotted or "configuration"


def _explain(document: Located, problem: Any) -> tuple[int, str]:
    """Line, and the mistake in the file's own words."""
    kind, message = problem["type"], problem["msg"].removeprefix("Value error, ")
    at = document.real_path(problem["loc"], missing=kind == "missing")
    context = problem.get("ctx", {})
    if kind == "extra_forbidden":
        message = _unknown("key", str(at[-1]), _keys_at(problem["loc"][:-1]))
    elif kind == "missing":
        message = "is missing"
    elif kind == "union_tag_not_found":
        message = "needs a 'type'"
    elif kind == "union_tag_invalid":
        known = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
        message = _unknown("type", str(context["tag"]), known)
    elif kind == "literal_error":
        message = f"expected {context['expected']}"
    elif kind in ("model_type", "model_attributes_type", "dict_type"):
        message = "expected a mapping of keys"
    message = message.removeprefix("Tuple ").removeprefix("List ").replace(" after validation, not ", ", not ")
    return document.line(at), f"{_dotted(at)}: {message[:1].lower()}{message[1:]}"


def _unknown(what: str, given: str, known: list[str]) -> str:
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    return (
        f"unknown {what}, did you mean {near[0]!r}?" if near else f"unknown {what}; known: {', '.join(sorted(known))}"
    )


def _keys_at(location: tuple[Any, ...]) -> list[str]:
    """Keys of the mapping at a pydantic location, found by walking the sections' types."""
    kinds: list[Any] = [Settings]
    named = False
    for part in location:
        if named:  # the name of an entry, which may be a type's as well
            named = False
            continue
        named = any(
            get_origin(kind.model_fields[part].annotation) is dict for kind in kinds if part in kind.model_fields
        )
        kinds = [after for kind in kinds for after in _step(kind, part)]
    return sorted({field.alias or name for kind in kinds for name, field in kind.model_fields.items()})


def _step(kind: type[BaseModel], part: object) -> Iterator[type[BaseModel]]:
    """The sections that lie under a key of a section; indices and tags of unions lead nowhere new."""
    field = kind.model_fields.get(part) if isinstance(part, str) else None
    if field is None:
        tag = kind.model_fields.get("type")
        if not isinstance(part, str) or tag is None or part in getattr(tag.annotation, "__args__", ()):
            yield kind
        return
    yield from _sections(field.annotation)


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _sections(inner)


def _cross_check(settings: Settings) -> Iterator[tuple[At, str]]:
    """Mistakes that no single section can see: where, and what."""
    yield from _same_client(settings)
    for camera, section in settings.cameras.items():
        if section.clips is not None and (reason := _without_clips(section)):
            yield ("cameras", camera, "clips"), reason
        parents = {use.use for use in section.models if use.on is None}
        seen: set[str] = set()
        for index, use in enumerate(section.models):
            at: At = ("cameras", camera, "models", index)
            if use.use not in settings.models:
                yield (*at, "use"), _unknown("model", use.use, list(settings.models))
            if use.use in seen:
                yield at, f"{use.use!r} is used twice on this camera; give the second one its own entry under models:"
            seen.add(use.use)
            if use.on is None:
                continue
            if use.on == use.use:
                yield (*at, "on"), "a cascade cannot look at its own objects"
            elif use.on not in parents:
                yield (
                    (*at, "on"),
                    _unknown("use", use.on, sorted(parents)) + " (a cascade stands on a use without 'on')",
                )
        for where, what in _wrong_rules(section):
            yield ("cameras", camera, *where), what


def _same_client(settings: Settings) -> Iterator[tuple[At, str]]:
    """Two sinks of one name at one broker: each would end the other's connection, for ever."""
    named: set[tuple[str, int, str]] = set()
    places: list[tuple[At, SinkConfig | None]] = [(("mqtt",), settings.mqtt)]
    places += [(("sinks", index), sink) for index, sink in enumerate(settings.sinks)]
    for at, sink in places:
        if isinstance(sink, Mqtt) and sink.client_id != "":
            address = parse_url(sink.url)
            client = address.host.lower(), address.port, sink.client_name(settings.agent.name)
            if client in named:
                yield at, f"there is a sink called {client[2]!r} at this broker already: give this one a client_id"
            named.add(client)


def _wrong_rules(camera: CameraSection) -> Iterator[tuple[At, str]]:
    """Mistakes of tracking, zones, lines and rules of one camera."""
    uses = {use.use: use.on for use in camera.models}
    tracked = camera.track.use if camera.track else None
    followed = camera.track.labels if camera.track else None
    if tracked is not None and (wrong := _no_use(uses, tracked, "its objects cannot be followed")):
        yield ("track", "use"), wrong
    named: dict[str, str] = {}
    for section, name, rule in camera.all_rules():
        if name in named:
            yield (
                (section, name),
                f"there is {named[name]}.{name} already: zones, lines and rules of a camera need different names",
            )
        named.setdefault(name, section)
        use = rule.looks_at
        if use is not None and (wrong := _no_use(uses, use, "a rule cannot look at it")):
            yield (section, name, "use"), wrong
        if tracked is None and rule.needs_tracks:
            yield (section, name), f"needs to know who is who: add 'track: {{use: {next(iter(uses))}}}' to this camera"
        elif tracked is None and use is None:
            yield (section, name), "which use does it look at? Give it 'use:'"
        if followed is not None and use in (None, tracked):
            for label in rule.labels or ():
                if label not in followed:
                    yield (
                        (section, name, "labels"),
                        f"{label!r} is not followed: track.labels are {', '.join(followed)}",
                    )


def _no_use(uses: dict[str, str | None], use: str, therefore: str) -> str | None:
    """Why a camera with these uses (and what they stand on) has none of that name to look at."""
    if use not in uses:
        return _unknown("use", use, list(uses)) + " (a use is one of this camera's models)"
    return f"{use!r} is a cascade: {therefore}" if uses[use] is not None else None


def _without_clips(section: CameraSection) -> str | None:
    """Why a camera cannot have clips."""
    for key, hidden in (("masks", section.masks), ("crop", section.crop)):
        if hidden:
            return f"not with '{key}': a clip is made of the stream's own packets, which show all of the picture"
    if section.source.isolated:
        return "not with 'isolated': the stream's packets stay in its source's process"
    if not section.source.has_packets:
        kind = getattr(section.source, "type", "this")
        return f"a source of type {kind!r} hands on pictures, not a stream's packets; 'rtsp' and 'file' have them"
    return None
