"""The journal of systemd, in its own protocol: a priority and fields with each line, also of lines that go on.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL: a datagram of `FIELD=value` lines; a value of several lines comes after
`FIELD`, a line feed and its length as 64 bits, little-endian.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import sys
from collections.abc import Mapping

SOCKET = "/run/systemd/journal/socket"
IDENTIFIER = "sightwire"
LONGEST = 64_000
"""Bytes of a message; one that does not fit into a datagram would be lost."""
LONGEST_SUBJECT = 200

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def priority(level: int) -> int:
    """Of syslog: 2 critical, 3 error, 4 warning, 6 info, 7 debug."""
    return next((number for least, number in _PRIORITIES if level >= least), 7)


def wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether stderr goes to the journal: `JOURNAL_STREAM` names its device and inode."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        ours = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return (device, inode) == (str(ours.st_dev), str(ours.st_ino))


class JournalHandler(logging.Handler):
    """Each record with PRIORITY, LOGGER, THREAD_NAME, CODE_*, and SIGHTWIRE_ABOUT: the camera, engine or sink."""

    def __init__(self, fallback: logging.Handler, address: str | None = None) -> None:
        """`fallback` gets what the journal does not take."""
        super().__init__()
        self._fallback, self._address = fallback, address or SOCKET
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        """Send it; never raises."""
        try:
            self._door.sendto(self._datagram(record), self._address)
        except OSError:
            self._fallback.handle(record)
        except Exception:  # noqa: BLE001  # as every handler of logging: a line that cannot be said ends nothing
            self.handleError(record)

    def close(self) -> None:
        """Close the socket."""
        self._door.close()
        super().close()

    def _datagram(self, record: logging.LogRecord) -> bytes:
        message = self.format(record)
        fields = {
            "MESSAGE": message,
            "PRIORITY": str(priority(record.levelno)),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            "LOGGER": record.name,
            "THREAD_NAME": record.threadName or "",
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName,
        }
        if subject := subject_of(message):
            fields["SIGHTWIRE_ABOUT"] = subject
        return b"".join(_field(name, value.encode("utf-8", "replace")[:LONGEST]) for name, value in fields.items())


def subject_of(message: str) -> str | None:
    """Who a line is about, a camera, an engine, a sink: what stands before its first colon."""
    subject, colon, _ = message.partition(": ")
    return subject if colon and len(subject) <= LONGEST_SUBJECT and "\n" not in subject else None


def _field(name: str, value: bytes) -> bytes:
    if b"\n" in value:
        return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    return name.encode() + b"=" + value + b"\n"
