"""Which cards a configuration names, whether they fit its uses, and the engines made of them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from agent.config import ModelSection, Settings
from agent.errors import ConfigError
from engines.card import Card
from engines.errors import EngineError
from engines.model import Model, open_model, task_config
from engines.store import ModelStore
from engines.tasks import Options


def find_cards(settings: Settings, store: ModelStore) -> dict[str, tuple[Card, Path]]:
    """Card and folder of every entry of `models:`; checks what uses ask of them.

    Raises ConfigError with every model that is absent, unreadable or unfit for its uses.
    """
    mistakes: list[str] = []
    cards: dict[str, tuple[Card, Path]] = {}
    for name, section in settings.models.items():
        try:
            cards[name] = store.find(section.model)
            task_config(cards[name][0])
            if section.precision not in cards[name][0].files:
                have = ", ".join(cards[name][0].files)
                mistakes.append(f"models.{name}: {section.model} has no {section.precision} file, only {have}")
        except EngineError as error:
            mistakes.append(f"models.{name}: {error}")
    if not mistakes:
        mistakes = [m for camera in settings.cameras for m in _misused(settings, camera, cards)]
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return cards


def _misused(settings: Settings, camera: str, cards: dict[str, tuple[Card, Path]]) -> list[str]:
    """Cascades on models that find no boxes, or on labels that they do not have."""
    mistakes = []
    for index, use in enumerate(settings.cameras[camera].models):
        if use.on is None:
            continue
        at, parent = f"cameras.{camera}.models[{index}]", cards[use.on][0]
        if not task_config(parent).finds_boxes:
            mistakes.append(f"{at}.on: {parent.name} finds no boxes to look at")
        unknown = [label for label in use.labels or () if label not in parent.labels]
        mistakes += [f"{at}.labels: {parent.name} has no label {label!r}" for label in unknown]
    return mistakes


def open_models(settings: Settings, store: ModelStore) -> dict[str, Model]:
    """Compile every entry of `models:`, the machine's cores divided among them, and all at the same time.

    Raises ConfigError for models that are absent, altered or unfit: only the user can mend those.
    """
    cards = find_cards(settings, store)
    opened: dict[str, Model] = {}
    failed: list[str] = []
    share = max(1, len(os.sched_getaffinity(0)) // len(settings.models))
    askers = _askers(settings)

    def build(name: str, section: ModelSection) -> None:
        card, folder = cards[name]
        try:
            opened[name] = open_model(
                card,
                folder,
                section.precision,
                section.backend.shared(share, askers[name]),
                _options(settings, name, card),
            )
        except EngineError as error:
            failed.append(f"models.{name}: {error}")

    builders = [threading.Thread(target=build, args=item, name=f"build-{item[0]}") for item in settings.models.items()]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    if failed:
        for model in opened.values():
            model.close()
        raise ConfigError("\n".join(sorted(failed)))
    return {name: opened[name] for name in settings.models}


def _askers(settings: Settings) -> dict[str, int]:
    """How many pictures each model may be asked about at once: one a live camera, as many as it takes a recording."""
    askers = dict.fromkeys(settings.models, 0)
    for camera in settings.cameras.values():
        for use in camera.models:
            askers[use.use] += 1_000 if camera.source.lossless or use.on is not None else 1
    return askers


def _options(settings: Settings, name: str, card: Card) -> Options:
    """The least threshold that any use asks for: uses with a higher one filter."""
    section = settings.models[name]
    asked = [use.threshold for camera in settings.cameras.values() for use in camera.models if use.use == name]
    lowest = min(threshold_of(section, card), *(t for t in asked if t is not None), 1.0)
    return Options(threshold=lowest, top=section.top)


def threshold_of(section: ModelSection, card: Card) -> float:
    """Of uses that name none: the model entry's, else the card's."""
    return task_config(card).threshold if section.threshold is None else section.threshold
