"""Nothing leaves unasked: importing OpenVINO starts no telemetry."""

from __future__ import annotations

import subprocess
import sys


def test_the_engine_runs_without_openvinos_telemetry() -> None:
    code = (
        "import sys, threading\n"
        "from engines.quiet import import_openvino\n"
        "import_openvino().Core()\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
        "assert [t.name for t in threading.enumerate()] == ['MainThread'], threading.enumerate()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_nothing_else_imports_openvino() -> None:
    command = ["grep", "-rnE", r"^\s*(import|from) openvino", "agent", "engines", "calibration"]
    found = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    assert [line.split(":")[0] for line in found] == ["engines/quiet.py"]
