"""What payloads look like: at least one for each, for people who read the document and for those who try their code."""

from __future__ import annotations

from typing import Any

_RESULT = {
    "agent": "gatehouse",
    "camera": "dock",
    "seq": 4711,
    "captured_at": "2026-11-22T08:00:00.123456Z",
    "received_at": "2026-11-22T08:00:00.158112Z",
    "clock": "rtcp",
    "age_ms": 41.3,
    "frame": {"width": 1280, "height": 720},
    "timing_ms": {"wait": 0.4, "prepare": 0.2, "infer": 3.1, "read": 0.3},
}
_EVENT = {
    "schema": "sightwire.event/1",
    "agent": "gatehouse",
    "boot_id": "5f0c3f6b1c3e4a54a9d2c9b0e3a1d7f2",
    "captured_at": "2026-11-22T08:00:00.123456Z",
}
_INCIDENT = {
    **_EVENT,
    "id": "5f0c3f6b-dock-12",
    "kind": "zone",
    "rule": "gate",
    "camera": "dock",
    "use": "people",
    "model": "person-ssdlite@int8",
    "seq": 4711,
    "clock": "rtcp",
    "started_at": "2026-11-22T08:00:00.123456Z",
    "first_seen": "2026-11-22T07:59:58.100000Z",
    "last_seen": "2026-11-22T08:00:00.123456Z",
    "frame": {"width": 1280, "height": 720},
    "label": "person",
    "score": 0.91,
    "track": 17,
    "box": [412.0, 88.5, 503.2, 371.0],
    "zones": ["gate"],
    "path": [[0.0, 380.2, 365.0], [2.0, 457.6, 371.0]],
}

EXAMPLES: dict[str, dict[str, dict[str, Any]]] = {
    "status": {
        "online": {
            "schema": "sightwire.status/1",
            "agent": "gatehouse",
            "state": "online",
            "version": "1.0.0",
            "since": "2026-11-22T06:00:00.000000Z",
            "cameras": {"dock": "streaming"},
            "engines": {"people": {"backend": "openvino", "device": "CPU", "precision": "int8"}},
            "sinks": {"mqtt": {"type": "mqtt", "connected": True, "transport": "tls", "protocol": "5"}},
        }
    },
    "camera": {
        "lost": {
            "schema": "sightwire.camera/1",
            "agent": "gatehouse",
            "camera": "dock",
            "state": "lost",
            "reason": "no route to host",
            "since": "2026-11-22T08:02:11.000000Z",
            "source": "rtsp://10.0.0.7/stream1",
            "facts": {},
        },
        "blind": {
            "schema": "sightwire.camera/1",
            "agent": "gatehouse",
            "camera": "dock",
            "state": "blind",
            "reason": "covered",
            "since": "2026-11-22T08:02:11.000000Z",
            "source": "rtsp://10.0.0.7/stream1",
            "facts": {"codec": "h264", "size": "1280x720"},
        },
    },
    "classification": {
        "a scene": {
            "schema": "sightwire.classification/1",
            **_RESULT,
            "use": "scene",
            "model": "efficientnet-lite0@int8",
            "classes": [{"label": "mountain bike", "score": 0.62}, {"label": "unicycle", "score": 0.11}],
        }
    },
    "detections": {
        "a tracked person": {
            "schema": "sightwire.detections/1",
            **_RESULT,
            "use": "people",
            "model": "person-ssdlite@int8",
            "detections": [
                {
                    "label": "person",
                    "score": 0.91,
                    "box": [412.0, 88.5, 503.2, 371.0],
                    "track": 17,
                    "attributes": {"ppe": [{"label": "helmet", "score": 0.87}]},
                }
            ],
        }
    },
    "event": {
        "start": {**_INCIDENT, "event_seq": 104, "phase": "start"},
        "end": {
            **_INCIDENT,
            "event_seq": 105,
            "phase": "end",
            "captured_at": "2026-11-22T08:00:31.000000Z",
            "reason": "left",
        },
        "blind": {
            **_EVENT,
            "event_seq": 106,
            "id": "5f0c3f6b-dock-13",
            "kind": "blind",
            "phase": "start",
            "camera": "dock",
            "seq": 5120,
            "clock": "rtcp",
            "started_at": "2026-11-22T08:00:00.123456Z",
            "first_seen": "2026-11-22T07:59:54.123456Z",
            "last_seen": "2026-11-22T07:59:54.123456Z",
            "frame": {"width": 1280, "height": 720},
            "data": {"reason": "covered"},
        },
        "gap": {
            **_EVENT,
            "event_seq": 371,
            "id": "5f0c3f6b-gap-371",
            "kind": "gap",
            "phase": "moment",
            "data": {"from": 107, "to": 370, "count": 264, "reason": "limit"},
        },
    },
    "counts": {
        "one at the gate": {
            "schema": "sightwire.counts/1",
            "agent": "gatehouse",
            "camera": "dock",
            "captured_at": "2026-11-22T08:00:00.123456Z",
            "labels": {"person": 2},
            "zones": {"gate": {"person": 1}},
            "lines": {"door": {"in": 4, "out": 3}},
            "rules": {"somebody": True},
        }
    },
    "about": {
        "one camera": {
            "schema": "sightwire.about/1",
            "agent": "gatehouse",
            "version": "1.0.0",
            "cameras": {
                "dock": {
                    "uses": {"people": {"task": "detections", "model": "person-ssdlite@int8", "labels": ["person"]}},
                    "tracked": "people",
                    "track_labels": ["person"],
                    "zones": ["gate"],
                    "lines": ["door"],
                    "rules": {"somebody": "presence"},
                    "snapshots": False,
                }
            },
        }
    },
    "metrics": {
        "after a minute": {
            "schema": "sightwire.metrics/1",
            "agent": "gatehouse",
            "at": "2026-11-22T06:01:00.000000Z",
            "uptime_s": 60.0,
            "rss_mb": 187.3,
            "cpu_s": 9.41,
            "cameras": {
                "dock": {
                    "frames": 1800,
                    "unreadable": 0,
                    "left_out": 0,
                    "reconnects": 0,
                    "abandoned": 0,
                    "hung": 0,
                    "state": "streaming",
                    "uses": {"people": {"offered": 1800, "inferred": 1798, "replaced": 2, "waiting": 0}},
                }
            },
            "sinks": {"mqtt": {"connected": True, "made": 1812, "sent": 1812, "waiting": 0}},
            "events": {"mqtt": {"made": 105, "acknowledged": 105, "expired": 0, "dropped": 0, "waiting": 0}},
        }
    },
    "command": {
        "a threshold": {
            "schema": "sightwire.command/1",
            "command": "set_threshold",
            "id": "7",
            "camera": "dock",
            "use": "people",
            "value": 0.6,
        },
        "less to look at": {"command": "disable", "camera": "dock"},
        "a picture": {"command": "snapshot", "camera": "dock"},
        "another configuration": {"command": "reload"},
    },
    "reply": {
        "obeyed": {
            "schema": "sightwire.reply/1",
            "agent": "gatehouse",
            "id": "7",
            "command": "set_threshold",
            "camera": "dock",
            "ok": True,
            "error": None,
            "result": {"use": "people", "label": None, "threshold": 0.6},
        },
        "refused": {
            "schema": "sightwire.reply/1",
            "agent": "gatehouse",
            "id": None,
            "command": "reload",
            "camera": None,
            "ok": False,
            "error": {"code": "not_allowed", "message": "commands.allow has no 'reload'"},
            "result": {},
        },
    },
}
"""Payload -> what it shows -> the payload."""
