"""A GPU whose driver comes up after the program has: waited for, and asked by a process of its own.

A driver may remember in a process that it found nothing there (it is asked once, by cuInit), so each question is put by
a new process, and by ours only when that has been answered well. A library that is not there costs no process.
"""

from __future__ import annotations

import ctypes
import logging
import random
import subprocess
import sys
import threading

from engines.cuda.errors import NoDevice
from engines.cuda.probe import LIBRARY
from engines.errors import BackendError
from engines.trt import flavours
from engines.trt.here import device, lacking

log = logging.getLogger(__name__)

_FIRST_S, _MOST_S = 2.0, 60.0
"""Between two questions: more and more seldom, since most that are late are late by seconds."""
_ANSWER_S = 30.0
"""A GPU that sleeps takes a second to answer; one that takes longer than this hangs."""
_ASK = f"""
import ctypes, sys
lib, count = ctypes.CDLL({LIBRARY!r}), ctypes.c_int()
sys.exit(lib.cuInit(0) != 0 or lib.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value <= int(sys.argv[1]))
"""


def may_come(ordinal: int, flavour: flavours.Name | None) -> bool:
    """Whether only the GPU is lacking, and TensorRT would be here for it."""
    try:
        flavours.find(flavour)
        device(ordinal)
    except NoDevice as error:
        return error.code is not None or not _loads()  # not one that is too old: it stays so
    except BackendError:
        return False
    return False


def wait_for(ordinal: int, flavour: flavours.Name | None, stop: threading.Event) -> None:
    """Return when the GPU is there. Raises BackendError if `stop` came first, or if this process cannot see it."""
    wait_s = _FIRST_S
    while not stop.wait(wait_s * random.uniform(0.5, 1)):
        if _answers(ordinal, stop):
            if why := lacking(ordinal, flavour):
                raise BackendError(f"a GPU is here now, but not for a program that was started before it: {why}")
            log.info("GPU %d is here now: TensorRT is made ready", ordinal)
            return
        wait_s = min(2 * wait_s, _MOST_S)
    raise BackendError("stopped before a GPU came")


def _loads() -> bool:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def _answers(ordinal: int, stop: threading.Event) -> bool:
    """Whether a new process finds it."""
    if not _loads():
        return False
    # stdin and stdout are not ours to share; what Python would say of a crash belongs to nobody.
    null = subprocess.DEVNULL
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _ASK, str(ordinal)], stdin=null, stdout=null, stderr=null, cwd="/"
        )
    except OSError:
        return False
    waited_s = 0.0
    while child.poll() is None and waited_s < _ANSWER_S and not stop.wait(0.05):
        waited_s += 0.05
    if child.poll() is None:
        child.kill()
        try:
            child.wait(1)
        except subprocess.TimeoutExpired:  # stuck in the driver: not even SIGKILL ends it
            return False
    return child.returncode == 0
