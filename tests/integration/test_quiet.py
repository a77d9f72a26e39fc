"""The runtimes that we import start no telemetry, and may be used by several threads from the first moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from engines.quiet import import_onnxruntime
from tests.support.means import means_model


def test_the_engine_runs_without_openvinos_telemetry() -> None:
    code = (
        "import sys, threading\n"
        "from engines.quiet import import_openvino\n"
        "import_openvino().Core()\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
        "assert [t.name for t in threading.enumerate()] == ['MainThread'], threading.enumerate()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_fails_beside_another_import_is_imported_before_there_are_threads() -> None:
    code = "import sys, agent.models\nassert 'numpy.ma' in sys.modules and 'openvino' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_onnxruntime_stores_no_identifier_of_this_machine_and_no_events_to_upload(tmp_path: Path) -> None:
    import_onnxruntime()  # fails by name where it is not installed
    # Where it believes to be in CI it keeps quiet by itself.
    plain = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")}
    home, model = tmp_path / "home", means_model(tmp_path / "means.onnx")
    home.mkdir()
    code = (
        "import sys\n"
        "from engines.quiet import import_onnxruntime\n"
        "session = import_onnxruntime().InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])\n"
    )
    environment = plain | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    subprocess.run([sys.executable, "-c", code, str(model)], check=True, timeout=60, env=environment)
    assert list(home.rglob("*")) == []


def test_threads_that_use_openvino_for_the_first_time_at_once_do_not_wait_for_each_other_for_ever() -> None:
    """With OpenVINO 2026.4 as it is, five of eight such processes hang."""
    code = (
        "import os, threading\n"
        "from engines.quiet import import_openvino\n"
        "start = threading.Barrier(8)\n"
        "def use():\n"
        "    ov = import_openvino()\n"
        "    start.wait()\n"
        "    ov.Type.u8.to_dtype()\n"
        "threads = [threading.Thread(target=use, daemon=True) for _ in range(8)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join(30)\n"
        "os._exit(any(thread.is_alive() for thread in threads))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_signal_is_heard_whichever_thread_let_go_of_an_engine_last() -> None:
    """With an `openvino.Core` that goes, the process is killed instead."""
    code = (
        "import signal, threading\n"
        "from engines.quiet import openvino_core\n"
        "held = [openvino_core()]\n"
        "held[0].get_property('CPU', 'FULL_DEVICE_NAME')\n"
        "last = threading.Thread(target=held.clear)\n"
        "last.start()\n"
        "last.join()\n"
        "heard = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: heard.append('SIGTERM'))\n"
        "signal.raise_signal(signal.SIGTERM)\n"
        "assert heard == ['SIGTERM']\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_nothing_makes_an_openvino_core_of_its_own() -> None:
    command = ["grep", "-rn", r"\bCore()", "agent", "engines", "calibration", "--include=*.py"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.splitlines()
    assert [line.split(":")[0] for line in found] == ["engines/quiet.py"], found


def test_nothing_else_imports_openvino_or_onnxruntime() -> None:
    command = ["grep", "-rnE", r"^\s*(import|from) (openvino|onnxruntime)\b", "agent", "engines", "calibration"]
    found = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    assert {line.split(":")[0] for line in found} == {"engines/quiet.py"}
