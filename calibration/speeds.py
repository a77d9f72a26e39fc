"""How fast FP32 and INT8 are on this machine, side by side; also with bfloat16, where the processor has it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calibration.evaluation import open_to_measure
from calibration.pictures import Progress, Sample
from calibration.proof import Speed
from calibration.timing import take_turns
from engines.backends.openvino import Config
from engines.card import Card
from engines.pixels import Picture
from engines.quiet import openvino_core


def speeds(card: Card, folders: Mapping[str, Path], sample: Sample, progress: Progress) -> Speed:
    """Median times for a picture on one thread; `folders`: where the file of each precision is. Raises EngineError."""
    floats = ("f32", "bf16") if _has_bfloat16() else ("f32",)
    with contextlib.ExitStack() as opened:
        models: dict[str, Any] = {}
        for precision in ("fp32", "int8"):
            for float_precision in floats:
                config = Config(threads=1, streams=1, float_precision=float_precision)
                model = open_to_measure(card, folders[precision], precision, config)
                opened.callback(model.close)
                models[f"{precision} {float_precision}"] = model
        timed = take_turns(models, Picture(sample.read()), progress)
    return Speed(
        fp32_ms=timed["fp32 f32"].ms,
        int8_ms=timed["int8 f32"].ms,
        bf16_ms=timed["fp32 bf16"].ms if "fp32 bf16" in timed else None,
        int8_bf16_ms=timed["int8 bf16"].ms if "int8 bf16" in timed else None,
        device=timed["fp32 f32"].device,
    )


def _has_bfloat16() -> bool:
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
