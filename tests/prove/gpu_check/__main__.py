"""`scripts/gpu-check`: build every catalogue model on this machine's NVIDIA GPU, compare it with the CPU, and time it.

Writes gpu-check.md and gpu-check.json. What was found wrong is in the table, and in the exit status: 0 all is right
(whether or not it is fast enough), 1 something is wrong, 3 there is no GPU that can be used.

Example: scripts/gpu-check --only person-ssdlite --only efficientnet-lite0 --out /tmp
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engines.errors import EngineError
from engines.store import ModelStore, default_root
from tests.prove.gpu_check import report, sanitizer
from tests.prove.gpu_check.parts import run
from tests.prove.record import section

WRONG, NO_GPU = 1, 3
BUILD_S = 1800.0
"""A plan may take so long to build on a small Jetson."""
PART_S = 300.0


def main(arguments: list[str] | None = None) -> int:
    """Check, write, and say what came out of it."""
    options = _options(arguments)
    of_device = [f"--device={options.device}", *(["--quick"] if options.quick else [])]
    device = run("device", *_flavour(options), f"--device={options.device}", timeout_s=PART_S)
    if "failed" in device:
        print(
            f"gpu-check: {device['failed']}; `sightwire doctor` says what is there and what is missing", file=sys.stderr
        )
        return NO_GPU
    if options.write and device["standin"]:
        print("gpu-check: this is a stand-in and no GPU: its figures are not written to docs", file=sys.stderr)
        return NO_GPU
    found: dict[str, Any] = {"device": device, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    found["memory"] = run("memory", *of_device, timeout_s=PART_S)
    program = sanitizer.find()
    found["sanitizer"] = sanitizer.watch(program, options.device, PART_S) if program else None
    device["refused"] = _refused(options, device)
    found["models"] = {} if device["refused"] else dict(_models(options, of_device))
    _write(options, found)
    return 0 if report.is_right(found) else WRONG


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/gpu-check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", metavar="MODEL", help="this model; may be repeated (all)")
    parser.add_argument("--precision", choices=("int8", "fp16"), help="one of the two (both, where there is an INT8)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32], help="sizes to time (1 8 32)")
    parser.add_argument("--device", type=int, default=0, help="which GPU (0)")
    parser.add_argument("--flavour", choices=("tensorrt", "tensorrt_rtx"), help="which TensorRT, if both are there")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for gpu-check.md and .json (this one)")
    parser.add_argument("--write", action="store_true", help="the table into docs/measurements.md as well")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the time: to see that it works")
    return parser.parse_args(arguments)


def _flavour(options: argparse.Namespace) -> list[str]:
    return [f"--flavour={options.flavour}"] if options.flavour else []


def _refused(options: argparse.Namespace, device: dict[str, Any]) -> str | None:
    """Why no model can be run here; asked by one small network, so that not every model has to find it out."""
    if not device["tensorrt"]:
        return f"no TensorRT: {device['tensorrt_missing']}"
    probe = run("probe", *_flavour(options), f"--device={options.device}", timeout_s=PART_S)
    return f"{device['tensorrt']} refuses this GPU: {probe['failed']}" if "failed" in probe else None


def _models(options: argparse.Namespace, of_device: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """`NAME INT8` or `NAME FP16` -> what was found, or {"failed": why}."""
    from engines.catalogue import names

    store = ModelStore(default_root())
    for name in options.only or names():
        try:
            card = _had(name, store)
        except EngineError as error:
            yield name, {"failed": str(error)}
            continue
        for file, said in (("int8", "INT8"), ("fp32", "FP16")):
            if file not in card.files or options.precision not in (None, said.lower()):
                continue
            print(f"gpu-check: {name} {said}", file=sys.stderr, flush=True)
            sizes = ["--batches", *map(str, options.batches)]
            part = run("model", name, file, *sizes, *_flavour(options), *of_device, timeout_s=BUILD_S + PART_S)
            if "failed" in part:
                print(f"gpu-check: {name} {said}: {part['failed']}", file=sys.stderr, flush=True)
            yield f"{name} {said}", part


def _had(name: str, store: ModelStore) -> Any:
    """Its card, pulled if it is not in the store. Raises EngineError."""
    if name in store.names():
        return store.find(name)[0]
    from agent.commands._fetch import pull_with_bar

    return pull_with_bar(name, store)[0]


def _write(options: argparse.Namespace, found: dict[str, Any]) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    text = report.document(found)
    (options.out / "gpu-check.md").write_text(text, encoding="utf-8")
    (options.out / "gpu-check.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.write:
        gpu = found["device"]["name"]
        mark = "gpu-" + "".join(c if c.isalnum() else "-" for c in f"{gpu} {found['device']['tensorrt']}".lower())
        section(mark, f"GPU: {gpu}", "scripts/gpu-check --write", text)
    print(text)
    print(f"gpu-check: written to {options.out / 'gpu-check.md'} and .json", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
