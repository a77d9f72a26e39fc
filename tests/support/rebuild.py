"""Writes INT8 files again from FP32 files and tables, with these versions of onnx and numpy or with others.

`python -m tests.support.rebuild STORE` prints their sha256s as JSON, which must be the same for all versions.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx

from engines.card import model_file
from engines.graph import load, serialise
from engines.qdq import Table, apply, half, lint
from engines.store import ModelStore
from tests.support.tables import branching_fp32, everything, unmeasured_table


def sums(store: ModelStore) -> dict[str, str]:
    """Of the INT8 files of a store's models, and of a small network whose table has everything; with the versions."""
    found = {"onnx": onnx.__version__, "numpy": np.__version__}
    for name in store.names():
        card, folder = store.find(name)
        if not (folder / "table.json").is_file():
            continue
        table = Table.parse((folder / "table.json").read_bytes(), name)
        found[name] = _sum(apply(load(model_file(card, folder, "fp32")), table))
    fp32 = branching_fp32()
    int8 = apply(fp32, unmeasured_table(fp32, **everything(fp32)))
    lint(int8)
    return found | {"branching": _sum(int8), "branching, float16": _sum(half(int8))}


def install(folder: Path, *requirements: str) -> None:
    """Put those packages alone into a folder, as wheels. Raises CalledProcessError with what pip says."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-compile", "--only-binary=:all:", f"--target={folder}", *requirements]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=240)


def sums_with(packages: Path, store: ModelStore) -> dict[str, str]:
    """What another Python process finds whose onnx and numpy are those of a folder."""
    paths = [str(packages), str(Path(__file__).parents[2])]
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.rebuild", str(store.root)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        raise AssertionError(done.stderr)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _sum(model: onnx.ModelProto) -> str:
    return hashlib.sha256(serialise(model)).hexdigest()


if __name__ == "__main__":
    print(json.dumps(sums(ModelStore(Path(sys.argv[1])))))  # noqa: T201
