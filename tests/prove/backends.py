"""Backends side by side: `scripts/prove backends [--write] [--only MODEL] [--kind BACKEND] [--precision P]`.

Pictures a second with every slot busy, CPU time of a picture, and milliseconds of a run by itself, for each backend,
precision, batch and number of streams; with it how far the outputs lie from the reference's. The engines of one model,
backend and precision take turns of `--seconds` (1), `--rounds` times (7), so that their ratios hold on a machine whose
speed drifts.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

from agent.commands._fetch import pull_with_bar
from engines.backends import BackendConfig, onnxruntime, openvino
from engines.base import Engine, Raw
from engines.card import Card, Precision, model_file
from engines.pixels import Picture, fit
from engines.store import ModelStore, default_root
from tests.prove.record import section, table
from tests.support.agreement import Reference, int8_apart, most_apart, outputs, unsettled
from tests.support.backends import REFERENCE
from tests.support.street import street_pictures

MODELS = ("efficientnet-lite0", "person-ssdlite")
KINDS: dict[str, type[openvino.Config] | type[onnxruntime.Config]] = {
    "openvino": openvino.Config,
    "onnxruntime": onnxruntime.Config,
}
BATCHES = (1, 2, 4, 8)


@dataclass
class Runner:
    """One engine and what was measured of it."""

    config: openvino.Config | onnxruntime.Config
    engine: Engine
    per_second: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    """Of a picture, of all threads together: what other work on the machine disturbs least."""
    alone_ms: list[float] = field(default_factory=list)

    def turn(self, picture: Picture, card: Card, seconds: float) -> None:
        """Measure throughput, then latency; ready-made tensors, so that nothing but the network is timed."""
        engine, geometry = self.engine, fit(picture.image.size, None, card.input)
        count = engine.max_batch
        batches = [engine.prepare([picture] * count, [geometry] * count) for _ in range(engine.depth)]
        tickets = [engine.submit(batch) for batch in batches]
        done, started, cpu = 0, time.perf_counter(), time.process_time()
        while (elapsed := time.perf_counter() - started) < seconds:
            for slot, batch in enumerate(batches):
                tickets[slot].result()
                tickets[slot] = engine.submit(batch)
                done += count
        for ticket in tickets:
            ticket.result()
        self.per_second.append(done / elapsed)
        self.cpu_ms.append((time.process_time() - cpu) / (done + len(tickets) * count) * 1e3)
        times: list[float] = []
        while sum(times) < seconds * 500:
            started = time.perf_counter()
            engine.submit(batches[0]).result()
            times.append((time.perf_counter() - started) * 1e3)
        self.alone_ms.append(median(times))
        for ticket in tickets:
            ticket.release()


@contextlib.contextmanager
def opened(config: BackendConfig, card: Card, store: ModelStore, precision: Precision) -> Iterator[Engine]:
    """The catalogue model on that backend."""
    engine = config.build(card, model_file(card, store.root / card.name, precision), precision)
    try:
        yield engine
    finally:
        engine.close()


def of_model(card: Card, store: ModelStore, pictures: list[Picture], options: argparse.Namespace) -> str:
    """A table for each precision."""

    def reference(precision: Precision, shown: list[Picture]) -> Raw:
        with opened(REFERENCE, card, store, precision) as engine:
            return outputs(engine, card, shown)

    floats = reference("fp32", pictures)
    exact = Reference(floats, reference("int8", pictures), reference("int8", unsettled(pictures)))
    parts = []
    for precision in options.precision or ("fp32", "int8"):
        rows: list[tuple[object, ...]] = []
        for kind in options.kind or KINDS:
            for runner, raw in _measured(kind, card, store, precision, pictures, options.seconds, options.rounds):
                rows.append((kind, *_row(runner), _agreement(precision, exact, raw)))
        measure = "most apart" if precision == "fp32" else "apart / loss"
        header = (
            "backend",
            "threads",
            "streams",
            "batch",
            "pictures/s",
            "of batch 1",
            "CPU ms",
            "ms a run alone",
            measure,
        )
        parts.append(f"{card.name}, {precision}:\n\n{table(header, _with_ratios(rows))}")
    return "\n".join(parts)


def _measured(
    kind: str, card: Card, store: ModelStore, precision: Precision, pictures: list[Picture], seconds: float, rounds: int
) -> list[tuple[Runner, Raw]]:
    cores = len(os.sched_getaffinity(0))
    pairs = [(1, 1), *((cores, streams) for streams in sorted({1, cores}) if cores > 1)]
    configs = [KINDS[kind](threads=t, streams=s, batch=b) for t, s in pairs for b in BATCHES if b <= card.max_batch]
    with contextlib.ExitStack() as stack:
        runners = [Runner(c, stack.enter_context(opened(c, card, store, precision))) for c in configs]
        raws = [outputs(runner.engine, card, pictures) for runner in runners]
        for _ in range(rounds):
            for runner in runners:
                runner.turn(pictures[0], card, seconds)
        return list(zip(runners, raws, strict=True))


def _row(runner: Runner) -> tuple[object, ...]:
    config = runner.config
    measured = (median(runner.per_second), median(runner.cpu_ms), median(runner.alone_ms))
    return (config.threads, config.streams, config.batch, *measured)


def _with_ratios(rows: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Throughput against the same backend, threads and streams without batches."""
    base = {row[:3]: row[4] for row in rows if row[3] == 1}
    return [
        (*row[:4], f"{row[4]:.0f}", f"{row[4] / base[row[:3]]:.2f}", f"{row[5]:.1f}", f"{row[6]:.1f}", row[7])  # type: ignore[operator]
        for row in rows
    ]


def _agreement(precision: Precision, exact: Reference, raw: Raw) -> str:
    if precision == "fp32":
        return f"{max(most_apart(exact.fp32, raw).values()):.0e}"
    pairs = int8_apart(exact, raw).values()
    return f"{max(apart for apart, _ in pairs):.2f} / {max(loss for _, loss in pairs):.2f}"


def main() -> None:
    """Measure, print, and with `--write` record in docs/measurements.md."""
    parser = argparse.ArgumentParser(prog="scripts/prove backends", description=__doc__)
    parser.add_argument("--write", action="store_true", help="record in docs/measurements.md")
    parser.add_argument("--only", choices=MODELS, action="append", help="only this model; may be repeated")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this backend; may be repeated")
    parser.add_argument("--precision", choices=("fp32", "int8"), action="append", help="only this one")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one turn")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    store = ModelStore(default_root())
    pictures = [Picture(image) for image in street_pictures(store, 8)]
    for name in options.only or MODELS:
        card, _ = pull_with_bar(name, store)
        body = of_model(card, store, pictures, options)
        print(f"## {name}\n\n{body}", flush=True)
        if options.write:
            command = f"scripts/prove backends {' '.join(sys.argv[1:])}"
            section(f"backends-{name}", f"Backends: {name}", command, f"{LEGEND}\n{body}")


LEGEND = """Pictures/s: every slot busy, ready-made tensors. Of batch 1: against the same threads and streams. CPU ms:
of one picture, all threads together. Most apart: largest deviation of an output value from ONNX Runtime's, of its
output's range. Apart: RMS from ONNX Runtime's INT8, of what one level up or down on the pixels does to that. Loss: RMS
from FP32, of that of ONNX Runtime's INT8.
"""


if __name__ == "__main__":
    main()
