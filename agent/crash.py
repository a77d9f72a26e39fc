"""What a fault of ours prints where nothing catches it: a traceback like any other, without credentials.

A library's exception may repeat the address that it was given: `av.error.HTTPUnauthorizedError` does, password and all.
"""

from __future__ import annotations

import sys
import threading
import traceback
from types import TracebackType

from agent.secrets import redact


def redact_tracebacks() -> None:
    """From now on, of the main thread, of others, and of what cannot be raised."""
    sys.excepthook = _print
    threading.excepthook = lambda args: _of_thread(args)
    sys.unraisablehook = lambda args: _print(args.exc_type, args.exc_value, args.exc_traceback)


def _print(kind: type[BaseException], error: BaseException | None, where: TracebackType | None) -> None:
    if sys.stderr is not None:
        sys.stderr.write(redact("".join(traceback.format_exception(kind, error, where))))


def _of_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        _print(args.exc_type, args.exc_value, args.exc_traceback)
