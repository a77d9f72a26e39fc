"""Runtimes without their telemetry: nothing leaves a machine unasked. The only place that imports them.

`import openvino` (2025.1 to 2026.4 at least) reports a "general_import" event to a web analytics service, from a thread
that it starts. Where the telemetry package is absent it uses a stub, so it is made to look absent.

`import onnxruntime` (1.29 and later, Linux too) stores an identifier of this machine under `~/.cache` and uploads
events about the process and its models to its maker. An environment variable that is set before the import prevents
all of it; the call that the API has for this comes after the first event.

And OpenCV without its chatter.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from types import ModuleType
from typing import Any, cast

import numpy as np

# It looks through numpy's types while it is imported, and fails if another thread adds some just then, as the import of
# onnx does. OpenVINO would import it in whatever thread comes first; this module is imported before there are any.
import numpy.ma

from engines.errors import BackendError

FATAL = 4
"""Severity that ONNX Runtime logs at: what goes wrong comes as an exception, and it would print it as well."""
_ONE_BY_ONE = threading.Lock()


def import_openvino() -> Any:
    """Return the `openvino` module. Raises BackendError where it does not load."""
    # None in sys.modules makes an import fail as if the package were not installed.
    sys.modules.setdefault("openvino_telemetry", cast(ModuleType, None))
    try:
        import openvino
    except (ImportError, OSError) as error:
        raise BackendError(f"OpenVINO does not load ({error}): pip install --upgrade openvino") from None
    # Its tables of element types are made at their first use, with the GIL let go meanwhile: a second thread that comes
    # along then waits for them with the GIL in its hands, and neither goes on. So they are made here.
    with _ONE_BY_ONE:
        openvino.Tensor(np.zeros(1, np.uint8), shared_memory=True).element_type.to_dtype()
    return openvino


@functools.cache
def openvino_core() -> Any:
    """Return the one `openvino.Core` of this process. Raises BackendError where OpenVINO does not load.

    It is never given back: its CPU plugin gives the thread that loads it an alternate signal stack, unmapped when
    the last Core goes. Where another thread lets go of it, the first is killed by the next signal that it handles:
    Ctrl-C, say (2026.4, docs/adr/0037-one-core-for-ever.md).
    """
    return import_openvino().Core()


def import_onnxruntime() -> Any:
    """Return the `onnxruntime` module. Raises BackendError where it is not installed or does not load."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise BackendError("onnxruntime is not installed: pip install 'sightwire[onnxruntime]'") from None
    except (ImportError, OSError) as error:
        raise BackendError(f"onnxruntime does not load ({error}): pip install --upgrade onnxruntime") from None
    onnxruntime.disable_telemetry_events()  # for the case that somebody else imported it first
    onnxruntime.set_default_logger_severity(FATAL)
    return onnxruntime


@functools.cache
def quiet_opencv() -> Any:
    """The module cv2, which from now on prints nothing on stderr: it would name addresses, passwords included.

    And which opens streams side by side: else a camera that does not answer keeps all others waiting for their turn
    (until its time is over: three seconds for each that is away). FFmpeg has not needed that lock since 4.0.
    """
    # Read once, when FFmpeg is first used; -8 is AV_LOG_QUIET.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_FFMPEG_IS_THREAD_SAFE", "1")
    import cv2 as module

    cv2: Any = module
    # OpenCV 5 has moved it; 0 is LOG_LEVEL_SILENT.
    set_level = cv2.utils.logging.setLogLevel if hasattr(cv2.utils, "logging") else cv2.setLogLevel
    set_level(0)
    return cv2


def preload_cuda(onnxruntime: Any) -> None:
    """Let it find CUDA's libraries among the installed packages; what it misses, it prints: not to stdout."""
    preload = getattr(onnxruntime, "preload_dlls", None)  # 1.21 and later
    if preload is not None:
        with _ONE_BY_ONE, contextlib.redirect_stdout(sys.stderr):
            preload()
