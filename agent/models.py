"""Which cards a configuration names, whether they fit its uses, and the engines made of them."""

from __future__ import annotations

import difflib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.config import At, CameraSection, ModelSection, Settings, UseSection
from agent.errors import ConfigError
from engines.backends import BackendConfig
from engines.card import Card, Precision
from engines.errors import EngineError
from engines.model import Model, open_model, task_config
from engines.results import Classification, Detections
from engines.store import ModelStore
from engines.tasks import Options, Task
from engines.tasks.limits import thresholds


def find_cards(settings: Settings, store: ModelStore) -> dict[str, tuple[Card, Path]]:
    """Card and folder of every entry of `models:`; checks what uses ask of them.

    Raises ConfigError with every model that is absent, unreadable or unfit for its uses.
    """
    mistakes: list[tuple[At, str]] = []
    cards: dict[str, tuple[Card, Path]] = {}
    for name, section in settings.models.items():
        try:
            cards[name] = store.find(section.model)
            card = cards[name][0]
            task_config(card).open(card.labels, _options(section, card))
            if section.precision not in card.files:
                have = ", ".join(card.files)
                mistakes.append((("models", name), f"{section.model} has no {section.precision} file, only {have}"))
        except EngineError as error:
            mistakes.append((("models", name), str(error)))
    if not mistakes:
        mistakes = [m for camera in settings.cameras for m in _misused(settings, camera, cards)]
    if mistakes:
        raise ConfigError(settings.told(mistakes))
    return cards


def _misused(settings: Settings, camera: str, cards: dict[str, tuple[Card, Path]]) -> Iterator[tuple[At, str]]:
    """Cascades, tiles and rules of models that find something else, and labels that they do not have."""
    section = settings.cameras[camera]
    for index, use in enumerate(section.models):
        at: At = ("cameras", camera, "models", index)
        card = cards[use.use][0]
        try:
            thresholds_of(settings.models[use.use], card, use)
        except EngineError as error:
            yield at, str(error)
        if use.tiles is not None and not task_config(card).finds_boxes:
            yield (*at, "tiles"), f"{card.name} finds no boxes to put together"
        if use.on is None:
            continue
        parent = cards[use.on][0]
        if not task_config(parent).finds_boxes:
            yield (*at, "on"), f"{parent.name} finds no boxes to look at"
        for mistake in _no_labels(settings, use.on, parent, use.labels):
            yield (*at, "labels"), mistake
    if section.track:
        at, card = ("cameras", camera, "track"), cards[section.track.use][0]
        if not task_config(card).finds_boxes:
            yield (*at, "use"), f"{card.name} finds no boxes to follow"
        for mistake in _no_labels(settings, section.track.use, card, section.track.labels):
            yield (*at, "labels"), mistake
    for kind, name, rule in section.all_rules():
        looks_at = rule.looks_at or (section.track.use if section.track else None)
        if looks_at is None:
            continue
        at, card = ("cameras", camera, kind, name), cards[looks_at][0]
        found = Detections if task_config(card).finds_boxes else Classification
        if found not in rule.understands and rule.looks_at is not None:
            wanted = " or ".join(_SAID[kind] for kind in rule.understands)
            yield (*at, "use"), f"{card.name} finds {_SAID[found]}; this rule is for {wanted}"
        for mistake in _no_labels(settings, looks_at, card, rule.labels):
            yield (*at, "labels"), mistake


_SAID = {Detections: "objects", Classification: "classes of the whole picture"}


def _no_labels(settings: Settings, name: str, card: Card, labels: Iterable[str] | None) -> Iterator[str]:
    """Which of these that entry of `models:` never reports, and what may have been meant."""
    only = settings.models[name].only
    for label in labels or ():
        if label not in card.labels:
            near = difflib.get_close_matches(label, card.labels, n=1)
            yield f"{card.name} has no label {label!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        elif only is not None and label not in only:
            yield f"models.{name} is to report {', '.join(only)} only, not {label!r}"


@dataclass(frozen=True)
class ModelOrder:
    """An entry of `models:` as it is opened, and opened again: with its share of the machine, and what its uses ask."""

    card: Card
    folder: Path
    precision: Precision
    backend: BackendConfig
    options: Options

    def open(self, backend: BackendConfig | None = None, *, serve: bool) -> Model:
        """Compile it, for that backend or its own; see `open_model`, also for what is raised."""
        backend = backend or self.backend
        return open_model(self.card, self.folder, self.precision, backend, self.options, serve=serve)

    def task(self) -> Task:
        """What makes results of its engine's output. Raises CardError."""
        return task_config(self.card).open(self.card.labels, self.options)


def order_models(settings: Settings, store: ModelStore) -> dict[str, ModelOrder]:
    """What is to be opened, the machine's cores divided among the entries. Raises ConfigError."""
    cards = find_cards(settings, store)
    share = max(1, len(os.sched_getaffinity(0)) // max(1, len(settings.models)))
    askers = _askers(settings)
    return {
        name: ModelOrder(
            *cards[name],
            section.precision,
            section.backend.shared(share, askers[name]),
            _options(section, cards[name][0], _wanted(settings, name, cards[name][0])),
        )
        for name, section in settings.models.items()
    }


def open_models(settings: Settings, store: ModelStore, *, serve: bool = False) -> dict[str, Model]:
    """`order_models`, opened. Raises ConfigError."""
    return open_orders(settings, order_models(settings, store), serve=serve)


def open_orders(settings: Settings, orders: Mapping[str, ModelOrder], *, serve: bool = False) -> dict[str, Model]:
    """Compile each of these entries of `models:`, all at the same time.

    `serve`: an agent wants engines that answer at once, a measurement those that were asked for (`open_model`).
    Raises ConfigError for models that are absent, altered or unfit: only the user can mend those.
    """
    opened: dict[str, Model] = {}
    failed: list[tuple[At, str]] = []
    unexpected: list[Exception] = []

    def build(name: str, order: ModelOrder) -> None:
        try:
            opened[name] = order.open(serve=serve)
        except EngineError as error:
            failed.append((("models", name), str(error)))
        except Exception as error:  # noqa: BLE001  # of a thread, it would be lost
            unexpected.append(error)

    builders = [threading.Thread(target=build, args=item, name=f"build-{item[0]}") for item in orders.items()]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    if failed or unexpected:
        for model in opened.values():
            model.close()
        if unexpected:
            raise unexpected[0]
        raise ConfigError(settings.told(failed))
    return {name: opened[name] for name in orders}


def _askers(settings: Settings) -> dict[str, int]:
    """How many pictures each model may be asked about at once: one a live camera, as many as it takes a recording."""
    askers = dict.fromkeys(settings.models, 0)
    for camera in settings.cameras.values():
        for use in camera.models:
            many = camera.source.lossless or use.on is not None or use.tiles is not None
            askers[use.use] += 1_000 if many else 1
    return askers


def _wanted(settings: Settings, name: str, card: Card) -> list[NDArray[np.float32]]:
    """(C,) least score of each label that each use of the model wants to see, for itself or for a tracker."""
    return [
        weak
        for camera in settings.cameras.values()
        for use in camera.models
        if use.use == name
        for weak in (thresholds_of(settings.models[name], card, use), weak_of(settings.models[name], card, camera, use))
        if weak is not None
    ]


def reported_from(settings: Settings, name: str, card: Card) -> NDArray[np.float32]:
    """Least score of each label that the model reports to anybody, (C,); infinite for those that it does not report."""
    section = settings.models[name]
    least = _least(section, card, _wanted(settings, name, card))
    if section.only is not None:
        least[[label not in section.only for label in card.labels]] = np.inf
    return least


def _least(section: ModelSection, card: Card, wanted: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The least threshold that any use asks for, label by label: uses with higher ones filter. Raises CardError."""
    least: NDArray[np.float32] = np.min([thresholds_of(section, card), *wanted], axis=0)
    return least


def _options(section: ModelSection, card: Card, wanted: Sequence[NDArray[np.float32]] = ()) -> Options:
    """What the model's task is asked for. Raises CardError."""
    least = _least(section, card, wanted).tolist()
    return Options(
        threshold=least[0] if len(set(least)) == 1 else dict(zip(card.labels, least, strict=True)),
        top=section.top,
        only=section.only,
        iou=section.iou,
        agnostic=section.agnostic,
    )


def thresholds_of(section: ModelSection, card: Card, use: UseSection | None = None) -> NDArray[np.float32]:
    """Least score of each of the card's labels, (C,): the use's own, else the model entry's, else the card's.

    Raises CardError for a label that the card has not.
    """
    return thresholds(card.labels, task_config(card).threshold, section.threshold, use.threshold if use else None)


def weak_of(section: ModelSection, card: Card, camera: CameraSection, use: UseSection) -> NDArray[np.float32] | None:
    """(C,) least score of each label that the camera's tracker wants to see of a use; None: it follows another one."""
    if camera.track is None or camera.track.use != use.use:
        return None
    return camera.track.weakest(card.labels, thresholds_of(section, card, use))
