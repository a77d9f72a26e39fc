"""What TensorRT says while it works: kept, and judged.

A process has one logger of each flavour. TensorRT takes the first that it is given for everything and ignores any other
for as long as a builder or runtime lives; who wants to hear what is said from now on listens to that one.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SOURCE = re.compile(r"^(WARNING |ERROR: )?[\w/.]+\.(cpp|cu|h):\d+:? ")
"""Where in its own source TensorRT stood."""

_HARMLESS = re.compile(
    # float16 scales, which the kernels of Ampere and later read as float32: the same values
    r"Converting conv (activation|weight) scales to fp32"
    # 8.6 says so of every network with Q/DQ and the INT8 flag; there is no calibrator
    r"|Calibrator won't be used in explicit precision mode"
    # 8.6, of the shapes of Reshape and of Slice to the end of a dimension
    r"|does not natively support INT64|outside the range of INT32 was clamped"
    # memory while building, nothing after
    r"|CUDA lazy loading is not enabled"
)
"""Warnings that change nothing."""

_FOLLOWS = re.compile(r"Assertion engine != nullptr failed|catchCudaError")
"""What is only said because something else went wrong; the second, without a driver, after every error."""
_QUANTISATION = re.compile(r"quanti|int8|\bscales?\b|zero.?point|calibrat|dynamic range|precision", re.IGNORECASE)


class Messages:
    """Warnings and errors, in the order in which they were said; texts without TensorRT's source lines."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        """Each once, without those that change nothing."""
        self.errors: list[str] = []

    def add(self, severity: str, text: str) -> None:
        """Keep a message of that severity (`WARNING`, `ERROR`, ...) if it is one of these."""
        text = _SOURCE.sub("", " ".join(text.split()))
        if severity == "WARNING":
            if text not in self.warnings and not _HARMLESS.search(text):
                self.warnings.append(text)
        elif severity in ("ERROR", "INTERNAL_ERROR"):
            self.errors.append(text)

    def causes(self) -> list[str]:
        """Return the errors but for those that follow from others."""
        return [text for text in self.errors if not _FOLLOWS.search(text)] or self.errors

    def reason(self, otherwise: str) -> str:
        """Return the last of these; `otherwise` where there is none."""
        return (self.causes() or [otherwise])[-1]

    def of_quantisation(self) -> str | None:
        """Return the first warning that says that INT8 is not what the file says."""
        return next((text for text in self.warnings if _QUANTISATION.search(text)), None)


def logger(trt: Any) -> Any:
    """Return the process's ILogger of this namespace: what Builder, OnnxParser and Runtime are made with."""
    with _MAKING:  # models start at the same time: TensorRT would go on with a second one that nobody keeps
        known = _LOGGERS.get(id(trt))
        if known is None:
            known = _LOGGERS[id(trt)] = trt, _made(trt)
        return known[1]


def _made(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]  # its base is only known when TensorRT is
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.listeners: list[Messages] = []

        def log(self, severity: Any, message: str) -> None:
            for listener in list(self.listeners):
                listener.add(severity.name, message)

    return Log()


_MAKING = threading.Lock()
_LOGGERS: dict[int, tuple[Any, Any]] = {}
"""Identity of a namespace -> it and its logger, for as long as the process: TensorRT keeps no reference."""


@contextmanager
def listening(trt: Any) -> Iterator[Messages]:
    """Hear all that TensorRT says meanwhile, in any thread."""
    messages, listeners = Messages(), logger(trt).listeners
    listeners.append(messages)
    try:
        yield messages
    finally:
        listeners.remove(messages)
