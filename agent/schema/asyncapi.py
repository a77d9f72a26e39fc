"""The AsyncAPI 3.0 document: all topics, who speaks on them, and what is said there, with an example of each."""

from __future__ import annotations

from typing import Any

from agent.schema.examples import EXAMPLES
from agent.schema.json_schema import Schema, schema_of
from agent.schema.topics import PAYLOADS, TOPICS, Topic

_ABOUT = """\
What the agent says over MQTT, in its own dialect, and what may be asked of it. Within the major version that stands in
a payload's `schema` fields are only added: ignore what you do not know.

Fields that are absent are unknown or meaningless there. Results are of the moment and may be lost; events are sent
until the broker acknowledges them, and may come twice with the same `event_seq`.
"""
_PARAMETERS = {
    "prefix": {"description": "`prefix` of the agent's `mqtt:`.", "default": "sightwire"},
    "agent": {"description": "`name` of the agent."},
    "camera": {"description": "Name of the camera in the configuration."},
    "use": {"description": "Name of the model's entry in the configuration."},
}
_PROPERTIES = {
    "event": {
        "schema": "sightwire.event/1.",
        "agent": "Name of the agent.",
        "boot_id": "As in the payload: with `event_seq` it tells an event from every other.",
        "event_seq": "As in the payload.",
    },
    "snapshot": {
        "id": "Of the incident that the picture is of.",
        "captured_at": "When it was taken, RFC 3339.",
        "clock": "Which clock says so.",
    },
}
"""User properties of MQTT 5, and what they say."""


def _headers(message: str) -> Schema:
    said = {name: {"type": "string", "description": text} for name, text in _PROPERTIES[message].items()}
    return {"type": "object", "description": "User properties, with MQTT 5.", "properties": said}


_SNAPSHOT: Schema = {
    "name": "snapshot",
    "title": "A picture",
    "contentType": "image/jpeg",
    "headers": _headers("snapshot"),
    "payload": {"type": "string", "format": "binary", "description": "JPEG, masks burnt in."},
}


def document() -> Schema:
    """As plain values, in the order in which it is to be written."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "sightwire",
            "version": "1",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": {_verb(topic) + topic.name[:1].upper() + topic.name[1:]: _operation(topic) for topic in TOPICS},
        "components": {
            "messages": {**{name: _message(name) for name in PAYLOADS}, "snapshot": _SNAPSHOT},
            "schemas": _shapes(),
            "parameters": _PARAMETERS,
        },
    }


def _channel(topic: Topic) -> Schema:
    message = topic.payload or "snapshot"
    address = "{prefix}/{agent}/" + topic.address
    return {
        "address": address,
        "summary": topic.summary,
        "messages": {message: _at("components", "messages", message)},
        "parameters": {name: _at("components", "parameters", name) for name in _PARAMETERS if f"{{{name}}}" in address},
    }


def _verb(topic: Topic) -> str:
    return "receive" if topic.asked else "send"


def _operation(topic: Topic) -> Schema:
    channel = _at("channels", topic.name)
    operation: Schema = {
        "action": _verb(topic),
        "channel": channel,
        "summary": topic.summary,
        "bindings": {"mqtt": {"qos": topic.qos, "retain": topic.retain, "bindingVersion": "0.2.0"}},
    }
    if topic.asked:
        other = topic.address.removesuffix("command") + "reply"
        answers = next(answer for answer in TOPICS if answer.address == other)
        operation["description"] = (
            "With MQTT 5 the answer goes to the request's response topic, with its correlation data."
        )
        operation["reply"] = {"channel": _at("channels", answers.name)}
    return operation


def _message(name: str) -> Schema:
    return {
        "name": name,
        "title": f"sightwire.{name}/1",
        "contentType": "application/json",
        **({"headers": _headers(name)} if name in _PROPERTIES else {}),
        "payload": _at("components", "schemas", name),
        "examples": [{"name": case, "payload": payload} for case, payload in EXAMPLES[name].items()],
    }


def _shapes() -> Schema:
    """Every payload's schema under its name, and what they refer to beside it."""
    shapes: Schema = {}
    for name in PAYLOADS:
        schema = _moved(schema_of(name))
        shapes.update(schema.pop("$defs", {}))
        shapes[name] = schema
    return dict(sorted(shapes.items()))


def _moved(schema: Any) -> Any:
    """With references to where the document keeps them."""
    if isinstance(schema, list):
        return [_moved(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value.replace("#/$defs/", "#/components/schemas/") if key == "$ref" else _moved(value)
        for key, value in schema.items()
    }


def _at(*place: str) -> Schema:
    return {"$ref": "#/" + "/".join(place)}
