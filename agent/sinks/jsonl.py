"""JSON lines to a file or to standard output: one message a line, its topic first."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from agent.errors import Transient
from agent.messages import Blob
from agent.sinks import Message, Sink, SinkConfig

RETRY_NS = 1_000_000_000
"""Pause before a file that could not be opened is tried again."""


class Config(SinkConfig):
    """`{type: jsonl, path: results.jsonl}`; `-` is standard output."""

    type: Literal["jsonl"] = "jsonl"
    path: Path
    prefix: Annotated[str, Field(min_length=1)] = "sightwire"
    """Topics are written as MQTT would carry them: `<prefix>/<agent>/...`."""

    def open(self, agent: str, farewell: Message) -> JsonLinesSink:  # noqa: ARG002 - a file says nothing by itself
        """Build the sink. The file is appended to; one that cannot be opened is tried again later."""
        return JsonLinesSink(self.path, f"{self.prefix}/{agent}")


class JsonLinesSink(Sink):
    """Each line is written with one call, so that a reader never sees half of one."""

    name = "jsonl"

    def __init__(self, path: Path, base: str) -> None:
        self._path = path
        self._base = base
        self._lock = threading.Lock()  # state() is called by other threads
        self._fd: int | None = None
        self._torn = False
        self._retry_ns = 0
        self._reason: str | None = None
        self._sent = self._bytes = self._failed = 0
        with contextlib.suppress(Transient):
            self._open()
        self._failed = 0

    def ready(self, timeout_s: float) -> bool:  # noqa: ARG002 - a file takes or refuses at once
        """Yes: a file is never waited for."""
        return True

    def send(self, message: Message) -> None:
        """Append a line. Raises Transient for a full disk, a closed pipe or a file that cannot be opened."""
        payload = _line_of(message)
        topic = json.dumps(f"{self._base}/{message.topic}", ensure_ascii=False).encode()
        rest = payload[1:] if payload == b"{}" else b"," + payload[1:]
        line = b'{"topic":' + topic + rest + b"\n"
        fd = self._open()
        try:
            self._write(fd, line)
        except OSError as error:
            raise self._failure(error) from None
        with self._lock:
            self._reason = None
            self._sent += 1
            self._bytes += len(line)

    def close(self, deadline_s: float) -> None:  # noqa: ARG002 - nothing is buffered
        """Close the file; standard output stays open."""
        fd, self._fd = self._fd, None
        if fd is not None and not self._is_stdout:
            os.close(fd)

    def state(self) -> dict[str, Any]:
        """`state` (connected, failed) and `reason`, counters."""
        with self._lock:
            return {"type": self.name, "state": "failed" if self._reason else "connected",
                    "connected": self._reason is None, "reason": self._reason,
                    "sent": self._sent, "bytes": self._bytes, "failed": self._failed}  # fmt: skip

    @property
    def _is_stdout(self) -> bool:
        return str(self._path) == "-"

    def _open(self) -> int:
        if self._fd is None:
            if self._is_stdout:
                self._fd = 1
            elif time.monotonic_ns() < self._retry_ns:
                raise self._failure(None)
            else:
                try:
                    self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
                except OSError as error:
                    self._retry_ns = time.monotonic_ns() + RETRY_NS
                    raise self._failure(error) from None
        return self._fd

    def _write(self, fd: int, line: bytes) -> None:
        """All of it or, where the file can be shortened again, nothing."""
        if self._torn:
            line = b"\n" + line
        done = 0
        try:
            while done < len(line):
                done += os.write(fd, line[done:])
        except OSError:
            if done:
                self._torn = not _take_back(fd, done) or self._torn
            raise
        self._torn = False

    def _failure(self, error: OSError | None) -> Transient:
        """Count it; the sender says it."""
        reason = self._reason if error is None else f"{self._path}: {(error.strerror or str(error)).lower()}"
        with self._lock:
            self._reason = reason
            self._failed += 1
        return Transient(reason or "")


def _line_of(message: Message) -> bytes:
    """One JSON object; of what is none only what there is to say of it, for a line is no place for a picture."""
    blob = message.payload
    if not isinstance(blob, Blob):
        return message.encode(time.monotonic_ns())
    return json.dumps({**blob.facts, "content_type": blob.content_type, "bytes": len(blob.data)}).encode()


def _take_back(fd: int, count: int) -> bool:
    """Cut the last `count` bytes off a file; False for what is no file."""
    try:
        os.ftruncate(fd, os.fstat(fd).st_size - count)
    except OSError:
        return False
    return True
