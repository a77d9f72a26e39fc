"""Plans for tests: a model with both precisions, and where its plans are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engines.card import Card, Precision, model_file, write_card
from engines.qdq import apply
from engines.store import ModelStore
from engines.trt.making import Place
from engines.trt.order import Order
from engines.trt.passport import Made, Passport
from engines.trt.reference import Reference
from engines.trt.store import PlanStore, now
from tests.support.measured import install
from tests.support.models import CLASSES, SIZE
from tests.support.rtx import rtx
from tests.support.tables import measured_table, noise, tiny_fp32

TARGET = (8, 6)


def tiny_store(folder: Path) -> ModelStore:
    """A model `tiny` with an INT8 and an fp32 file, of which each takes TensorRT-RTX a second."""
    store = ModelStore(folder)
    fp32 = tiny_fp32()
    int8 = apply(fp32, measured_table(fp32))
    task = {"type": "classify", "scores": "logits"}
    labels = [f"label{i}" for i in range(CLASSES)]
    install(store, "tiny", SIZE, task, labels, {"fp32": fp32, "int8": int8})
    card, at = store.find("tiny")
    files = {**card.files, "int8": card.files["int8"].model_copy(update={"unproven": True})}
    write_card(card.model_copy(update={"files": files}), at)
    return store


def tiny_order(store: ModelStore, precision: Precision = "int8", **fields: Any) -> tuple[Order, Card]:
    """An order of its plan, for a GPU that is not here."""
    card, at = store.find("tiny")
    path = model_file(card, at, precision)
    given = {"floats": "f16", "size": (SIZE, SIZE), "batches": (1, 4, 4), "target": TARGET, **fields}
    return Order(path, card.files[precision].sha256, precision, **given), card


def elsewhere() -> Place:
    """TensorRT-RTX, and no GPU; skips the test where it is not installed."""
    return Place(rtx(), None)


def some_passport(**fields: Any) -> Passport:
    """Of a plan that is only looked for."""
    given = {
        "model": "a" * 64,
        "flavour": "tensorrt",
        "version": "10.3.0",
        "compute_capability": "8.7",
        "device": "Orin",
        "precision": "int8",
        "floats": "f16",
        "size": (300, 300),
        "batches": (1, 8, 8),
        **fields,
    }
    return Passport.model_validate(given)


def with_made(passport: Passport, **fields: Any) -> Passport:
    """The same, of a plan that is there."""
    made = Made.model_validate({"plan_sha256": "0" * 64, "floats": "f16", "built_at": now(), "seconds": 2, **fields})
    return passport.model_copy(update={"made": made})


def saved(store: PlanStore, passport: Passport, data: bytes = b"a plan") -> Passport:
    """Keep a plan, with everything that can lie beside it."""
    from engines.trt.kernel import source_version

    reference = Reference({"scores": noise(2).astype(np.float32)}, 0.3)
    store.save(with_made(passport, kernel=source_version()), data, b"a cubin", reference)
    return passport
