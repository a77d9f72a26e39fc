"""What network cameras' settings mean for those who supervise them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from agent.config import AnySource
from agent.errors import ConfigError
from agent.sources import SourceConfig
from tests.support.agents import fake_model, settings_of
from tests.support.faulty import KINDS, Kind, source_of


def source(settings: dict[str, Any]) -> SourceConfig:
    config: SourceConfig = TypeAdapter(AnySource).validate_python(settings)
    return config


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_is_told_within_five_seconds_unless_more_is_normal(kind: Kind) -> None:
    times = source(source_of(kind, 554, "x")).times
    assert times is not None
    assert times.picture_s < 5
    patient = source({**source_of(kind, 554, "x"), "expect": "1m"}).times
    assert patient is not None
    assert patient.picture_s == 60


def test_what_is_normal_for_a_snapshot_follows_from_how_often_it_is_asked_for() -> None:
    times = source({"type": "snapshot", "url": "http://cam/snap.jpg", "every": "1m"}).times
    assert times is not None
    assert 60 < times.picture_s < 65


@pytest.mark.parametrize(
    "settings",
    [
        "clip.mp4",
        "pictures/",
        {"type": "opencv", "path": "clip.mp4"},
        {"type": "gstreamer", "pipeline": "filesrc ! decodebin", "pace": "lossless"},
    ],
)
def test_nobody_hurries_a_recording(settings: Any) -> None:
    assert source(settings).times is None


def test_a_webcam_has_no_silence_that_is_normal() -> None:
    camera = {"source": {"type": "opencv", "device": 0, "expect": "1m"}, "models": ["c"]}
    with pytest.raises(ConfigError, match="expect: only with url"):
        settings_of(models={"c": fake_model("classes")}, cameras={"a": camera})
