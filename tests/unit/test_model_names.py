"""Results say which of a model's files made them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np

from agent.flow import Mailbox, Request
from agent.frame import Frame, Timestamp
from agent.inference import Inference
from engines.backends.fake import Config
from engines.model import open_model
from engines.pixels import Image
from tests.support.agents import FAKE_OUTPUTS, fake_store


def test_a_result_names_the_file_of_the_engine_that_took_its_frame(tmp_path: Path) -> None:
    """TensorRT may run the fp32 file where a device has no INT8, and take over from an engine that ran the other."""
    card, folder = fake_store(tmp_path).find("classes")
    model = open_model(card, folder, "fp32", Config(outputs=FAKE_OUTPUTS["classes"]))
    mailbox, named = Mailbox(), []

    def ended(request: Request, _outcome: str) -> None:
        named.append(request.model)
        if len(named) == 1:
            model.engine.description = {**model.engine.description, "precision": "int8"}
            offer(1)
        else:
            mailbox.close()

    def offer(seq: int) -> None:
        image = Image((np.zeros((8, 8, 3), np.uint8),), "bgr", "601", "full", (8, 8))
        frame = Frame("a", seq, Timestamp(seq, time.monotonic_ns(), "receive", seq), image)
        mailbox.offer(Request(("a", "use"), frame, (None,), True, 10**12, ended))

    offer(0)
    Inference("i", model, mailbox).run(threading.Event())
    model.close()
    assert named == ["classes@fp32", "classes@int8"]
