"""`predict: true`: boxes are where the objects are when the message leaves."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.messages import Detection, DetectionsPayload
from agent.sinks import Message
from agent.tracking.prediction import Ahead

SIZE = (640, 480)
edge = st.floats(-2000, 2000, width=32)


def ahead(boxes: list[list[float]], velocity: list[list[float]]) -> Ahead:
    rows = [Detection.model_construct(label="person", score=0.9, box=box, track=1, attributes={}) for box in boxes]
    return Ahead(rows, np.array(boxes, np.float32), np.array(velocity, np.float32), SIZE)


def test_a_box_moves_with_the_age_of_its_message_for_each_sink_anew() -> None:
    moves = ahead([[100, 100, 140, 200], [300, 300, 350, 400]], [[50, -20, 50, -20], [0, 0, 0, 0]])
    payload = DetectionsPayload.model_construct(
        schema_="sightwire.detections/1", age_ms=0.0, detections=moves.detections
    )
    message = Message("dock/people/detections", payload, born_ns=1_000_000_000, later=moves)
    for age_ms, left, top in ((100, 105.0, 98.0), (400, 120.0, 92.0), (0, 100.0, 100.0)):
        said = json.loads(message.encode(1_000_000_000 + age_ms * 1_000_000))
        assert said["predicted_ms"] == said["age_ms"] == age_ms
        assert said["detections"][0]["box"] == [left, top, left + 40, top + 100]
        assert said["detections"][1]["box"] == [300, 300, 350, 400], "what has no track is where it was"
    assert payload.detections[0].box == [100, 100, 140, 200], "the payload itself is not changed"


@given(st.lists(edge, min_size=4, max_size=4), st.floats(0, 1000))
def test_a_box_stays_inside_the_picture_and_right_side_out(velocity, age_ms) -> None:
    left, top, right, bottom = ahead([[100, 100, 140, 200]], [velocity])(age_ms)["detections"][0].box
    assert 0 <= left <= right <= SIZE[0]
    assert 0 <= top <= bottom <= SIZE[1]
