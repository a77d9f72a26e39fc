"""`scripts/prove engine_faults [--write] [--turns N] [--engines N]`: how long hung and failing engines go unnoticed.

An agent with two cameras at 25 frames/s and the limits that it has in a cabinet. `--turns`: of each fault. `--engines`:
so many OpenVINO engines are replaced one after the other in one process, for what that leaves behind.
"""

from __future__ import annotations

import argparse
import gc
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from agent.supervision import engine as engine_module
from agent.supervision import pace
from engines.backends import openvino
from tests.prove.record import section, table
from tests.support.agents import fake_model, settings_of
from tests.support.engine_faults import longest_gap_s, running
from tests.support.standin_gpu import means_store

SOURCE = {"type": "synthetic", "rate": 25}
FAULTS = {
    "no answer": {"kind": "hang", "at": 50, "engines": 1},
    "hangs in `submit`": {"kind": "hang", "when": "submit", "at": 50, "engines": 1},
    "every batch fails": {"kind": "fail", "at": 50, "engines": 1},
    "outputs are NaN": {"kind": "nan", "at": 50, "engines": 1},
    "lost": {"kind": "lost", "when": "submit", "at": 50, "engines": 1},
}


def turn(folder: Path, fault: dict[str, Any]) -> tuple[float, float, float, int]:
    """Until it is found, until results flow again, and the sound engine's longest gap, s; how many frames failed."""
    models = {"c": fake_model("classes", faults=[fault]), "d": fake_model("classes")}
    cameras = {"a": {"source": SOURCE, "models": ["c"]}, "b": {"source": SOURCE, "models": ["d"]}}
    with running(settings_of(models=models, cameras=cameras), folder) as agent:
        agent.until(lambda: agent.counts()["inferred"] == fault["at"] - 1, 20)
        found_s = agent.until(lambda: agent.engine().keys() & {"state", "restarts"}, 20)
        agent.more_results(20)
        gaps = longest_gap_s(agent), longest_gap_s(agent, "b", "d")
    return found_s, *gaps, agent.counts()["failed"]


def faults(turns: int) -> str:
    """A row a fault."""
    rows = []
    for name, fault in FAULTS.items():
        seen = []
        for _ in range(turns):
            with tempfile.TemporaryDirectory() as folder:
                seen.append(turn(Path(folder), fault))
        found, gap, other, failed = zip(*seen, strict=True)
        rows.append((name, f"{max(found):.1f}", f"{max(gap):.1f}", f"{max(other):.2f}", str(max(failed))))
    return table(
        ("fault", "found after, s", "no results for, s", "the other engine's longest gap, s", "frames failed"), rows
    )


def replaced(count: int) -> str:
    """So many OpenVINO engines that hang, come back late and are closed: memory and threads."""
    pace.LEAST_S, engine_module._WAITS_S = 0.3, (0.01, 0.02)
    model = {"model": "classes", "precision": "fp32", "backend": {"type": "openvino", "threads": 2}}
    cameras = {name: {"source": SOURCE, "models": ["c"]} for name in "ab"}
    process, result = psutil.Process(), openvino._Ticket.result
    stuck: list[object] = []

    def late(ticket: Any) -> Any:
        while any(ticket._slots is slots for slots in stuck):
            time.sleep(0.005)
        return result(ticket)

    openvino._Ticket.result = late  # type: ignore[method-assign]
    rows = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            settings = settings_of(models={"c": model}, cameras=cameras)
            with running(settings, Path(folder), store=means_store(Path(folder))) as agent:
                agent.more_results()
                for number in range(count + 1):
                    if number % max(1, count // 4) == 0:
                        gc.collect()
                        rows.append((str(number), f"{process.memory_info().rss / 1e6:.0f}", str(process.num_threads())))
                    restarts = agent.engine().get("restarts", 0)
                    stuck.append(agent.service.engines["c"].model.engine._slots)  # type: ignore[attr-defined]
                    agent.until(lambda before=restarts: agent.engine().get("restarts", 0) > before, 30)  # type: ignore[misc]
                    stuck.clear()
                    agent.until(lambda: not agent.service.engines.counts()["c"]["hung"], 30)
                    agent.more_results(2)
    finally:
        openvino._Ticket.result = result  # type: ignore[method-assign]
    return table(("engines replaced", "RSS, MB", "threads"), rows)


def main() -> None:
    """Measure, print and with `--write` record."""
    parser = argparse.ArgumentParser(prog="scripts/prove engine_faults", description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--engines", type=int, default=200)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    found = faults(options.turns)
    print(found, flush=True)
    left = replaced(options.engines)
    print(left)
    if options.write:
        section("engine-faults", "Engines that hang and fail", "scripts/prove engine_faults", f"{found}\n{left}")


if __name__ == "__main__":
    main()
