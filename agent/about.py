"""What an agent is set up for, for those who must know labels and names before the first result."""

from __future__ import annotations

from collections.abc import Mapping

import agent
from agent.config import CameraSection, Settings
from agent.messages import AboutPayload, CameraAbout, UseAbout
from agent.results import CONTENTS
from engines.card import Card
from engines.model import task_config
from engines.results import Classification, Detections


def about(settings: Settings, cards: Mapping[str, Card]) -> AboutPayload:
    """Of a configuration and the card of each of its `models:`."""
    return AboutPayload.model_construct(
        schema_="sightwire.about/1",
        agent=settings.agent.name,
        version=agent.__version__,
        cameras={name: _camera(settings, section, cards) for name, section in settings.cameras.items()},
    )


def _camera(settings: Settings, section: CameraSection, cards: Mapping[str, Card]) -> CameraAbout:
    uses: dict[str, UseAbout] = {}
    for use in section.models:
        card, only = cards[use.use], settings.models[use.use].only
        kind = Detections if task_config(card).finds_boxes else Classification
        uses[use.use] = UseAbout.model_construct(
            task=CONTENTS[kind].topic,
            model=f"{card.name}@{settings.models[use.use].precision}",
            labels=[label for label in card.labels if only is None or label in only],
            on=use.on,
        )
    track = section.track
    labels = uses[track.use].labels if track else []
    return CameraAbout.model_construct(
        uses=uses,
        tracked=track.use if track else None,
        track_labels=[label for label in labels if not track or track.labels is None or label in track.labels],
        zones=list(section.zones),
        lines=list(section.lines),
        rules={name: str(getattr(rule, "type", "")) for name, rule in section.rules.items()},
        snapshots=bool(section.snapshots and section.snapshots.publish),
    )
