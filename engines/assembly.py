"""The last steps of every model's making, wherever it comes from: files, proofs, card."""

from __future__ import annotations

from pathlib import Path

import onnx

from engines import graph
from engines.card import Card, ModelFile, sha256_of
from engines.parts import find_part
from engines.tasks import TaskConfig


def write_model(model: onnx.ModelProto, path: Path) -> ModelFile:
    """Write a graph's bytes and return its entry in the card."""
    path.write_bytes(graph.serialise(model))
    return ModelFile(path=path.name, sha256=sha256_of(path))


def check_card(card: Card, model: onnx.ModelProto) -> None:
    """Check that graph and card fit each other. Raises CardError."""
    graph.check_fits(card, model, _known_task(card))


def _known_task(card: Card) -> TaskConfig | None:
    """Return the card's task; None for one that a later version brings."""
    from engines.model import TASKS, task_config

    return task_config(card) if find_part(*TASKS, card.task.get("type")) else None
