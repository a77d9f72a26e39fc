"""Zones, lines and rules in the configuration: what a user writes, and what is said of every mistake."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.config import Settings, loads
from agent.errors import ConfigError
from agent.models import find_cards
from agent.rules import zone
from tests.support.agents import FAKE_OUTPUTS, fake_store

GOOD = """\
agent: {name: gatehouse}
models:
  people: {model: boxes, precision: fp32, backend: fake}
  scene: {model: classes, precision: fp32, backend: fake}
  dress: {model: classes, precision: fp32, backend: fake}
cameras:
  dock:
    source: {type: synthetic}
    models: [people, scene, {use: dress, on: people}]
    track: {use: people, labels: [thing]}
    zones:
      gate: {polygon: [[0.1, 0.5], [0.6, 0.5], [0.6, 1.0], [0.1, 1.0]], events: [enter, leave, dwell>30s, count > 3]}
      yard: {polygon: [[0, 0], [1, 0], [1, 1], [0, 0]], labels: [thing], anchor: centre}
    lines:
      door: {points: [[0.2, 0.5], [0.8, 0.5]]}
    rules:
      somebody: {type: presence, labels: [thing]}
      unmanned: {type: absence, after: 1m}
      light: {type: changed, use: scene, labels: [red, green]}
      unsure: {type: undecided, use: scene}
""".replace("backend: fake", f"backend: {{type: fake, outputs: {FAKE_OUTPUTS['boxes'] | FAKE_OUTPUTS['classes']}}}")


@pytest.fixture
def check(tmp_path: Path) -> Any:
    """Settings of a text whose models are there."""

    def check(text: str) -> Settings:
        settings = loads(text, "site.yaml")
        find_cards(settings, fake_store(tmp_path))
        return settings

    return check


def test_the_zones_lines_and_rules_of_the_contract_are_understood(check: Any) -> None:
    dock = check(GOOD).cameras["dock"]
    assert dock.zones["gate"].events == ("enter", "leave", "dwell>30s", "count>3")
    assert dock.zones["yard"].events == ("enter", "leave")
    assert dock.zones["yard"].polygon == [(0, 0), (1, 0), (1, 1)]
    assert [f"{section}.{name}" for section, name, _ in dock.all_rules()] == [
        "zones.gate",
        "zones.yard",
        "lines.door",
        "rules.somebody",
        "rules.unmanned",
        "rules.light",
        "rules.unsure",
    ]
    assert [rule.build(name, "people").use for _, name, rule in dock.all_rules()] == ["people"] * 5 + ["scene"] * 2


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[0.6, 0.5], [0.6, 1.0], ", "[0.6, 1.0], [0.6, 0.5], ", "12: cameras.dock.zones.gate.polygon: crosses itself"),
        ("[[0.1, 0.5], [0.6, 0.5], [0.6, 1.0], [0.1, 1.0]]", "[[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]]", "has no area"),
        ("[[0.1, 0.5], [0.6, 0.5], [0.6, 1.0], [0.1, 1.0]]", "[[0.1, 0.1], [0.1, 0.1], [0.1, 0.1]]", "has no area"),
        ("[[0.1, 0.5], [0.6, 0.5], [0.6, 1.0], [0.1, 1.0]]", "[[0.1, 0.1], [0.1, 0.2]]", "at least 3 items"),
        ("[0.1, 0.5], [0.6, 0.5]", "[0.1, 0.5], [60, 0.5]", "12: cameras.dock.zones.gate.polygon[1][0]: input should"),
        ("[[0.2, 0.5], [0.8, 0.5]]", "[[0.2, 0.5], [0.2, 0.5]]", "15: cameras.dock.lines.door.points: has no length"),
        ("[[0.2, 0.5], [0.8, 0.5]]", "[[0.2, 0.5]]", "15: cameras.dock.lines.door.points[1]: is missing"),
        (
            "[enter, leave,",
            "[entre, leave,",
            "12: cameras.dock.zones.gate.events[0]: unknown event, did you mean 'enter'",
        ),
        ("dwell>30s", "dwell", "gate.events[2]: unknown event, did you mean 'dwell>30s'?"),
        ("dwell>30s", "dwell>soon", "gate.events[2]: unknown event, did you mean 'dwell>30s'?"),
        ("count > 3", "count<3", "gate.events[3]: unknown event, did you mean 'count>3'?"),
        ("[enter, leave, dwell>30s, count > 3]", "[]", "gate.events: should have at least 1 item, not 0"),
        ("anchor: centre", "anchor: feet", "13: cameras.dock.zones.yard.anchor: expected 'foot', 'centre' or 'top'"),
        ("anchor: centre", "anker: centre", "zones.yard.anker: unknown key, did you mean 'anchor'?"),
        ("      gate:", "      Gate:", "expected a name of a-z"),
        ("      gate:", "      events:", "'events' is a reserved word"),
        ("      door:", "      gate:", "15: cameras.dock.lines.gate: there is zones.gate already"),
        ("      unsure:", "      yard:", "20: cameras.dock.rules.yard: there is zones.yard already"),
        ("type: presence", "type: presense", "17: cameras.dock.rules.somebody: unknown type, did you mean 'presence'?"),
        ("type: presence, ", "", "17: cameras.dock.rules.somebody: needs a 'type'"),
        ("type: presence, ", "type: presence, befor: 1s, ", "rules.somebody.befor: unknown key"),
        ("type: changed, use: scene", "type: changed", "19: cameras.dock.rules.light.use: is missing"),
        ("type: changed, use: scene", "type: changed, use: scenes", "light.use: unknown use, did you mean 'scene'?"),
        ("type: changed, use: scene", "type: changed, use: dress", "light.use: 'dress' is a cascade"),
        (
            "track: {use: people",
            "track: {use: poeple",
            "10: cameras.dock.track.use: unknown use, did you mean 'people'?",
        ),
        ("track: {use: people", "track: {use: dress", "cameras.dock.track.use: 'dress' is a cascade"),
        (
            "    track: {use: people, labels: [thing]}\n",
            "",
            "11: cameras.dock.zones.gate: needs to know who is who: add",
        ),
        ("    track: {use: people, labels: [thing]}\n", "", "14: cameras.dock.lines.door: needs to know who is who"),
        (
            "    track: {use: people, labels: [thing]}\n",
            "",
            "16: cameras.dock.rules.somebody: which use does it look at?",
        ),
        ("{type: presence, labels: [thing]}", "{type: presence, labels: [cat]}", "'cat' is not followed"),
        # what the models say
        (
            "labels: [red, green]",
            "labels: [red, gren]",
            "19: cameras.dock.rules.light.labels: classes has no label 'gren'",
        ),
        ("use: scene, labels: [red, green]", "use: people", "light.use: boxes finds objects; this rule is for classes"),
        (
            "track: {use: people, labels: [thing]}",
            "track: {use: people, labels: [thing, thin]}",
            "10: cameras.dock.track.labels: boxes has no label 'thin'",
        ),
        ("labels: [thing], anchor", "labels: [person], anchor", "13: cameras.dock.zones.yard.labels: 'person' is not"),
        ("track: {use: people, labels: [thing]}", "track: {use: scene}", "track.use: classes finds no boxes to follow"),
        ("use: scene}", "use: people, labels: [red]}", "20: cameras.dock.rules.unsure.labels: 'red' is not followed"),
    ],
)
def test_each_mistake_is_told_at_its_line(check: Any, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        check(GOOD.replace(old, new, 1))
    lines = str(caught.value).splitlines()
    assert all(line.startswith("site.yaml:") for line in lines)
    assert any(expected in line for line in lines), lines


def test_a_list_of_which_every_entry_is_wrong_is_not_called_too_short_as_well(check: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        check(GOOD.replace("[enter, leave, dwell>30s, count > 3]", "[entre]"))
    assert str(caught.value).count("\n") == 0


def test_a_label_that_the_model_is_not_to_report_cannot_be_followed_or_waited_for(check: Any) -> None:
    text = GOOD.replace("scene: {model: classes,", "scene: {model: classes, only: [red],")
    with pytest.raises(ConfigError, match=r"light\.labels: models\.scene is to report red only, not 'green'"):
        check(text)


def test_a_label_is_looked_for_in_the_model_of_the_rule(check: Any) -> None:
    text = GOOD.replace("track: {use: people, labels: [thing]}", "track: {use: people}")
    with pytest.raises(ConfigError, match=r"zones\.yard\.labels: boxes has no label 'thin'; did you mean 'thing'\?"):
        check(text.replace("labels: [thing], anchor", "labels: [thin], anchor"))


def test_a_presence_of_classes_and_doubt_about_objects_need_no_tracks(check: Any) -> None:
    text = GOOD[: GOOD.index("    track:")] + (
        "    rules:\n"
        "      red: {type: presence, use: scene, labels: [red]}\n"
        "      dark: {type: absence, use: scene, labels: [red, green]}\n"
        "      odd: {type: undecided, use: people}\n"
    )
    assert [name for _, name, _ in check(text).cameras["dock"].all_rules()] == ["red", "dark", "odd"]


@pytest.mark.parametrize(
    "polygon",
    [
        [(0, 0), (1, 1), (1, 0), (0, 1)],
        [(0, 0), (1, 0), (1, 1), (0.5, 0), (0, 1)],  # a corner on another edge
        [(0, 0), (0.5, 0.5), (1, 0), (1, 1), (0.5, 0.5), (0, 1)],  # two triangles that meet in a point
        [(0, 0), (1, 0), (0.5, 0), (0.5, 1)],  # back along its own edge
        [(0, 0), (1, 0), (1, 1), (0, 0), (1, 0), (1, 1)],  # round twice
        [(0, 0), (1, 0), (0.5, 0)],
        [(0, 0), (0.001, 0), (0, 0.001)],
    ],
)
def test_what_is_no_area_is_no_zone(polygon: list[tuple[float, float]]) -> None:
    with pytest.raises(ValidationError, match=r"crosses itself|has no area"):
        zone.Config(polygon=polygon)


@pytest.mark.parametrize(
    "polygon",
    [
        [(0, 0), (1, 0), (1, 1)],
        [(0, 0), (1, 1), (1, 0)],
        [(0, 0), (0.5, 0), (1, 0), (1, 1), (0, 1), (0, 0)],  # a corner that is none, and the first point again
        [(0, 0), (1, 0), (1, 1), (0.5, 0.2), (0, 1)],
    ],
)
def test_corners_may_go_round_either_way_and_in(polygon: list[tuple[float, float]]) -> None:
    assert len(zone.Config(polygon=polygon).polygon) == len(set(polygon))


@given(st.text(max_size=12) | st.from_regex(r"(enter|leave|dwell|count) ?[<>=]{0,2} ?[0-9.a-z-]{0,6}", fullmatch=True))
def test_any_text_is_an_event_or_a_mistake(text: str) -> None:
    corners = [(0, 0), (1, 0), (1, 1)]
    with contextlib.suppress(ValidationError):
        (event,) = zone.Config(polygon=corners, events=[text]).events
        assert zone.Config(polygon=corners, events=[event]).events == (event,)
        zone.Config(polygon=corners, events=[event]).build("gate", "people")
