"""DeepStream's minimal schema: `PAYLOAD_DEEPSTREAM_MINIMAL` of Gst-nvmsgconv, one message a frame.

Format: docs.nvidia.com/metropolis/deepstream, "Gst-nvmsgconv"; field by field as `generate_dsmeta_message_minimal` of
its sources writes it. It knows objects in frames and nothing else, so everything else is silence.
"""

from __future__ import annotations

from string import Formatter
from typing import Annotated, Literal, cast

from pydantic import AfterValidator
from typing_extensions import TypedDict

from agent.messages import Detection, DetectionsPayload
from agent.sinks import Message
from agent.sinks.dialects import Dialect, DialectConfig, Said
from agent.sinks.dialects._wire import json_bytes

UNTRACKED = 0xFFFF_FFFF_FFFF_FFFF
"""`UNTRACKED_OBJECT_ID` of nvdsmeta.h."""

Frame = TypedDict(
    "Frame", {"version": Literal["4.0"], "id": str, "@timestamp": str, "sensorId": str, "objects": list[str]}
)
"""`objects`: `track|left|top|right|bottom|label`, and where classifiers looked at it `|#|label|...|confidence`."""


def _topic(topic: str) -> str:
    try:
        fields = {name for _, name, _, _ in Formatter().parse(topic) if name is not None}
        fine = fields <= {"agent", "camera", "use"} and all(topic.format(agent="a", camera="a", use="a").split("/"))
    except ValueError:
        fine = False
    if not fine or any(char in topic for char in "+# \0"):
        raise ValueError("expected a topic, in which {agent}, {camera} and {use} may stand")
    return topic


class Config(DialectConfig):
    """`dialect: {type: deepstream, topic: "deepstream/{agent}/{camera}"}`."""

    type: Literal["deepstream"] = "deepstream"
    topic: Annotated[str, AfterValidator(_topic)] = "deepstream/{agent}/{camera}/{use}"
    """Without any field: one topic for all, as nvmsgbroker has; `sensorId` is the camera."""

    def open(self, prefix: str, agent: str) -> Dialect:  # noqa: ARG002
        """See DialectConfig."""
        return DeepStream(self.topic, agent)


class DeepStream(Dialect):
    """Keeps nothing."""

    def __init__(self, topic: str, agent: str) -> None:
        self._topic, self._agent = topic, agent

    def say(self, message: Message, now_ns: int) -> list[Said]:
        """See Dialect."""
        if not isinstance(message.payload, DetectionsPayload):
            return []
        found = cast(DetectionsPayload, message.current(now_ns))
        frame: Frame = {
            "version": "4.0",
            "id": str(found.seq),
            "@timestamp": f"{found.captured_at[:23]}Z",  # to the millisecond, as theirs
            "sensorId": found.camera,
            "objects": [_object(row) for row in found.detections],
        }
        topic = self._topic.format(agent=self._agent, camera=found.camera, use=found.use)
        return [Said(topic, json_bytes(frame), message.retain, message.qos)]


def _object(row: Detection) -> str:
    left, top, right, bottom = row.box
    # `g`: six significant digits, which is what C++ writes unasked.
    text = f"{UNTRACKED if row.track is None else row.track}|{left:g}|{top:g}|{right:g}|{bottom:g}|{_plain(row.label)}"
    if row.attributes:
        labels = [_plain(classes[0]["label"]) for classes in row.attributes.values() if classes]
        if labels:
            text += f"|#|{'|'.join(labels)}|{row.score:g}"
    return text


def _plain(label: str) -> str:
    return label.replace("|", " ")
