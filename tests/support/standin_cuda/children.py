"""Test functions in children that find the stand-in: forks of one process that was started with its LD_LIBRARY_PATH.

A fork each, so that no test sees another's contexts, errors or settings; of a process of its own, because pytest's has
threads, and looked for its libraries when it started.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe
from typing import Any, NoReturn

import pytest

from tests.support.patience import PATIENCE_S
from tests.support.standin_cuda import library, report

_LIMIT_S = 60
_parent: Connection | None = None


@contextmanager
def started() -> Iterator[None]:
    """The process to fork from, for as long as tests run."""
    global _parent
    ours, theirs = Pipe()
    paths = ":".join(filter(None, [str(library().parent), os.environ.get("LD_LIBRARY_PATH")]))
    variables = {**os.environ, "LD_LIBRARY_PATH": paths, "OPENBLAS_NUM_THREADS": "1"}
    code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve({theirs.fileno()})"
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=variables, pass_fds=[theirs.fileno()], start_new_session=True
        )
    _parent = ours
    try:
        yield
    finally:
        _parent = None
        ours.close()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run(module: str, function: str, arguments: dict[str, Any], variables: dict[str, str], clean: bool) -> None:
    """Call it in a child, and fail or skip as it does."""
    assert _parent is not None
    _parent.send((module, function, arguments, variables, clean))
    if not _parent.poll(_LIMIT_S):
        pytest.fail(f"no answer from the child within {_LIMIT_S} s")
    try:
        outcome, text = _parent.recv()
    except EOFError:
        pytest.fail("the process that children are forked from has ended")
    if outcome == "skipped":
        pytest.skip(text)
    if outcome != "passed":
        pytest.fail(text, pytrace=False)


def serve(connection: int) -> None:
    """Fork for each test that is asked for, until nobody asks any more."""
    import numpy  # noqa: F401  # once, and not in each child

    parent = Connection(connection)
    while True:
        try:
            request = parent.recv()
        except EOFError:
            return
        importlib.import_module(request[0])
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as answer:
            child = os.fork()
            if not child:
                parent.close()
                _child(request, output.fileno(), answer.fileno())
                _end()
            parent.send(_outcome(_wait(child), output, answer))


def _end() -> NoReturn:
    """As a program ends, with all that this sets off in Python and in C, but for taking modules apart: 0.2 s."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    ctypes.CDLL(None).exit(0)
    raise AssertionError("not reached")


def _wait(child: int) -> int | None:
    """Its exit status, negative for a signal; None if it did not end in time."""
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.alarm(_LIMIT_S - 10)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if signal.alarm(0) else None


def _outcome(status: int | None, output: Any, answer: Any) -> tuple[str, str]:
    output.seek(0)
    answer.seek(0)
    said = output.read().decode(errors="replace")
    outcome, text = pickle.loads(answer.read() or pickle.dumps(("failed", "")))
    if status is None:
        return "failed", f"{text}\nthe child did not end within {_LIMIT_S - 10} s\n{said}"
    if status:
        ended = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return "failed", f"{text}\nthe child {ended}\n{said}"
    if outcome == "passed" and "PyCUDA" in said:
        return "failed", said
    return outcome, text if outcome != "failed" else f"{text}\n{said}"


def _child(request: Any, output: int, answer: int) -> None:
    module, function, arguments, variables, clean = request
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    os.environ.update(variables)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        getattr(sys.modules[module], function).__wrapped__(**arguments)
        told = _left_over() if clean else ""
        result = ("failed", told) if told else ("passed", "")
    except pytest.skip.Exception as error:
        result = ("skipped", str(error))
    except BaseException as error:  # noqa: BLE001 - whatever it was, the parent has to know
        result = ("failed", "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()))
    with open(answer, "wb", closefd=False) as file:
        pickle.dump(result, file)


def _left_over() -> str:
    found = report()
    left = {part: {kind: n for kind, n in found[part].items() if n} for part in ("alive", "leaked")}
    lines = [f"{part}: {kinds}" for part, kinds in left.items() if kinds]
    lines += [f"{found['overruns']} writes beyond the end of memory"] if found["overruns"] else []
    return f"left behind in CUDA: {'; '.join(lines)}" if lines else ""
