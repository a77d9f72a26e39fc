"""What differs between two configurations, part by part: what a running agent must begin anew, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from agent.config import CameraSection, ModelSection, Settings
from agent.sinks import SinkConfig

_T = TypeVar("_T")

PARTS = ("mqtt", "sinks", "models", "cameras", "calibration", "events", "commands", "log")
"""Sections that are compared part by part; what others say holds for the whole agent."""

ENGINE = ("model", "precision", "backend", "linger")
"""What an engine is made of, and how it takes its work."""
ASKED = ("threshold", "top", "only", "iou", "agnostic")
"""What is made of an engine's output: needs no other engine."""
SEEN = ("model", "threshold", "only")
"""What the uses of a camera know of a model's entry."""


@dataclass(frozen=True)
class Difference:
    """Of the entries of a mapping: names."""

    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True)
class Changes:
    """From one configuration to the next. Without any it is false."""

    everything: tuple[str, ...] = ()
    """Keys whose change leaves nothing as it is."""
    models: Difference = Difference()
    """Entries of `models:` whose engine is another one."""
    asked: frozenset[str] = frozenset()
    """Those that stay, and of whose output something else is made."""
    cameras: Difference = Difference()
    """`changed`: made anew, their connection is perhaps not."""
    connections: frozenset[str] = frozenset()
    """Cameras, of those that were there before, whose connection is another one."""
    sinks_added: tuple[SinkConfig, ...] = ()
    sinks_removed: tuple[SinkConfig, ...] = ()
    """Of each changed sink the old configuration is removed, and the new one added."""
    events: bool = False
    commands: bool = False
    collect: bool = False
    """The collector: it divides its room among the cameras."""
    log: bool = False

    def __bool__(self) -> bool:
        return self != Changes()


def between(
    before: Settings, after: Settings, remade: Collection[str] = (), renewed: Collection[SinkConfig] = ()
) -> Changes:
    """What is to be done to get from one to the other.

    Though the configuration calls them the same, these are others now: `remade`, the models of these entries of
    `models:`; `renewed`, what these sinks were opened with.
    """
    stay = before.cameras.keys() & after.cameras.keys()
    connections = frozenset(name for name in stay if _reconnects(before, after, name))
    models = _difference(
        before.models,
        after.models,
        lambda name: name not in remade and _same(ENGINE, before.models[name], after.models[name]),
    )
    cameras = _difference(
        before.cameras,
        after.cameras,
        lambda name: name not in connections and _same_camera(before, after, name, remade),
    )
    added, removed = _sinks(before, after, renewed)
    still = (before.models.keys() & after.models.keys()) - models.changed
    return Changes(
        everything=tuple(_everything(before, after)),
        models=models,
        asked=frozenset(name for name in still if _asks(before, after, name)),
        cameras=cameras,
        connections=connections,
        sinks_added=added,
        sinks_removed=removed,
        events=before.events != after.events,
        commands=before.commands != after.commands,
        collect=before.calibration != after.calibration
        or bool(after.calibration.collect and (cameras.added or cameras.removed)),
        log=before.log != after.log,
    )


def kept_connections(before: Settings, after: Settings) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Cameras that share a connection -> those that share it from now on, of all connections that can stay.

    One can if its source is the same, one of its cameras stays, and the same ones want clips of its packets in the same
    way: clips begin with a stream's beginning.
    """
    wanted = [tuple(names) for names in after.connections()]
    kept: dict[tuple[str, ...], tuple[str, ...]] = {}
    for names in map(tuple, before.connections()):
        for now in wanted:
            same = bool(set(names) & set(now)) and before.cameras[names[0]].source == after.cameras[now[0]].source
            if same and _clips(before, names) == _clips(after, now):
                kept[names] = now
    return kept


def _everything(before: Settings, after: Settings) -> Iterable[str]:
    others = [key for key in Settings.model_fields if key not in PARTS]
    yield from (key for key in others if getattr(before, key) != getattr(after, key))
    if before.events.path != after.events.path:
        yield "events.path"


def _difference(before: Mapping[str, _T], after: Mapping[str, _T], same: Any) -> Difference:
    return Difference(
        frozenset(after.keys() - before.keys()),
        frozenset(before.keys() - after.keys()),
        frozenset(name for name in before.keys() & after.keys() if not same(name)),
    )


def _same(keys: Iterable[str], one: ModelSection, other: ModelSection) -> bool:
    return all(getattr(one, key) == getattr(other, key) for key in keys)


def _same_camera(before: Settings, after: Settings, name: str, remade: Collection[str]) -> bool:
    one, other = before.cameras[name], after.cameras[name]
    return one == other and all(
        use.use not in remade and _same(SEEN, before.models[use.use], after.models[use.use]) for use in one.models
    )


def _asks(before: Settings, after: Settings, name: str) -> bool:
    """Whether something else is made of that model's output: by its entry, or because uses or trackers want more."""
    if not _same(ASKED, before.models[name], after.models[name]):
        return True
    return _wishes(before, name) != _wishes(after, name)


def _wishes(settings: Settings, name: str) -> frozenset[str]:
    """What the uses of a model ask of it. Text, for thresholds are mappings; the same wish twice is one."""
    return frozenset(
        repr((_in_order(use.threshold), _followed(camera, name)))
        for camera in settings.cameras.values()
        for use in camera.models
        if use.use == name and (use.threshold is not None or _followed(camera, name))
    )


def _in_order(threshold: Any) -> Any:
    return sorted(threshold.items()) if isinstance(threshold, dict) else threshold


def _followed(camera: CameraSection, name: str) -> Any:
    """What a tracker says of how weak detections may be."""
    track = camera.track
    return (track.weak, track.strong, track.labels) if track and track.use == name else None


def _reconnects(before: Settings, after: Settings, name: str) -> bool:
    """Whether the camera's connection does not stay with it."""
    return not any(name in names and name in now for names, now in kept_connections(before, after).items())


def _clips(settings: Settings, names: Iterable[str]) -> list[tuple[str, Any]]:
    return [(name, clips) for name in sorted(names) if (clips := settings.cameras[name].clips) is not None]


def _sinks(
    before: Settings, after: Settings, renewed: Collection[SinkConfig]
) -> tuple[tuple[SinkConfig, ...], tuple[SinkConfig, ...]]:
    """Added and removed; all of them where there is nobody left to obey: a sink that listens does so to its end."""
    left, added = before.all_sinks(), []
    if before.commands.allow and not after.commands.allow:
        return tuple(after.all_sinks()), tuple(left)
    for sink in after.all_sinks():
        if sink in left and sink not in renewed:
            left.remove(sink)
        else:
            added.append(sink)
    return tuple(added), tuple(left)
