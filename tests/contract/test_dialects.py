"""What every dialect promises, and that each speaks as its format is documented (`tests/support/formats.py`)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError

from agent.messages import Detection, Payload
from agent.rules import Finding
from agent.sinks import Message, mqtt
from agent.sinks.dialects import Dialect, DialectConfig, Said
from engines.parts import find_parts
from tests.support import formats
from tests.support.spoken import (
    about,
    camera,
    camera_status,
    classification,
    counts,
    detections,
    event,
    every_kind,
    numbered,
    picture,
    read,
    say,
    status,
    watched,
)
from tests.support.watching import Scripted

KINDS = {
    name: config
    for name, config in find_parts("agent.sinks.dialects", "sightwire.dialects").items()
    if issubclass(config, DialectConfig)
}
SCHEMAS = {
    "frigate": {"events": formats.FRIGATE_EVENT},
    "deepstream": {"people": formats.DEEPSTREAM_FRAME},
    "vision_msgs": {
        "detections": formats.DETECTION_2D_ARRAY,
        "classification": formats.CLASSIFICATION,
        "vision_info": formats.VISION_INFO,
    },
    "home_assistant": {"config": formats.HOME_ASSISTANT_DEVICE},
}
"""Dialect -> last level of a topic -> format."""
FORMATS = {
    kind: {name: Draft202012Validator(schema) for name, schema in by_name.items()} for kind, by_name in SCHEMAS.items()
}


def opened(kind: str, **fields: Any) -> Dialect:
    return KINDS[kind](**fields).open("sightwire", "gatehouse")  # type: ignore[attr-defined,no-any-return]


def fits(kind: str, said: Sequence[Said]) -> list[Any]:
    """What was said in JSON, after a look at its format."""
    found = []
    for one in said:
        documented = FORMATS[kind].get(one.topic.rpartition("/")[2])
        if documented is not None and one.payload:
            found.append(read(one))
            documented.validate(found[-1])
    return found


# -- every dialect


def test_the_dialects_are_these() -> None:
    assert sorted(KINDS) == ["deepstream", "frigate", "home_assistant", "sightwire", "vision_msgs"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_message_there_is_can_be_said_or_is_silence(kind: str) -> None:
    dialect = opened(kind)
    for message in [*every_kind(), *every_kind(), Message("dock/reply", Payload())]:
        for said in dialect.say(message, 0):
            assert isinstance(said.payload, bytes)
            assert not {"+", "#", "\0"} & set(said.topic)
            assert all(said.topic.split("/"))


@pytest.mark.parametrize("kind", KINDS)
def test_measurements_are_said_once_and_state_and_events_for_sure(kind: str) -> None:
    dialect = opened(kind)
    for message in every_kind():
        for said in dialect.say(message, 0):
            if message.topic.endswith(("events", "status", "about", "counts")):
                assert said.qos == 1
            else:
                assert said.qos == 0
            if message.topic.endswith(("status", "about", "counts")):
                assert said.retain
            else:
                assert said.retain == message.retain


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_said_as_json_is_json(kind: str) -> None:
    for said in say(opened(kind), *every_kind()):
        if said.content_type == "application/json" and said.payload:
            assert isinstance(read(said), dict)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_what_is_said_has_the_documented_format(kind: str) -> None:
    assert fits(kind, say(opened(kind), *every_kind()))


names = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=12)
score = st.floats(0, 1)
boxes = st.lists(st.floats(-1e5, 1e5), min_size=4, max_size=4).map(
    lambda v: [min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]), max(v[1], v[3])]
)
rows = st.builds(
    Detection,
    label=names,
    score=score,
    box=boxes,
    track=st.none() | st.integers(1, 2**40),
    attributes=st.dictionaries(names, st.lists(st.fixed_dictionaries({"label": names, "score": score}), max_size=2)),
)


@pytest.mark.parametrize("kind", ["deepstream", "vision_msgs"])
@given(found=st.lists(rows, max_size=3))
@settings(max_examples=20, deadline=None)
def test_any_detections_have_the_documented_format(kind: str, found: list[Detection]) -> None:
    message = detections(0)
    payload = message.payload.model_copy(update={"detections": found})
    assert len(fits(kind, opened(kind).say(Message(message.topic, payload), 0))) == 1


INCIDENTS = [
    {"kind": "zone", "track": 1, "rule": "gate"},
    {"kind": "zone", "track": 1, "rule": "yard"},
    {"kind": "zone", "track": 2, "rule": "gate"},
    {"kind": "zone", "rule": "gate"},  # of the zone itself: a crowd
    {"kind": "presence", "rule": "anyone"},
    {"kind": "line", "track": 1, "rule": "door"},
]
steps = st.tuples(
    st.sampled_from(["start", "update", "end", "moment"]),
    st.integers(0, len(INCIDENTS) - 1),
    st.none() | boxes,
    st.none() | score,
)


@given(st.lists(steps, max_size=10))
@settings(max_examples=30, deadline=None)
def test_whatever_order_events_come_in_frigate_objects_begin_once_and_end_once(life: list[Any]) -> None:
    messages = [
        event(phase, event_seq=n, id=f"01234567-dock-{incident}", box=box, score=top, **INCIDENTS[incident])
        for n, (phase, incident, box, top) in enumerate(life, 1)
    ]
    open_now: set[str] = set()
    for change in fits("frigate", say(opened("frigate"), *messages)):
        name, after = change["after"]["id"], change["after"]
        assert change["before"]["id"] == name
        if change["type"] == "new":
            assert name not in open_now
            open_now.add(name)
        elif change["type"] == "end":
            open_now.discard(name)
        assert (after["end_time"] is not None) == (change["type"] == "end")
        assert set(after["current_zones"]) <= set(after["entered_zones"])


# -- Frigate


def types(said: Sequence[Said]) -> list[tuple[str, str, list[str], list[str]]]:
    changes = [read(one) for one in said]
    return [(c["type"], c["after"]["id"], c["after"]["current_zones"], c["after"]["entered_zones"]) for c in changes]


def test_the_visits_of_an_object_to_several_zones_are_one_frigate_event() -> None:
    gate = Scripted("gate", {1: [Finding("start", 1, 0)], 4: [Finding("end", 1, 0, "left")]})
    yard = Scripted(
        "yard", {2: [Finding("start", 1, 0)], 3: [Finding("update", 1, 0)], 6: [Finding("end", 1, None, "gone")]}
    )
    said = say(opened("frigate"), *numbered(watched(gate, yard, frames=7).events))
    one = "01234567-dock-1"
    assert types(said) == [
        ("new", one, ["gate"], ["gate"]),
        ("update", one, ["gate", "yard"], ["gate", "yard"]),
        ("update", one, ["gate", "yard"], ["gate", "yard"]),
        ("update", one, ["yard"], ["gate", "yard"]),
        ("end", one, [], ["gate", "yard"]),
    ]
    assert all((s.topic, s.qos, s.retain) == ("frigate/events", 1, False) for s in said)
    changes = [read(s) for s in said]
    assert [c["before"] for c in changes[1:]] == [c["after"] for c in changes[:-1]]
    last = changes[-1]["after"]
    assert (last["label"], last["camera"]) == ("person", "dock")
    assert (last["start_time"], last["end_time"], last["frame_time"]) == (0.0, 0.6, 0.6)
    assert last["box"] == [150, 160, 170, 200]
    assert (last["area"], last["ratio"]) == (800, 0.5)
    assert last["path_data"][0] == [[0.1562, 0.4167], 0.0]
    assert last["top_score"] == max(c["after"]["score"] for c in changes)


def test_a_frigate_event_that_is_delivered_again_is_the_same_to_the_byte() -> None:
    script = {0: [Finding("start", 1, 0)], 1: [Finding("update", 1, 0)], 2: [Finding("end", 1, 0, "left")]}
    messages = numbered(watched(Scripted("gate", script), frames=3).events)
    frigate = opened("frigate")
    once, again = say(frigate, *messages), say(frigate, *messages[1:])
    assert again == once[1:]


def test_after_a_restart_before_is_after() -> None:
    script = {0: [Finding("start", 1, 0)], 1: [Finding("update", 1, 0)], 2: [Finding("end", 1, 0, "left")]}
    update, end = numbered(watched(Scripted("gate", script), frames=3).events)[1:]
    for message, kind in ((update, "update"), (end, "end")):
        (change,) = map(read, say(opened("frigate"), message))
        assert change["type"] == kind
        assert change["before"] == change["after"]
        assert change["after"]["id"] == "01234567-dock-1"


def test_a_visit_told_only_when_it_begins_is_a_frigate_event_that_begins_and_ends() -> None:
    said = say(opened("frigate"), event("moment", track=7, rule="gate", label="person", score=0.5, box=[1, 2, 3, 4]))
    assert [(kind, inside, been) for kind, _, inside, been in types(said)] == [
        ("new", ["gate"], ["gate"]),
        ("end", [], ["gate"]),
    ]


def test_presence_of_a_class_is_a_frigate_event_in_no_zone_unless_it_is_not_wanted() -> None:
    messages = [
        event("start", kind="presence", rule="anyone", label="person"),
        event("end", kind="presence", rule="anyone", label="person", event_seq=2),
    ]
    said = say(opened("frigate"), *messages)
    assert [(kind, inside) for kind, _, inside, _ in types(said)] == [("new", []), ("end", [])]
    assert say(opened("frigate", kinds=["zone"]), *messages) == []


def test_frigate_counts_are_said_when_they_change_with_all_and_with_noughts() -> None:
    frigate = opened("frigate")
    say(frigate, about())
    first = say(frigate, counts(labels={"person": 2}, zones={"gate": {"person": 1}}))
    assert {s.topic: s.payload for s in first} == {
        "frigate/dock/person": b"2",
        "frigate/dock/traffic light": b"0",
        "frigate/dock/all": b"2",
        "frigate/gate/person": b"1",
        "frigate/gate/traffic light": b"0",
        "frigate/gate/all": b"1",
    }
    assert all(s.retain and s.content_type == "text/plain" for s in first)
    then = say(frigate, counts(labels={"person": 1, "car": 1}, zones={"gate": {"person": 1}}))
    assert {s.topic: s.payload for s in then} == {
        "frigate/dock/person": b"1",
        "frigate/dock/car": b"1",
        "frigate/gate/car": b"0",
    }
    assert say(frigate, counts(labels={"person": 1, "car": 1}, zones={"gate": {"person": 1}})) == []


def test_frigate_zones_of_one_name_are_one_place_and_a_removed_camera_counts_no_more() -> None:
    frigate = opened("frigate")
    for name in ("dock", "yard"):
        say(frigate, counts(name, {"person": 1}, zones={"gate": {"person": 1}}))
    assert {s.topic: s.payload for s in say(frigate, counts("yard", {"person": 2}, zones={"gate": {"person": 2}}))} == {
        "frigate/yard/person": b"2",
        "frigate/yard/all": b"2",
        "frigate/gate/person": b"3",
        "frigate/gate/all": b"3",
    }
    gone = {s.topic: s.payload for s in say(frigate, about(dock=camera()))}
    assert gone["frigate/yard/all"] == b"0"
    assert gone["frigate/gate/all"] == b"1"


def test_frigate_is_available_as_long_as_the_agent_is_online() -> None:
    said = say(opened("frigate", prefix="site/frigate"), status(), status("offline"))
    assert [(s.topic, s.payload, s.retain, s.qos) for s in said] == [
        ("site/frigate/available", b"online", True, 1),
        ("site/frigate/available", b"offline", True, 1),
    ]


def test_a_picture_of_an_open_object_has_its_label_in_the_frigate_topic() -> None:
    frigate = opened("frigate")
    assert say(frigate, picture("01234567-dock-1")) == []
    say(frigate, event("start", track=1, rule="gate", label="person"))
    (said,) = say(frigate, picture("01234567-dock-1"))
    assert (said.topic, said.payload, said.content_type) == ("frigate/dock/person/snapshot", b"\xff\xd8", "image/jpeg")


# -- DeepStream


def test_deepstream_objects_are_track_box_and_label_and_what_classifiers_say() -> None:
    plain, looked_at = (read(s) for s in say(opened("deepstream"), detections(2), detections(2, attributes=True)))
    assert plain["objects"] == [f"{2**64 - 1}|0|10.2|15.5|50|person", "1|20|30.2|35.5|70|traffic light"]
    assert looked_at["objects"][1] == "1|20|30.2|35.5|70|traffic light|#|red|0.3"
    assert (plain["sensorId"], plain["id"], plain["@timestamp"]) == ("dock", "4711", "2026-11-22T08:00:00.123Z")


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("analytics", "analytics"),
        ("a/{camera}", "a/dock"),
        ("{agent}/{camera}/{use}", "gatehouse/dock/people"),
    ],
)
def test_a_deepstream_topic_is_as_configured(topic: str, expected: str) -> None:
    assert [s.topic for s in say(opened("deepstream", topic=topic), detections())] == [expected]


@pytest.mark.parametrize("topic", ["", "a//b", "a/#", "{secret}", "{agent", "{0}", "{}", "{camera.__class__}"])
def test_a_deepstream_topic_that_is_none_is_refused(topic: str) -> None:
    with pytest.raises(ValidationError, match="topic"):
        opened("deepstream", topic=topic)


# -- vision_msgs


def test_a_ros_detection_has_centre_size_class_and_the_time_of_its_frame() -> None:
    (said,) = say(opened("vision_msgs"), detections(2))
    assert (said.topic, said.qos, said.retain) == ("vision_msgs/gatehouse/dock/people/detections", 0, False)
    found = read(said)
    assert found["header"] == {"stamp": {"sec": 1795334400, "nanosec": 123456000}, "frame_id": "dock"}
    first, second = found["detections"]
    assert first["bbox"] == {
        "center": {"position": {"x": 7.75, "y": 30.1}, "theta": 0.0},
        "size_x": 15.5,
        "size_y": 39.8,
    }
    assert second["results"][0]["hypothesis"] == {"class_id": "traffic light", "score": 0.3}
    assert (first["id"], second["id"]) == ("", "1")


def test_a_ros_classification_is_retained_where_its_use_says_so() -> None:
    (said,) = say(opened("vision_msgs"), classification())
    assert said.retain
    assert read(said)["results"] == [{"class_id": "car", "score": 0.7}, {"class_id": "person", "score": 0.2}]


def test_vision_info_counts_the_versions_of_its_labels_and_goes_with_its_pipeline() -> None:
    ros = opened("vision_msgs")
    first, same = say(ros, about()), say(ros, about())
    uses = camera().uses
    other = say(ros, about(dock=camera(uses={"people": uses["people"].model_copy(update={"labels": ["cat"]})})))
    versions = [
        {s.topic.split("/")[-2]: read(s)["database_version"] if s.payload else None for s in said}
        for said in (first, same, other)
    ]
    assert versions == [{"people": 0, "scene": 0}, {"people": 0, "scene": 0}, {"scene": None, "people": 1}]
    people = next(read(s) for s in other if s.payload)
    assert (people["method"], json.loads(people["database_location"])) == ("person-ssdlite@int8", ["cat"])


# -- Home Assistant


def components(said: Sequence[Said]) -> dict[str, dict[str, Any]]:
    """Component's unique id (or key) -> the component, of all messages."""
    found = {}
    for message in fits("home_assistant", said):
        shared = {key: message[key] for key in ("availability", "availability_mode")}
        for key, component in message["components"].items():
            found[component.get("unique_id", key)] = {**shared, **component}
    return found


def rendered(template: str, message: Message) -> str:
    """As Home Assistant renders it, for what the agent's own dialect says of the message."""
    (said,) = say(opened("sightwire"), message)
    # As jinja2 in Home Assistant: a sandbox, and `tojson` is there.
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
    return environment.from_string(template).render(value_json=read(said), value=said.payload.decode()).strip()


def states(said: Sequence[Said], *messages: Message) -> dict[str, str]:
    """Entity's unique id -> its state after those messages of the agent."""
    topics = {say(opened("sightwire"), message)[0].topic: message for message in messages}
    return {
        name.removeprefix("sightwire/gatehouse/"): rendered(entity["value_template"], topics[entity["state_topic"]])
        for name, entity in components(said).items()
        if entity.get("state_topic") in topics
    }


def test_home_assistant_gets_an_entity_for_all_that_there_is() -> None:
    found = components(say(opened("home_assistant"), about()))
    assert {name.removeprefix("sightwire/gatehouse/"): (e["platform"], e["name"]) for name, e in found.items()} == {
        "status": ("binary_sensor", "Connected"),
        "dock/status": ("binary_sensor", "Dock connected"),
        "dock/snapshot": ("camera", "Dock snapshot"),
        "dock/counts/labels/label/person": ("sensor", "Dock person count"),
        "dock/counts/labels/label/traffic light": ("sensor", "Dock traffic light count"),
        "dock/counts/zones/gate/label/person": ("sensor", "Dock gate person count"),
        "dock/counts/zones/gate/label/traffic light": ("sensor", "Dock gate traffic light count"),
        "dock/counts/lines/door/in": ("sensor", "Dock door in"),
        "dock/counts/lines/door/out": ("sensor", "Dock door out"),
        "dock/counts/rules/anyone": ("binary_sensor", "Dock anyone"),
        "dock/counts/rules/nobody": ("binary_sensor", "Dock nobody"),
    }


def test_home_assistant_templates_read_what_the_agent_publishes() -> None:
    said = say(opened("home_assistant"), about())
    full = counts(
        labels={"person": 2, "traffic light": 0},
        zones={"gate": {"person": 1}},
        lines={"door": {"in": 5, "out": 3}},
        rules={"anyone": True, "nobody": False},
    )
    assert states(said, status(), camera_status(), full) == {
        "status": "ON",
        "dock/status": "ON",
        "dock/counts/labels/label/person": "2",
        "dock/counts/labels/label/traffic light": "0",
        "dock/counts/zones/gate/label/person": "1",
        "dock/counts/zones/gate/label/traffic light": "0",
        "dock/counts/lines/door/in": "5",
        "dock/counts/lines/door/out": "3",
        "dock/counts/rules/anyone": "ON",
        "dock/counts/rules/nobody": "OFF",
    }
    empty = states(said, status("offline"), camera_status("lost"), counts())
    assert set(empty.values()) == {"OFF", "0"}


def test_home_assistant_templates_read_counts_of_a_camera_at_work() -> None:
    scene = watched(Scripted("anyone", {0: [Finding("start", "anyone", 0)]}, kind="presence"))
    said = say(opened("home_assistant"), about())
    found = states(said, Message("dock/counts", scene.counts[-1], retain=True, qos=1))
    assert found["dock/counts/labels/label/person"] == "1"
    assert found["dock/counts/rules/anyone"] == "ON"


def test_home_assistant_entities_of_a_camera_are_there_while_it_streams() -> None:
    found = components(say(opened("home_assistant"), about()))
    by_topic = {
        "sightwire/gatehouse/status": (status(), status("offline")),
        "sightwire/gatehouse/dock/status": (camera_status(), camera_status("lost")),
    }
    conditions = {name: [a["topic"] for a in entity["availability"]] for name, entity in found.items()}
    assert conditions["sightwire/gatehouse/status"] == [], "it says itself that the agent is gone"
    assert conditions["sightwire/gatehouse/dock/status"] == ["sightwire/gatehouse/status"]
    assert conditions["sightwire/gatehouse/dock/counts/rules/anyone"] == list(by_topic)
    for entity in found.values():
        for condition in entity["availability"]:
            up, down = (rendered(condition["value_template"], message) for message in by_topic[condition["topic"]])
            assert (up, down) == ("online", "offline")


def test_home_assistant_shows_why_a_camera_is_not_connected() -> None:
    found = components(say(opened("home_assistant"), about()))["sightwire/gatehouse/dock/status"]
    shown = json.loads(rendered(found["json_attributes_template"], camera_status("lost")))
    assert shown == {"state": "lost", "reason": "no route", "since": "2026-11-22T08:00:00.123456Z"}


def test_a_camera_that_looks_for_everything_has_one_count_of_all() -> None:
    labels = [f"class {n}" for n in range(80)]
    uses = {"all": camera().uses["people"].model_copy(update={"labels": labels})}
    everything = about(dock=camera(uses=uses, tracked="all", track_labels=[]))
    said = say(opened("home_assistant"), everything)
    found = states(said, counts(labels={"class 1": 2, "class 2": 1}, zones={"gate": {"class 1": 1}}))
    assert {name: n for name, n in found.items() if "labels" in name or "zones" in name} == {
        "dock/counts/labels/all": "3",
        "dock/counts/zones/gate/all": "1",
    }
    chosen = say(opened("home_assistant", labels=["class 7", "unheard of"]), everything)
    assert [name for name in states(chosen, counts()) if "labels" in name] == ["dock/counts/labels/label/class 7"]


def test_home_assistant_labels_may_be_called_anything() -> None:
    label = """it's a "{{ x }}" \\ %}"""
    uses = {"people": camera().uses["people"].model_copy(update={"labels": [label]})}
    said = say(
        opened("home_assistant"), about(dock=camera(uses=uses, track_labels=[label], zones=[], lines=[], rules={}))
    )
    assert states(said, counts(labels={label: 3})) == {f"dock/counts/labels/label/{label}": "3"}


def test_home_assistant_entities_that_vanish_are_removed() -> None:
    ha = opened("home_assistant")
    before = components(say(ha, about(dock=camera(), yard=camera())))
    said = say(ha, about(dock=camera(zones=[], snapshots=False)))
    assert [(s.topic, s.payload, s.retain) for s in said if not s.payload] == [
        ("homeassistant/device/sightwire_gatehouse_Camera_yard/config", b"", True)
    ]
    removed = {key: e for key, e in components(said).items() if "unique_id" not in e}
    assert {key: e["platform"] for key, e in removed.items()} == {
        "snapshot": "camera",
        "zones/gate/label/person": "sensor",
        "zones/gate/label/traffic light": "sensor",
    }
    again = components(say(ha, about(dock=camera(), yard=camera())))
    assert again == before


def test_home_assistant_names_and_topics_are_apart_for_agents_and_cameras_of_like_names() -> None:
    one = say(KINDS["home_assistant"]().open("sightwire", "a_b"), about(c=camera()))  # type: ignore[attr-defined]
    other = say(KINDS["home_assistant"]().open("sightwire", "a"), about(b_c=camera(), b=camera()))  # type: ignore[attr-defined]
    topics = [s.topic for s in one + other]
    assert len(set(topics)) == len(topics)
    assert not components(one).keys() & components(other).keys()


def test_home_assistant_is_answered_when_it_is_born() -> None:
    assert opened("home_assistant", prefix="ha/discovery").birth == "ha/discovery/status"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dialect": "home_assistant"}, "stands beside a dialect"),
        ({"dialect": "frigate", "home_assistant": True}, "needs 'dialect: sightwire'"),
        ({"dialect": "vision_msgs", "home_assistant": {"labels": ["person"]}}, "needs 'dialect: sightwire'"),
        ({"home_assistant": {"type": "frigate"}}, "home_assistant"),
        ({"home_assistant": "yes"}, "expected true, false or a mapping"),
    ],
)
def test_home_assistant_without_the_topics_that_its_entities_read_is_refused(settings: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        mqtt.Config.model_validate({"url": "mqtt://broker", **settings})
    off = mqtt.Config.model_validate({"url": "mqtt://broker", "dialect": "frigate", "home_assistant": False})
    assert off.home_assistant is None


def test_a_prefix_that_is_no_topic_is_refused() -> None:
    for kind in ("frigate", "vision_msgs", "home_assistant"):
        with pytest.raises(ValidationError):
            TypeAdapter(KINDS[kind]).validate_python({"prefix": "a/+"})


def test_each_dialect_has_the_documented_example() -> None:
    """docs/dialects.md shows one message of each: in its format, and a configuration that works."""
    text = (Path(__file__).parents[2] / "docs" / "dialects.md").read_text(encoding="utf-8")
    sections = {part.split("\n")[0].strip(): part for part in re.split(r"^## ", text, flags=re.MULTILINE)}
    for kind, title in (
        ("frigate", "Frigate"),
        ("deepstream", "DeepStream"),
        ("vision_msgs", "ROS: vision_msgs"),
        ("home_assistant", "Home Assistant"),
    ):
        (example,) = re.findall(r"^```json\n(.*?)^```", sections[title], re.DOTALL | re.MULTILINE)
        first = next(iter(FORMATS[kind].values()))
        first.validate(json.loads(example))
        for snippet in re.findall(r"^```yaml\n(.*?)^```", sections[title], re.DOTALL | re.MULTILINE):
            mqtt.Config.model_validate(yaml.safe_load(snippet)["mqtt"])
