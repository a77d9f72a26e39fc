"""The cameras of an agent: each made of its section, its models' engines, and what keeps its events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from agent.camera import Camera
from agent.collecting import Candidates
from agent.config import CameraSection, Settings, UseSection
from agent.events import Events
from agent.every import Every
from agent.flow import Share
from agent.models import reported_from, thresholds_of, weak_of
from agent.publishing import Outlets
from agent.sight.motion import Gate
from agent.sight.sight import Sight
from agent.supervision.engines import Engines
from agent.uses import Cascade, Use
from agent.view import View


class Cameras(Mapping[str, Camera]):
    """All of them, by name."""

    def __init__(self, engines: Engines, outlets: Outlets, on_state: Callable[[], None]) -> None:
        self._engines, self._outlets, self._on_state = engines, outlets, on_state
        self._all: dict[str, Camera] = {}
        """Replaced, never changed: others look at it."""

    def __getitem__(self, name: str) -> Camera:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def put(self, camera: Camera) -> None:
        """From now on this one has its name."""
        self._all = {**self._all, camera.name: camera}

    def remove(self, name: str) -> Camera:
        """Nothing has that name any more; the camera that had it."""
        gone = self._all[name]
        self._all = {other: camera for other, camera in self._all.items() if other != name}
        return gone

    def use_engines(self, settings: Settings) -> None:
        """Have all of them ask the engines that are at work now, which report what this configuration says."""
        for camera in self.values():
            for name, use in camera.uses_by_name.items():
                engine = self._engines[name]
                use.mailbox = engine.mailbox
                use.floor = reported_from(settings, name, engine.model.card)

    def build(self, settings: Settings, name: str, events: Events, candidates: Candidates | None) -> Camera:
        """Make the camera of that name, which nothing knows yet. `candidates`: takes pictures for calibration."""
        section = settings.cameras[name]
        uses = {entry.use: self._use(settings, section, entry) for entry in section.models}
        for entry in section.models:
            if entry.on is not None:
                parent, child = uses[entry.on], uses[entry.use]
                wanted = None if entry.labels is None else frozenset(parent.labels.index(x) for x in entry.labels)
                child.max_age_ns = parent.max_age_ns
                parent.cascades.append(Cascade(child, wanted, entry.pad, entry.max))
        album = events.snapshots.album(name, section.snapshots) if section.snapshots else None
        return Camera(
            settings.agent.name,
            name,
            section.source.label,
            [uses[entry.use] for entry in section.models if entry.on is None],
            self._outlets,
            watch=events.watch(name, uses, album),
            view=View(section.crop, section.masks),
            sight=Sight(section.blindness, section.crop, section.masks) if section.blindness else None,
            gate=Gate(section.motion, section.crop, section.masks) if section.motion else None,
            candidates=candidates,
            album=album,
            lossless=section.source.lossless,
            on_state=self._on_state,
        )

    def _use(self, settings: Settings, camera: CameraSection, entry: UseSection) -> Use:
        engine = self._engines[entry.use]
        section, card = settings.models[entry.use], engine.model.card
        return Use(
            name=entry.use,
            labels=card.labels,
            mailbox=engine.mailbox,
            every=Every(round(entry.every * 1e9)),
            roi=entry.roi,
            tiles=entry.tiles,
            thresholds=thresholds_of(section, card, entry),
            weak=weak_of(section, card, camera, entry),
            max_age_ns=round(entry.max_age * 1e9),
            share=Share(camera.weight, camera.floor),
            retain=entry.retain,
            floor=reported_from(settings, entry.use, card),
            predict=camera.track is not None and camera.track.use == entry.use and camera.track.predict,
        )
