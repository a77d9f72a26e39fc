"""What a reload begins anew: for each single change its own parts, and for none nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.supervision.changes import Changes, Difference, between, kept_connections
from tests.support.agents import fake_model, settings_of

ZONE = {"polygon": [[0, 0], [1, 0], [1, 1]]}
CLIPS = {"before": "1s"}
STREAM = "rtsp://10.0.0.7/stream"
BASE: dict[str, Any] = {
    "mqtt": {"url": "mqtt://broker"},
    "sinks": [{"type": "jsonl", "path": "/tmp/a"}, {"type": "jsonl", "path": "/tmp/b"}],
    "models": {"people": fake_model("boxes"), "scene": fake_model("classes")},
    "cameras": {
        "dock": {"source": STREAM, "models": [{"use": "people", "threshold": 0.5}], "zones": {"gate": ZONE},
                 "track": {"use": "people"}},
        "yard": {"source": STREAM, "models": ["scene"], "crop": [0, 0, 0.5, 1]},
        "gate": {"source": "rtsp://10.0.0.8/stream", "models": ["people", "scene"]},
    },
    "events": {"keep": 100},
    "commands": {"allow": ["disable"]},
    "calibration": {},
}  # fmt: skip


def changed(path: str, value: Any) -> dict[str, Any]:
    """The base with one thing in it another; None: without it."""
    content = copy.deepcopy(BASE)
    at: Any = content
    *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in way:
        at = at[key]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return content


def of(path: str, value: Any) -> Changes:
    return between(settings_of(**BASE), settings_of(**changed(path, value)))


def cameras(*names: str, connections: tuple[str, ...] = (), **more: Any) -> Changes:
    return Changes(cameras=Difference(changed=frozenset(names)), connections=frozenset(connections), **more)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("cameras.dock.zones.gate", {**ZONE, "enter_after": "2s"}, cameras("dock")),
        ("cameras.dock.models.0.every", "1s", cameras("dock")),
        ("cameras.yard.masks", [[[0, 0], [1, 0], [1, 1]]], cameras("yard")),
        ("cameras.gate.source", "rtsp://10.0.0.9/stream", cameras("gate", connections=("gate",))),
        ("cameras.yard.source", "rtsp://10.0.0.9/stream", cameras("yard", connections=("yard",))),
        ("cameras.gate.clips", CLIPS, cameras("gate", connections=("gate",))),
        # whoever shares the connection sees it break, too
        ("cameras.dock.clips", CLIPS, cameras("dock", "yard", connections=("dock", "yard"))),
        # what the model is asked for changes with what its uses ask
        ("cameras.dock.models.0.threshold", 0.2, cameras("dock", asked=frozenset({"people"}))),
        ("cameras.dock.track.weak", 0.01, cameras("dock", asked=frozenset({"people"}))),
        ("cameras.dock.track.lost", "9s", cameras("dock")),
        ("cameras.gate.models", ["scene"], cameras("gate")),
        ("models.scene.threshold", 0.2, cameras("yard", "gate", asked=frozenset({"scene"}))),
        ("models.scene.top", 2, Changes(asked=frozenset({"scene"}))),
        ("models.scene.linger", "5ms", Changes(models=Difference(changed=frozenset({"scene"})))),
        ("models.scene.backend.delay_ms", 3, Changes(models=Difference(changed=frozenset({"scene"})))),
        ("models.scene.model", "other", cameras("yard", "gate", models=Difference(changed=frozenset({"scene"})))),
        ("models.more", fake_model("boxes"), Changes(models=Difference(added=frozenset({"more"})))),
        ("events.keep", 200, Changes(events=True)),
        ("events.path", "/var/lib/events.db", Changes(events=True, everything=("events.path",))),
        ("agent", {"name": "other"}, Changes(everything=("agent",))),
        ("commands.allow", ["disable", "enable"], Changes(commands=True)),
        ("calibration.collect", {"folder": "/tmp/c"}, Changes(collect=True)),
        ("log", "debug", Changes(log=True)),
    ],
)  # fmt: skip
def test_a_single_change_concerns_only_its_parts(path: str, value: Any, expected: Changes) -> None:
    found = of(path, value)
    assert found == expected
    assert found


def test_sinks_are_the_same_where_all_of_their_configuration_is() -> None:
    before, after = settings_of(**BASE), settings_of(**changed("sinks.0.path", "/tmp/c"))
    changes = between(before, after)
    assert changes == Changes(sinks_added=(after.sinks[0],), sinks_removed=(before.sinks[0],))
    assert [sink.type for sink in of("mqtt.url", "mqtt://other").sinks_added] == ["mqtt"]
    assert of("mqtt", None).sinks_removed == (before.mqtt,)
    swapped = settings_of(**{**BASE, "sinks": BASE["sinks"][::-1]})
    assert not between(before, swapped)
    twice = settings_of(**{**BASE, "sinks": [*BASE["sinks"], BASE["sinks"][0]]})
    assert between(before, twice).sinks_added == (before.sinks[0],)


def test_a_sink_whose_files_are_others_now_is_another_one() -> None:
    site = settings_of(**BASE)
    assert between(site, site, renewed=[site.sinks[1]]) == Changes(
        sinks_added=(site.sinks[1],), sinks_removed=(site.sinks[1],)
    )


def test_where_nobody_obeys_any_more_no_sink_listens_on() -> None:
    """A sink that hears commands does so to its end."""
    changes = of("commands.allow", [])
    assert len(changes.sinks_removed) == len(changes.sinks_added) == 3


def test_a_camera_that_comes_or_goes_concerns_nobody_else() -> None:
    """Also where it shares a connection: that stays with the others."""
    new = {"source": STREAM, "models": ["scene"]}
    assert of("cameras.new", new) == Changes(cameras=Difference(added=frozenset({"new"})))
    before, after = settings_of(**BASE), settings_of(**changed("cameras.new", new))
    assert kept_connections(before, after) == {("dock", "yard"): ("dock", "new", "yard"), ("gate",): ("gate",)}
    gone = Changes(cameras=Difference(removed=frozenset({"dock"})), asked=frozenset({"people"}))
    assert of("cameras.dock", None) == gone
    assert kept_connections(before, settings_of(**changed("cameras.dock", None)))["dock", "yard"] == ("yard",)


def test_a_connection_of_which_no_camera_stays_is_not_kept() -> None:
    renamed = copy.deepcopy(BASE)
    renamed["cameras"]["street"] = renamed["cameras"].pop("gate")
    before, after = settings_of(**BASE), settings_of(**renamed)
    assert kept_connections(before, after).keys() == {("dock", "yard")}


def test_a_model_that_was_made_anew_under_its_name_is_another_one_to_its_cameras() -> None:
    site = settings_of(**BASE)
    changes = between(site, site, remade=["people"])
    assert changes == cameras("dock", "gate", models=Difference(changed=frozenset({"people"})))


EDITS = [
    ("cameras.dock.zones.gate.enter_after", "2s"), ("cameras.dock", None), ("cameras.gate.clips", CLIPS),
    ("cameras.new", {"source": STREAM, "models": ["scene"]}), ("models.scene.top", 2), ("mqtt", None),
    ("models.people.threshold", {"thing": 0.2}), ("sinks.0.path", "/tmp/c"), ("log", "debug"), ("events.keep", 9),
]  # fmt: skip


def edited(places: set[int]) -> dict[str, Any]:
    content = copy.deepcopy(BASE)
    for place in sorted(places):
        path, value = EDITS[place]
        at: Any = content
        *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
        try:
            for key in way:
                at = at[key]
        except KeyError:  # it is in a camera that another edit removed
            continue
        if value is None:
            at.pop(last, None)
        else:
            at[last] = value
    return content


places = st.sets(st.integers(0, len(EDITS) - 1), max_size=4)


@settings(max_examples=15)
@given(places, places)
def test_the_way_back_concerns_the_same_parts(first: set[int], second: set[int]) -> None:
    """And from a configuration to itself, written otherwise, there is no way to go."""
    one, other = settings_of(**edited(first)), settings_of(**edited(second))
    there, back = between(one, other), between(other, one)
    assert not between(one, settings_of(**copy.deepcopy(edited(first))))
    assert (there.cameras.added, there.cameras.removed) == (back.cameras.removed, back.cameras.added)
    assert (there.cameras.changed, there.connections) == (back.cameras.changed, back.connections)
    assert (there.models.changed, there.asked, there.events) == (back.models.changed, back.asked, back.events)
    assert (there.sinks_added, there.sinks_removed) == (back.sinks_removed, back.sinks_added)
    assert bool(there) == (one != other)
    for names, now in kept_connections(one, other).items():
        assert one.cameras[names[0]].source == other.cameras[now[0]].source
