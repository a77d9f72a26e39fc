"""What INT8 gains on OpenVINO: `scripts/prove int8 [MODEL ...] [--store DIR] [--rounds N] [--write]`.

Milliseconds of CPU time for a picture on one thread: the file as OpenVINO reads it, then in the form and after the
rewrites of `engines.openvino_graph`; FP32, INT8, and both with bf16 where the CPU has it. All networks of a model take
turns, so that their ratios hold on a machine whose speed drifts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from engines.card import Card, Precision, model_file
from engines.openvino_graph import read_graph
from engines.quiet import openvino_core
from engines.store import ModelStore, default_root
from tests.prove.record import section, table

MODELS = ("efficientnet-lite0", "person-ssdlite", "nanodet-m", "yolox-nano")
RUNS = 3
"""Of a network in its turn."""
Reader = Callable[[Path], Any]


def compiled(core: Any, reader: Reader, file: Path, card: Card, floats: str) -> Any:
    graph = reader(file)
    graph.reshape([1, 3, card.input.height, card.input.width])
    options = {"INFERENCE_PRECISION_HINT": floats, "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}
    return core.compile_model(graph, "CPU", options).create_infer_request()


def measured(requests: dict[str, Any], tensor: np.ndarray, rounds: int) -> dict[str, list[float]]:
    """CPU milliseconds of a run, turn by turn: what other work on the machine disturbs least."""
    for request in requests.values():
        request.infer([tensor])
    found: dict[str, list[float]] = {name: [] for name in requests}
    names = list(requests)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            started = time.process_time()
            for _ in range(RUNS):
                requests[name].infer([tensor])
            found[name].append((time.process_time() - started) / RUNS * 1000)
    return found


def row(core: Any, store: ModelStore, name: str, rounds: int) -> tuple[object, ...]:
    card, folder = store.find(name)
    precisions: list[Precision] = [precision for precision in ("fp32", "int8") if precision in card.files]
    requests = {
        f"{precision}{how}": compiled(core, reader, model_file(card, folder, precision), card, floats)
        for precision in precisions
        for how, reader, floats in (
            (" plain", core.read_model, "f32"),
            ("", read_graph, "f32"),
            (" bf16", read_graph, "bf16"),
        )
        if floats == "f32" or "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    }
    tensor = np.random.default_rng(0).integers(0, 256, (1, 3, card.input.height, card.input.width), np.uint8)
    times = measured(requests, tensor, rounds)

    def ratio(slow: str, fast: str) -> str:
        if slow not in times or fast not in times:
            return "-"
        return f"{median(a / b for a, b in zip(times[slow], times[fast], strict=True)):.2f}"

    shown = (f"{median(times[key]):.2f}" if key in times else "-" for key in COLUMNS)
    return (name, *shown, ratio("fp32", "int8"), ratio("fp32 plain", "int8"), ratio("fp32 bf16", "int8 bf16"))


COLUMNS = ("fp32 plain", "fp32", "fp32 bf16", "int8 plain", "int8", "int8 bf16")
HEADER = ("model", *COLUMNS, "fp32 / int8", "fp32 plain / int8", "bf16: fp32 / int8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--store", type=Path, default=default_root())
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    asked = parser.parse_args()
    store, core = ModelStore(asked.store), openvino_core()
    there = [name for name in asked.models if name in store.names()]
    body = table(HEADER, [row(core, store, name, asked.rounds) for name in there])
    body += "\nMilliseconds of CPU time for a picture, medians; ratios are medians of turns.\n"
    print(body)
    if asked.write:
        section("int8", "INT8 on OpenVINO, one thread", "scripts/prove int8 --write", body)


if __name__ == "__main__":
    main()
