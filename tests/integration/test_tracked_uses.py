"""A tracked use: its tracker sees weaker detections than anybody is told of, and predicts on demand."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from agent.config import Settings
from agent.service import Service
from agent.sinks.memory import MemorySink
from engines.store import ModelStore
from tests.support.agents import settings_of
from tests.support.blobs import MODEL, USE, add_blobs
from tests.support.patience import PATIENCE_S

FILM = {"type": "synthetic", "pace": "lossless", "rate": 20, "frames": 90}
"""A block comes in from the left, leaves on the right and so on: at the edges its score is less."""
THRESHOLD = 0.95


def site(source: dict[str, Any], **tracked: Any) -> Settings:
    """Two cameras on one source and one model; the first one tracks."""
    use = {**USE, "threshold": THRESHOLD}
    cameras = {
        "tracked": {"source": source, "models": [use], "track": {"use": "blobs", **tracked}},
        "plain": {"source": source, "models": [use]},
    }
    return settings_of(models={"blobs": MODEL}, cameras=cameras)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    add_blobs(tmp_path)
    return ModelStore(tmp_path)


def said(sink: MemorySink, camera: str) -> dict[int, list[dict[str, Any]]]:
    """Frame -> detections."""
    topic = f"{camera}/blobs/detections"
    return {kept.data["seq"]: kept.data["detections"] for kept in sink.messages if kept.topic == topic}


def test_weak_detections_are_told_where_they_continue_a_track_and_nowhere_else(store) -> None:
    sink = MemorySink()
    Service(site(FILM), store, [sink]).run(threading.Event())
    tracked, plain = said(sink, "tracked"), said(sink, "plain")
    weak = [found for rows in tracked.values() for found in rows if found["score"] < THRESHOLD]
    assert weak
    assert all(found["track"] for found in weak)
    assert all(found["score"] >= THRESHOLD and "track" not in found for rows in plain.values() for found in rows)
    assert {seq for seq, rows in plain.items() if rows} <= {seq for seq, rows in tracked.items() if rows}


def test_with_predict_boxes_of_tracks_are_ahead_by_the_age_of_their_message(store) -> None:
    sink = MemorySink()
    service = Service(site({**FILM, "pace": "live", "rate": 50, "frames": None}, predict=True), store, [sink])
    service.start()
    try:
        assert sink.wait_for(lambda kept: sum("detections" in k.topic for k in kept) > 120, PATIENCE_S)
    finally:
        service.stop()
    plain = {seq: rows[0]["box"][0] for seq, rows in said(sink, "plain").items() if rows}
    steps = sorted(plain[seq + 1] - plain[seq] for seq in plain if seq + 1 in plain)
    speed = steps[len(steps) // 2] * 50 / 1000
    told = [kept.data for kept in sink.messages if kept.topic == "tracked/blobs/detections"]
    assert all(data["predicted_ms"] == data["age_ms"] for data in told)
    ahead = sorted(
        (found["box"][0] - plain[data["seq"]]) / data["predicted_ms"]
        for data in told
        for found in data["detections"]
        if found["track"] and data["seq"] in plain
    )
    assert len(ahead) > 10
    assert ahead[len(ahead) // 2] == pytest.approx(speed, rel=0.3), "pixels a millisecond"
