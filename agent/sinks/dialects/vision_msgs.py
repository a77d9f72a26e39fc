"""JSON in the shape of ROS 2's vision_msgs (4.x: Humble and later), as rosbridge takes it and writes it.

Format: docs.ros.org/en/jazzy/p/vision_msgs, the .msg files of github.com/ros-perception/vision_msgs. Every field is
there, also those that no detector fills: a bridge may be strict. Events have no message in vision_msgs.
"""

from __future__ import annotations

import time
from typing import Literal, cast

from pydantic_core import to_json
from typing_extensions import TypedDict

from agent.messages import AboutPayload, ClassificationPayload, Detection, DetectionsPayload, ResultPayload
from agent.sinks import Message
from agent.sinks.dialects import Dialect, DialectConfig, Said
from agent.sinks.dialects._wire import Prefix, json_bytes, stamp


class Time(TypedDict):
    """builtin_interfaces/Time."""

    sec: int
    nanosec: int


class Header(TypedDict):
    """std_msgs/Header; the frame is the camera."""

    stamp: Time
    frame_id: str


class ObjectHypothesis(TypedDict):
    """`class_id` is the label itself."""

    class_id: str
    score: float


class Xyz(TypedDict):
    """geometry_msgs/Point."""

    x: float
    y: float
    z: float


class Quaternion(TypedDict):
    """geometry_msgs/Quaternion."""

    x: float
    y: float
    z: float
    w: float


class Pose(TypedDict):
    """geometry_msgs/Pose."""

    position: Xyz
    orientation: Quaternion


class PoseWithCovariance(TypedDict):
    """geometry_msgs/PoseWithCovariance, (36,) row by row."""

    pose: Pose
    covariance: list[float]


class ObjectHypothesisWithPose(TypedDict):
    """A box in a picture has no pose in space: it is the origin, unrotated, as an empty message has it."""

    hypothesis: ObjectHypothesis
    pose: PoseWithCovariance


class Point2D(TypedDict):
    """Pixels, x to the right and y down."""

    x: float
    y: float


class Pose2D(TypedDict):
    """`theta` is always 0: boxes are upright."""

    position: Point2D
    theta: float


class BoundingBox2D(TypedDict):
    """Centre and size, pixels of the source picture."""

    center: Pose2D
    size_x: float
    size_y: float


class Detection2D(TypedDict):
    """`id` is the track, empty without one."""

    header: Header
    results: list[ObjectHypothesisWithPose]
    bbox: BoundingBox2D
    id: str


class Detection2DArray(TypedDict):
    """Topic `<camera>/<use>/detections`."""

    header: Header
    detections: list[Detection2D]


class Classification(TypedDict):
    """Topic `<camera>/<use>/classification`."""

    header: Header
    results: list[ObjectHypothesis]


class VisionInfo(TypedDict):
    """Topic `<camera>/<use>/vision_info`, retained."""

    header: Header
    method: str
    """The model: `person-ssdlite@int8`."""
    database_location: str
    """The labels themselves, a JSON list in the model's order."""
    database_version: int
    """How often labels or model changed since the agent started."""


NO_POSE: PoseWithCovariance = {
    "pose": {
        "position": {"x": 0.0, "y": 0.0, "z": 0.0},
        "orientation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0},
    },
    "covariance": [0.0] * 36,
}


class Config(DialectConfig):
    """`dialect: vision_msgs`."""

    type: Literal["vision_msgs"] = "vision_msgs"
    prefix: Prefix = "vision_msgs"
    """Topics are `<prefix>/<agent>/<camera>/<use>/...`."""

    def open(self, prefix: str, agent: str) -> Dialect:  # noqa: ARG002
        """See DialectConfig."""
        return VisionMsgs(f"{self.prefix}/{agent}")


class VisionMsgs(Dialect):
    """Keeps what it said of each pipeline, to count its versions."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._pipelines: dict[str, tuple[str, list[str]]] = {}
        """Topic -> model and labels."""
        self._versions: dict[str, int] = {}

    def say(self, message: Message, now_ns: int) -> list[Said]:
        """See Dialect."""
        payload = message.payload
        if isinstance(payload, DetectionsPayload):
            header = _header(payload)
            rows = cast(DetectionsPayload, message.current(now_ns)).detections
            found: Detection2DArray = {"header": header, "detections": [_detection(header, row) for row in rows]}
            return [Said(f"{self._base}/{message.topic}", json_bytes(found), message.retain, message.qos)]
        if isinstance(payload, ClassificationPayload):
            classes: Classification = {
                "header": _header(payload),
                "results": [{"class_id": row.label, "score": row.score} for row in payload.classes],
            }
            return [Said(f"{self._base}/{message.topic}", json_bytes(classes), message.retain, message.qos)]
        if isinstance(payload, AboutPayload):
            return self._infos(payload)
        return []

    def _infos(self, about: AboutPayload) -> list[Said]:
        wanted = {
            f"{self._base}/{camera}/{use}/vision_info": (camera, told.model, told.labels)
            for camera, setup in about.cameras.items()
            for use, told in setup.uses.items()
            if told.on is None  # a cascade's results are attributes of others'
        }
        gone = [Said(topic, b"", retain=True, qos=1) for topic in self._pipelines.keys() - wanted.keys()]
        return gone + [self._info(topic, *what) for topic, what in wanted.items()]

    def _info(self, topic: str, camera: str, model: str, labels: list[str]) -> Said:
        if self._pipelines.get(topic) != (model, labels):
            self._versions[topic] = self._versions.get(topic, -1) + 1
        self._pipelines[topic] = model, labels
        sec, nanosec = divmod(time.time_ns(), 1_000_000_000)
        info: VisionInfo = {
            "header": {"stamp": {"sec": sec, "nanosec": nanosec}, "frame_id": camera},
            "method": model,
            "database_location": to_json(labels).decode(),
            "database_version": self._versions[topic],
        }
        return Said(topic, json_bytes(info), retain=True, qos=1)


def _header(result: ResultPayload) -> Header:
    sec, nanosec = stamp(result.captured_at)
    return {"stamp": {"sec": sec, "nanosec": nanosec}, "frame_id": result.camera}


def _detection(header: Header, row: Detection) -> Detection2D:
    left, top, right, bottom = row.box
    center: Pose2D = {"position": {"x": (left + right) / 2, "y": (top + bottom) / 2}, "theta": 0.0}
    return {
        "header": header,
        "results": [{"hypothesis": {"class_id": row.label, "score": row.score}, "pose": NO_POSE}],
        "bbox": {"center": center, "size_x": round(right - left, 2), "size_y": round(bottom - top, 2)},
        "id": "" if row.track is None else str(row.track),
    }
