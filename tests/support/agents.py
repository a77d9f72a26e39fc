"""Agents for tests: a store with a generated model, and configurations around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from agent.config import Settings, loads
from engines.card import Card, Input, ModelFile, Origin, sha256_of, write_card
from engines.store import ModelStore

CLASSES = {"type": "classify", "scores": "scores", "activation": "none", "top": 3}
#: an SSD with one feature map of one cell: three anchors, so the fake engine's outputs stay readable
BOXES = {"type": "ssd", "boxes": "boxes", "scores": "logits", "grids": [1]}
FAKE_OUTPUTS = {"classes": {"scores": [3]}, "boxes": {"boxes": [3, 4], "logits": [3, 2]}}


def fake_store(folder: Path) -> ModelStore:
    """Two models for the fake engine: `classes` (red, green, blue by mean level) and `boxes` (labels: thing)."""
    store = ModelStore(folder)
    for name, task, labels in (("classes", CLASSES, ("red", "green", "blue")), ("boxes", BOXES, ("thing",))):
        target = folder / name
        target.mkdir(parents=True)
        (target / "model.onnx").write_bytes(b"the fake engine reads no file")
        card = Card.model_validate(
            {
                "schema": "sightwire.card/1",
                "name": name,
                "summary": "made for tests",
                "input": Input(width=32, height=32, fit="stretch"),
                "task": task,
                "labels": labels,
                "files": {"fp32": ModelFile(path="model.onnx", sha256=sha256_of(target / "model.onnx"))},
                "origin": Origin(source="tests", sha256="0" * 64, licence="Apache-2.0"),
            }
        )
        write_card(card, target)
    return store


def fake_model(kind: str, **backend: Any) -> dict[str, Any]:
    """An entry of `models:` on the fake engine."""
    engine = {"type": "fake", "outputs": FAKE_OUTPUTS[kind], **backend}
    return {"model": kind, "precision": "fp32", "backend": engine}


def settings_of(**sections: Any) -> Settings:
    """A configuration from Python values, checked as a file would be."""
    return loads(yaml.safe_dump({"agent": {"name": "test"}, **sections}), "test.yaml")
