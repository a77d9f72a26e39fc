"""Samples that nobody reads, and cards of models that nobody runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from calibration.pictures import Sample
from engines.card import Card, Input, ModelFile, Origin
from engines.results import Classification


def samples(*names: str) -> list[Sample]:
    return [Sample(name, f"{index:064x}", _unread) for index, name in enumerate(names)]


def _unread() -> NoReturn:
    raise AssertionError("labels are matched by name: no picture is opened")


def card(labels: Sequence[str], **task: Any) -> Card:
    """Of a classifier, or of whatever the task says."""
    return Card(
        schema="sightwire.card/1",
        name="a-model",
        summary="nobody runs it",
        input=Input(width=32, height=32, fit="stretch"),
        task=task or {"type": "classify", "scores": "logits"},
        labels=tuple(labels),
        files={"fp32": ModelFile(path="model.onnx", sha256="0" * 64)},
        origin=Origin(source="made up", sha256="0" * 64, licence="Apache-2.0"),
    )


def detector(labels: Sequence[str], **task: Any) -> Card:
    return card(labels, **({"type": "nms", "output": "boxes"} | task))


def told(*ranked: tuple[int, float]) -> Classification:
    """Label and score, best first."""
    return Classification(label=[label for label, _ in ranked], score=[score for _, score in ranked])
