"""The configuration: what a user writes, and what is said of every mistake."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import Settings, loads
from agent.errors import ConfigError

GOOD = """\
agent: {name: gatehouse}
mqtt: {url: mqtts://broker:8883, username: cam, password: credential:mqtt}
models:
  people: {model: person-ssdlite}
  ppe: {model: helmets, backend: {type: openvino, threads: 2}}
  scene: {model: efficientnet-lite0}
cameras:
  dock:
    source: rtsp://10.0.0.7/stream1
    models:
      - people
      - {use: scene, every: 1s, roi: [0, 0.4, 1, 1]}
      - {use: ppe, on: people, labels: [person], pad: 0.1, max: 8}
    masks: [[[0, 0], [0.2, 0], [0.2, 0.3], [0, 0.3]]]
  street: {source: {type: file, path: x.mp4, pace: live, loop: true}, models: [people]}
calibration: {collect: {folder: /var/lib/sightwire/collected, limit: 300, every: 1m}}
"""


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(text, "site.yaml")
    return str(caught.value).splitlines()


def test_the_example_of_the_contract_is_understood() -> None:
    settings = loads(GOOD, "site.yaml")
    dock = settings.cameras["dock"]
    assert dock.source.label == "rtsp://10.0.0.7/stream1"
    assert [use.use for use in dock.models] == ["people", "scene", "ppe"]
    assert dock.models[1].every == 1.0
    assert dock.models[2].on == "people"
    assert settings.cameras["street"].source.lossless is False
    assert settings.models["people"].precision == "int8"
    assert settings.calibration.collect is not None
    assert (settings.calibration.collect.limit, settings.calibration.collect.every) == (300, 60.0)


def test_no_picture_is_kept_unless_asked() -> None:
    assert loads(GOOD[: GOOD.index("calibration:")], "site.yaml").calibration.collect is None


def test_a_misspelt_key_is_named_with_line_and_nearest_key() -> None:
    assert mistakes(GOOD.replace("    source: rtsp", "    sorce: rtsp")) == [
        "site.yaml:8: cameras.dock.source: is missing",
        "site.yaml:9: cameras.dock.sorce: unknown key, did you mean 'source'?",
    ]


def test_all_mistakes_are_told_at_once_in_the_order_of_lines() -> None:
    text = (
        GOOD.replace("name: gatehouse", "name: Gate House")
        .replace("every: 1s", "every: soon")
        .replace("threads: 2", "thread: 2")
    )
    assert [line.split(": ")[0] for line in mistakes(text)] == ["site.yaml:1", "site.yaml:5", "site.yaml:12"]
    assert "models.ppe.backend.thread: unknown key, did you mean 'threads'?" in mistakes(text)[1]
    assert "cameras.dock.models[1].every: expected a duration" in mistakes(text)[2]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("type: file", "type: flie", "cameras.street.source: unknown type, did you mean 'file'?"),
        ("      - people", "      - poeple", "unknown model, did you mean 'people'?"),
        ("on: people", "on: scene2", "did you mean 'scene'?"),
        ("on: people", "on: ppe", "a cascade cannot look at its own objects"),
        ("[0, 0.4, 1, 1]", "[0.5, 0.4, 0.5, 1]", "left less than right"),
        ("[0, 0.4, 1, 1]", "[0, 0.4, 1, 2]", "less than or equal to 1"),
        ("name: gatehouse", "name: status", "'status' is a reserved word"),
        ("mqtts://broker:8883", "http://broker", "not a broker URL"),
        (
            "calibration:",
            "sinks: [{type: mqtt, url: mqtts://Broker}]\ncalibration:",
            "already: give this one a client_id",
        ),
        ("rtsp://10.0.0.7/stream1", "gopher://x", "unknown kind of URL, gopher://: expected one of rtsp, rtsps, rtmp"),
        ("rtsp://10.0.0.7/stream1", "rtsp:///stream1", "expected SCHEME://HOST"),
        ("on: people, ", "", "only with 'on'"),
        ("      - people\n", "      - people\n      - people\n", "used twice on this camera"),
        ("[0.2, 0], [0.2, 0.3], [0, 0.3]", "[0.2, 0]", "at least 3 items"),
        ("model: helmets, ", "", "models.ppe.model: is missing"),
        ("model: helmets, ", "model: helmets, threshold: 2, ", "models.ppe.threshold: input should be less than 1"),
        ("model: helmets, ", "model: helmets, threshold: {hat: 2}, ", "ppe.threshold.hat: input should be less"),
        ("pace: live", "pace: slow", "expected 'lossless' or 'live'"),
        ("collect: {", "colect: {", "site.yaml:16: calibration.colect: unknown key, did you mean 'collect'?"),
        ("limit: 300", "limits: 300", "calibration.collect.limits: unknown key, did you mean 'limit'?"),
        ("limit: 300", "limit: 0", "calibration.collect.limit: input should be greater than 0"),
        ("every: 1m", "every: often", "calibration.collect.every: expected a duration"),
        ("folder: /var/lib/sightwire/collected, ", "", "calibration.collect.folder: is missing"),
    ],
)
def test_each_mistake_says_what_to_write_instead(old, new, expected) -> None:
    assert old in GOOD
    assert any(expected in line for line in mistakes(GOOD.replace(old, new)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- 1",
        "a: [",
        "a: b: c",
        "agent: {name: x}\nagent: {name: y}",
        "? [a]\n: b",
        "!!python/object:os.system {}",
        "a: &a [*a]",
        "\x00",
    ],
)
def test_what_is_not_a_configuration_at_all_is_one_line(text) -> None:
    assert all(line.startswith("site.yaml:") for line in mistakes(text))


def test_no_password_is_shown_in_any_error() -> None:
    text = GOOD.replace("rtsp://10.0.0.7/stream1", "rtsp://u:hunter2@10.0.0.7:port/x").replace(
        "credential:mqtt", "[hunter2]"
    )
    assert not any("hunter2" in line for line in mistakes(text))


@given(st.data())
def test_no_altered_configuration_ends_in_anything_but_settings_or_a_line(data) -> None:
    cut = data.draw(st.integers(0, len(GOOD)))
    paste = data.draw(st.text(max_size=6))
    skip = data.draw(st.integers(0, 12))
    try:
        settings = loads(GOOD[:cut] + paste + GOOD[cut + skip :], "site.yaml")
    except ConfigError as error:
        told = str(error)
    else:
        told = "site.yaml:" if isinstance(settings, Settings) else "something else came out"
    assert told.startswith("site.yaml:")
