"""Home Assistant's MQTT discovery: one device per agent, made from `about` alone; its entities read our own topics.

Format: home-assistant.io/integrations/mqtt, "Device discovery payload" (Home Assistant 2024.11 and later). One retained
message for the agent and one for each camera, all of one device: so none grows large, and a camera goes with an empty
one. Says nothing but that: it stands beside the sink's own dialect, which must be `sightwire`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import Field
from typing_extensions import Required, TypedDict

from agent.messages import AboutPayload, CameraAbout
from agent.sinks import Message
from agent.sinks.dialects import Dialect, DialectConfig, Said
from agent.sinks.dialects._wire import Prefix, json_bytes

Platform = Literal["binary_sensor", "sensor", "camera"]


class Availability(TypedDict):
    """One condition for an entity to be available."""

    topic: str
    value_template: str
    """Gives `online` or `offline`."""


class Component(TypedDict, total=False):
    """One entity. With nothing but `platform` it is removed."""

    platform: Required[Platform]
    unique_id: str
    name: str
    state_topic: str
    topic: str
    """Of a camera: its pictures."""
    value_template: str
    device_class: str
    state_class: Literal["measurement", "total_increasing"]
    entity_category: Literal["diagnostic"]
    icon: str
    json_attributes_topic: str
    json_attributes_template: str
    availability: list[Availability]


class Device(TypedDict):
    """The agent."""

    identifiers: list[str]
    name: str
    manufacturer: str
    model: str
    sw_version: str


class Origin(TypedDict):
    """Who says it."""

    name: str
    sw_version: str


class Discovery(TypedDict):
    """Topic `<prefix>/device/<id>/config`, retained."""

    device: Device
    origin: Origin
    availability: list[Availability]
    """Of all components that have none of their own; empty: always."""
    availability_mode: Literal["all"]
    components: dict[str, Component]


class Config(DialectConfig):
    """`{type: home_assistant}`."""

    type: Literal["home_assistant"] = "home_assistant"
    prefix: Prefix = "homeassistant"
    """Home Assistant's discovery prefix; its birth message is expected on `<prefix>/status`."""
    labels: tuple[str, ...] | None = None
    """Which labels get counts of their own. Default: those that are tracked, if they are `max_labels` at most."""
    max_labels: int = Field(default=8, ge=0, le=100)
    """A camera with more gets one count of all its objects, and so does each of its zones."""

    def open(self, prefix: str, agent: str) -> Dialect:
        """See DialectConfig."""
        return HomeAssistant(self, prefix, agent)


class HomeAssistant(Dialect):
    """Remembers which entities it announced, to remove those that vanish."""

    def __init__(self, config: Config, prefix: str, agent: str) -> None:
        self.birth = f"{config.prefix}/status"
        self._config, self._agent = config, agent
        self._base = f"{prefix}/{agent}"
        self._online: Availability = {
            "topic": f"{self._base}/status",
            "value_template": "{{ 'online' if value_json.state == 'online' else 'offline' }}",
        }
        # Topics take a-z, A-Z, 0-9, _ and - there; our names have no capitals, so theirs divide without doubt.
        self._id = re.sub(r"[^a-zA-Z0-9_-]", "_", f"{prefix}_{agent}")
        self._known: dict[str, dict[str, Platform]] = {}
        """Topic -> component -> its platform: whatever was announced since the start."""

    def say(self, message: Message, now_ns: int) -> list[Said]:  # noqa: ARG002
        """See Dialect."""
        if not isinstance(message.payload, AboutPayload):
            return []
        about = message.payload
        said = [self._announce(self._id, about.version, self._of_agent(), [])]
        for name, camera in about.cameras.items():
            components = dict(self._of_camera(name, camera))
            said.append(self._announce(self._place(name), about.version, components, [self._online, self._sees(name)]))
        gone = self._known.keys() - {self._id, *map(self._place, about.cameras)}
        return said + [Said(self._topic(place), b"", retain=True, qos=1) for place in sorted(gone)]

    def _announce(
        self, place: str, version: str, components: dict[str, Component], conditions: list[Availability]
    ) -> Said:
        known = self._known.setdefault(place, {})
        removed: dict[str, Component] = {
            key: {"platform": platform} for key, platform in known.items() if key not in components
        }
        known.update({key: component["platform"] for key, component in components.items()})
        discovery: Discovery = {
            "device": self._device(version),
            "origin": {"name": "sightwire", "sw_version": version},
            "availability": conditions,
            "availability_mode": "all",
            "components": components | removed,
        }
        return Said(self._topic(place), json_bytes(discovery), retain=True, qos=1)

    def _place(self, camera: str) -> str:
        return f"{self._id}_Camera_{camera}"

    def _sees(self, camera: str) -> Availability:
        """What is counted is worth something while the camera streams, or after its recording's end."""
        return {
            "topic": f"{self._base}/{camera}/status",
            "value_template": "{{ 'online' if value_json.state in ('streaming', 'ended') else 'offline' }}",
        }

    def _topic(self, place: str) -> str:
        return f"{self._config.prefix}/device/{place}/config"

    def _device(self, version: str) -> Device:
        return {
            "identifiers": [self._id],
            "name": readable(self._agent),
            "manufacturer": "sightwire",
            "model": "Video inference agent",
            "sw_version": version,
        }

    def _entity(self, platform: Platform, key: str, name: str) -> Component:
        return {"platform": platform, "unique_id": f"{self._base}/{key}", "name": name}

    def _of_agent(self) -> dict[str, Component]:
        connected: Component = {
            **self._entity("binary_sensor", "status", "Connected"),
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "state_topic": f"{self._base}/status",
            "value_template": "{{ 'ON' if value_json.state == 'online' else 'OFF' }}",
        }
        return {"status": connected}

    def _of_camera(self, name: str, camera: CameraAbout) -> Iterator[tuple[str, Component]]:
        """Component -> entity. Values are read with `get`: what a camera does not have (yet) is 0 or off."""
        yield "status", self._connected(name)
        if camera.snapshots:
            entity = self._entity("camera", f"{name}/snapshot", f"{readable(name)} snapshot")
            yield "snapshot", {**entity, "topic": f"{self._base}/{name}/snapshot"}
        if camera.tracked is not None:
            labels = self._labels(camera)
            yield from self._objects(name, "labels", readable(name), "value_json.get('labels', {})", labels)
            for zone in camera.zones:
                inside = f"value_json.get('zones', {{}}).get('{zone}', {{}})"
                yield from self._objects(
                    name, f"zones/{zone}", f"{readable(name)} {readable(zone, '')}", inside, labels
                )
        for line in camera.lines:
            for direction in ("in", "out"):
                key = f"lines/{line}/{direction}"
                crossed = self._count(name, key, f"{readable(name)} {readable(line, '')} {direction}")
                crossed["state_class"] = "total_increasing"
                crossed["icon"] = "mdi:arrow-left-right"
                crossed["value_template"] = (
                    f"{{{{ value_json.get('lines', {{}}).get('{line}', {{}}).get('{direction}', 0) }}}}"
                )
                yield key, crossed
        for rule, kind in camera.rules.items():
            if kind in ("presence", "absence"):
                yield f"rules/{rule}", self._rule(name, rule, kind)

    def _connected(self, camera: str) -> Component:
        return {
            **self._entity("binary_sensor", f"{camera}/status", f"{readable(camera)} connected"),
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "state_topic": f"{self._base}/{camera}/status",
            "value_template": "{{ 'ON' if value_json.state in ('streaming', 'blind') else 'OFF' }}",
            "availability": [self._online],
            "json_attributes_topic": f"{self._base}/{camera}/status",
            "json_attributes_template": "{{ {'state': value_json.state, 'reason': value_json.reason, "
            "'since': value_json.since} | tojson }}",
        }

    def _labels(self, camera: CameraAbout) -> list[str]:
        """What is counted apart; empty: only all together."""
        known = camera.uses[camera.tracked].labels if camera.tracked in camera.uses else []
        tracked = camera.track_labels or known
        wanted = [x for x in self._config.labels if x in tracked] if self._config.labels is not None else tracked
        return wanted if self._config.labels is not None or len(wanted) <= self._config.max_labels else []

    def _objects(
        self, camera: str, place: str, name: str, counts: str, labels: list[str]
    ) -> Iterator[tuple[str, Component]]:
        if not labels:
            entity = self._count(camera, f"{place}/all", f"{name} object count")
            yield f"{place}/all", {**entity, "value_template": f"{{{{ {counts}.values() | sum }}}}"}
        for label in labels:
            quoted = label.replace("\\", "\\\\").replace("'", "\\'")
            entity = self._count(camera, f"{place}/label/{label}", f"{name} {readable(label, '')} count")
            yield f"{place}/label/{label}", {**entity, "value_template": f"{{{{ {counts}.get('{quoted}', 0) }}}}"}

    def _count(self, camera: str, key: str, name: str) -> Component:
        return {
            **self._entity("sensor", f"{camera}/counts/{key}", name),
            "state_topic": f"{self._base}/{camera}/counts",
            "state_class": "measurement",
            "icon": "mdi:counter",
        }

    def _rule(self, camera: str, rule: str, kind: str) -> Component:
        return {
            **self._entity(
                "binary_sensor", f"{camera}/counts/rules/{rule}", f"{readable(camera)} {readable(rule, '')}"
            ),
            "device_class": "occupancy" if kind == "presence" else "problem",
            "state_topic": f"{self._base}/{camera}/counts",
            "value_template": f"{{{{ 'ON' if value_json.get('rules', {{}}).get('{rule}') else 'OFF' }}}}",
        }


def readable(name: str, first: str = "capital") -> str:
    """`north-gate` as people write it: `North gate`; within a name without a capital."""
    words = re.sub(r"[_-]+", " ", name).strip() or name
    return words[:1].upper() + words[1:] if first else words
