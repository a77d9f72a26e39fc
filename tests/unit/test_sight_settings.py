"""`blind:` and `motion:` of a camera, as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from agent.config import CameraSection, loads
from agent.errors import ConfigError
from agent.sight.settings import REASONS, BlindSection, MotionSection

SITE = """\
agent: {{name: a}}
models: {{m: {{model: person-ssdlite}}}}
cameras:
  dock:
    source: {source}
    models: [m]
    {more}
"""
LIVE, RECORDING = "rtsp://10.0.0.7/stream1", "film.mp4"


def dock(more: str = "", source: str = LIVE) -> CameraSection:
    return loads(SITE.format(source=source, more=more), "site.yaml").cameras["dock"]


def test_cameras_are_judged_and_recordings_only_if_that_is_asked_for() -> None:
    assert dock().blindness == BlindSection()
    assert dock("blind: off").blindness is None
    assert dock(source=RECORDING).blindness is None
    assert dock("blind: on", RECORDING).blindness == BlindSection()
    assert dock("blind: {after: 1s}", RECORDING).blindness == BlindSection(after=1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{moved: off, black: off, after: 20s}", {"moved": False, "black": False, "after": 20.0}),
        ("{frozen: off}", {"frozen": False}),
        ("{frozen: learned}", {"frozen": "learned"}),
        ("{frozen: on}", {"frozen": "learned"}),
        ("{frozen: 30s}", {"frozen": 30.0}),
        ("{accept: 1h}", {"accept": 3600.0}),
    ],
)
def test_each_reason_has_a_switch(text: str, said: dict[str, Any]) -> None:
    section = dock(f"blind: {text}").blindness
    assert section is not None
    assert {key: getattr(section, key) for key in said} == said
    assert [r for r in REASONS if not section.watches(r)] == [key for key in REASONS if said.get(key) is False]


def test_with_all_switched_off_nothing_is_judged() -> None:
    assert dock("blind: {" + ", ".join(f"{reason}: off" for reason in REASONS) + "}").blindness is None


def test_motion_is_a_word_or_a_section() -> None:
    assert dock().motion is None
    assert dock("motion: off").motion is None
    assert dock("motion: gate").motion == MotionSection()
    assert dock("motion: {heartbeat: 30s}").motion == MotionSection(heartbeat=30)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("blind: {mved: off}", "site.yaml:7: cameras.dock.blind.mved: unknown key, did you mean 'moved'?"),
        ("blind: {after: 0s}", "site.yaml:7: cameras.dock.blind.after: input should be greater than or equal to 1"),
        ("blind: maybe", "site.yaml:7: cameras.dock.blind: expected 'on', 'off' or a mapping of keys"),
        ("motion: gates", "site.yaml:7: cameras.dock.motion: expected 'gate', 'off' or a mapping of keys"),
        ("motion: {hartbeat: 3s}", "site.yaml:7: cameras.dock.motion.hartbeat: unknown key, did you mean 'heartbeat'?"),
        *(
            (
                f"blind: {{frozen: {patience}}}",
                "site.yaml:7: cameras.dock.blind.frozen: expected 'learned', 'off' or a duration of 1s or more",
            )
            for patience in ("sometimes", "0", "500ms", "null", "[]")
        ),
    ],
)
def test_mistakes_are_told_with_their_line(more: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        dock(more)
    assert str(caught.value) == told
