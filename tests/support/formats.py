"""What others document of their messages, as JSON Schemas written by hand from their pages."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def record(**fields: Any) -> Schema:
    """An object with exactly these fields."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def array(items: Schema, **more: Any) -> Schema:
    """A list of these."""
    return {"type": "array", "items": items, **more}


TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
NULL: Schema = {"type": "null"}
SCORE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
TIME: Schema = {"type": "number", "minimum": 0}
"""Seconds since 1970."""
BOX = array({"type": "integer"}, minItems=4, maxItems=4)


def or_null(schema: Schema) -> Schema:
    """That or null."""
    return {"anyOf": [schema, NULL]}


# docs.frigate.video/integrations/mqtt, "frigate/events"; `ratio`, `active`, `pending_loitering`, `max_severity` and
# `path_data` as `TrackedObject.to_dict` (frigate/track/tracked_object.py) writes them.
_FRIGATE_STATE = record(
    id=TEXT,
    camera=TEXT,
    frame_time=TIME,
    snapshot=or_null(record(frame_time=TIME, box=BOX, area=COUNT, region=BOX, score=SCORE, attributes=array(TEXT))),
    label=TEXT,
    sub_label=NULL,
    top_score=SCORE,
    false_positive={"const": False},
    start_time=TIME,
    end_time=or_null(TIME),
    score=SCORE,
    box=BOX,
    area=COUNT,
    ratio=NUMBER,
    region=BOX,
    current_zones=array(TEXT, uniqueItems=True),
    entered_zones=array(TEXT, uniqueItems=True),
    thumbnail=NULL,
    has_snapshot=FLAG,
    has_clip=FLAG,
    active=FLAG,
    stationary=FLAG,
    motionless_count=COUNT,
    position_changes=COUNT,
    attributes={"type": "object", "additionalProperties": SCORE},
    current_attributes=array(TEXT),
    pending_loitering=FLAG,
    max_severity=or_null({"enum": ["alert", "detection"]}),
    current_estimated_speed=NUMBER,
    average_estimated_speed=NUMBER,
    velocity_angle=NUMBER,
    recognized_license_plate=or_null(TEXT),
    path_data=array(
        {
            "type": "array",
            "prefixItems": [array(NUMBER, minItems=2, maxItems=2), TIME],
            "minItems": 2,
            "maxItems": 2,
        }
    ),
)
FRIGATE_EVENT = record(type={"enum": ["new", "update", "end"]}, before=_FRIGATE_STATE, after=_FRIGATE_STATE)

# docs.nvidia.com/metropolis/deepstream/dev-guide/text/DS_plugin_gst-nvmsgconv.html, "minimal"; separators as in
# `generate_dsmeta_message_minimal` (sources/libs/nvmsgconv/deepstream_schema/dsmeta_payload.cpp).
_EDGE = r"-?\d+(\.\d+)?(e[+-]\d+)?"
DEEPSTREAM_FRAME = record(
    **{
        "version": {"const": "4.0"},
        "id": {"type": "string", "pattern": r"^\d+$"},
        "@timestamp": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"},
        "sensorId": TEXT,
        "objects": array(
            {"type": "string", "pattern": rf"^\d+\|({_EDGE}\|){{4}}[^|]+(\|#(\|[^|]+)+\|{_EDGE})?$"},
        ),
    }
)

# docs.ros.org/en/jazzy/p/vision_msgs (4.1), std_msgs/Header, geometry_msgs/PoseWithCovariance.
_HEADER = record(
    stamp=record(
        sec={"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
        nanosec={"type": "integer", "minimum": 0, "maximum": 999_999_999},
    ),
    frame_id=TEXT,
)
_HYPOTHESIS = record(class_id=TEXT, score=NUMBER)
_POSE = record(
    pose=record(
        position=record(x=NUMBER, y=NUMBER, z=NUMBER),
        orientation=record(x=NUMBER, y=NUMBER, z=NUMBER, w=NUMBER),
    ),
    covariance=array(NUMBER, minItems=36, maxItems=36),
)
_BOX_2D = record(
    center=record(position=record(x=NUMBER, y=NUMBER), theta=NUMBER),
    size_x={"type": "number", "minimum": 0},
    size_y={"type": "number", "minimum": 0},
)
DETECTION_2D_ARRAY = record(
    header=_HEADER,
    detections=array(
        record(header=_HEADER, results=array(record(hypothesis=_HYPOTHESIS, pose=_POSE)), bbox=_BOX_2D, id=TEXT)
    ),
)
CLASSIFICATION = record(header=_HEADER, results=array(_HYPOTHESIS))
VISION_INFO = record(
    header=_HEADER,
    method=TEXT,
    database_location=TEXT,
    database_version={"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
)

# home-assistant.io/integrations/mqtt, "Device discovery payload", and the pages of mqtt sensor, binary_sensor and
# camera; as homeassistant/components/mqtt/schemas.py of 2024.11 checks them.
_AVAILABILITY = array(record(topic=TEXT, value_template=TEXT))
_COMMON: Schema = {
    "unique_id": TEXT,
    "name": TEXT,
    "availability": _AVAILABILITY,
    "icon": {"type": "string", "pattern": "^mdi:"},
    "entity_category": {"enum": ["config", "diagnostic"]},
    "json_attributes_topic": TEXT,
    "json_attributes_template": TEXT,
}


def _entity(platform: str, required: list[str], **fields: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {"platform": {"const": platform}, **_COMMON, **fields},
        "required": ["platform", "unique_id", "name", *required],
        "additionalProperties": False,
    }


_READ: Schema = {"state_topic": TEXT, "value_template": TEXT}
_COMPONENT = {
    "oneOf": [
        _entity(
            "binary_sensor",
            ["state_topic"],
            **_READ,
            device_class={"enum": ["connectivity", "occupancy", "problem"]},
        ),
        _entity("sensor", ["state_topic"], **_READ, state_class={"enum": ["measurement", "total", "total_increasing"]}),
        _entity("camera", ["topic"], topic=TEXT),
        record(platform={"enum": ["binary_sensor", "sensor", "camera"]}),  # removed
    ]
}
HOME_ASSISTANT_DEVICE = record(
    device=record(identifiers=array(TEXT, minItems=1), name=TEXT, manufacturer=TEXT, model=TEXT, sw_version=TEXT),
    origin=record(name=TEXT, sw_version=TEXT),
    availability=_AVAILABILITY,
    availability_mode={"enum": ["all", "any", "latest"]},
    components={"type": "object", "additionalProperties": _COMPONENT},
)
