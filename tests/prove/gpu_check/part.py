"""One part of the check, in a process of its own: `python -m tests.prove.gpu_check.part PART`, JSON on stdout."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import json
import logging
import os
import sys
from typing import Any

from engines.cuda.binding import open_driver
from engines.cuda.probe import probe
from engines.errors import EngineError
from engines.store import ModelStore, default_root
from engines.trt.flavours import load

SECONDS, ROUNDS, COUNTED = 2.0, 5, 50
QUICK = 20


def main() -> int:
    """Print what was found, or {"failed": why}; whoever ordered it reads either."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("model", nargs="?")
    parser.add_argument("precision", nargs="?")
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--flavour", choices=("tensorrt", "tensorrt_rtx"))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    # What libraries print, they print to stdout.
    with os.fdopen(os.dup(1), "w") as out, contextlib.redirect_stdout(sys.stderr):
        os.dup2(2, 1)
        try:
            found = PARTS[options.part](options)
        except EngineError as error:
            json.dump({"failed": str(error)}, out)
            return 1
        json.dump(found, out)
    return 0


def _device(options: argparse.Namespace) -> dict[str, Any]:
    driver = open_driver(options.device)
    try:
        found = {**dataclasses.asdict(driver.facts), "binding": driver.binding, "free": driver.free_memory()}
    finally:
        driver.close()
    try:
        flavour = load(options.flavour)
        found |= {"tensorrt": str(flavour), "flavour": flavour.name}
        standin = "stand-in" in (getattr(flavour.trt, "__doc__", None) or "")
    except EngineError as error:
        found |= {"tensorrt": None, "tensorrt_missing": str(error)}
        standin = False
    return found | {"standin": standin or hasattr(ctypes.CDLL("libcuda.so.1"), "standin_report")}


def _numbers(options: argparse.Namespace) -> dict[str, Any]:
    from tests.prove.gpu_check import kernels

    driver = open_driver(options.device)
    try:
        return kernels.agreement(driver)
    finally:
        driver.close()


def _memory(options: argparse.Namespace) -> dict[str, Any]:
    from tests.prove.gpu_check import copies, kernels

    seconds, driver = _seconds(options), open_driver(options.device)
    most, kinds = (8 * copies.MIB, 1) if options.quick else (512 * copies.MIB, len(kernels.TIMED))
    try:
        return {
            "agreement": kernels.agreement(driver),
            "copies": copies.bandwidths(driver, seconds, most),
            "speeds": kernels.speeds(driver, seconds, most, tuple(kernels.TIMED)[:kinds]),
        }
    finally:
        driver.close()


def _probe(options: argparse.Namespace) -> dict[str, Any]:
    from tests.prove.gpu_check import plans

    plans.probe(load(options.flavour), probe().device(options.device), lambda: open_driver(options.device))
    return {}


def _model(options: argparse.Namespace) -> dict[str, Any]:
    from tests.prove.gpu_check import model, plans

    def say(step: str) -> None:
        print(f"{options.model} {options.precision}: {step}", file=sys.stderr, flush=True)

    flavour, batches = load(options.flavour), sorted(set(options.batches))
    card, folder = ModelStore(default_root()).find(options.model)
    order = model.order_of(card, folder, options.precision, batches)
    # No context of ours takes memory while the plan is made.
    plan = plans.plan_of(flavour, probe().device(options.device), options.device, card, order, say)
    return model.measure(
        flavour.trt,
        lambda: open_driver(options.device),
        plan,
        card,
        order,
        batches=batches,
        seconds=_seconds(options),
        rounds=2 if options.quick else ROUNDS,
        counted=COUNTED // 5 if options.quick else COUNTED,
        say=say,
    )


def _seconds(options: argparse.Namespace) -> float:
    return SECONDS / QUICK if options.quick else SECONDS


PARTS = {"device": _device, "memory": _memory, "numbers": _numbers, "probe": _probe, "model": _model}

if __name__ == "__main__":
    sys.exit(main())
