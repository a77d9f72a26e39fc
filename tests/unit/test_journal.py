"""Lines for the journal of systemd."""

from __future__ import annotations

import io
import logging
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import journal
from agent.log import configure


class Journal:
    """Listens as journald does."""

    def __init__(self, address: Path) -> None:
        self.address = str(address)
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._door.bind(self.address)
        self._door.setblocking(False)

    def entry(self) -> dict[str, str]:
        """The fields of the next line, read as the protocol's document says."""
        rest, fields = self._door.recv(300_000), {}
        while rest:
            line, _, rest = rest.partition(b"\n")
            name, equals, value = line.partition(b"=")
            if not equals:
                (length,) = struct.unpack_from("<Q", rest)
                value, rest = rest[8 : 8 + length], rest[9 + length :]
            fields[name.decode()] = value.decode()
        return fields

    def close(self) -> None:
        self._door.close()


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    """Logging goes to a journal, as under systemd; afterwards as it was before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    listening = Journal(tmp_path / "journal")
    monkeypatch.setattr(journal, "SOCKET", listening.address)
    with (tmp_path / "stderr").open("w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        stream = os.fstat(stderr.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{stream.st_dev}:{stream.st_ino}")
        configure("debug")
        yield listening
        for handler in root.handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    listening.close()


LOG = logging.getLogger("agent.test")


def test_no_field_of_a_line_has_a_password(heard: Journal) -> None:
    """Nor what it is about, which is the beginning of the message."""
    LOG.error("rtsp://cam:gEhe1m@10.0.0.7/s1?pwd=gEhe1m: %s: no answer", "http://cam:gEhe1m@10.0.0.8/")
    entry = heard.entry()
    assert entry["SIGHTWIRE_ABOUT"].startswith("rtsp://***@10.0.0.7/s1?pwd=***")
    assert "gEhe1m" not in str(entry)


def test_a_line_has_its_priority_and_says_whom_it_is_about(heard: Journal) -> None:
    """`journalctl -p warning SIGHTWIRE_ABOUT=dock` finds it."""
    LOG.warning("%s: rtsp://x: the camera is silent", "dock")
    entry = heard.entry()
    assert (entry["MESSAGE"], entry["PRIORITY"]) == ("dock: rtsp://x: the camera is silent", "4")
    assert (entry["SIGHTWIRE_ABOUT"], entry["SYSLOG_IDENTIFIER"]) == ("dock", "sightwire")
    assert (entry["LOGGER"], entry["CODE_FUNC"], entry["THREAD_NAME"]) == (
        "agent.test",
        "test_a_line_has_its_priority_and_says_whom_it_is_about",
        "MainThread",
    )


@pytest.mark.parametrize(("level", "number"), [(50, "2"), (40, "3"), (30, "4"), (20, "6"), (10, "7")])
def test_levels_are_those_of_syslog(heard: Journal, level: int, number: str) -> None:
    """2 critical, 3 error, 4 warning, 6 info, 7 debug."""
    LOG.log(level, "x")
    assert heard.entry()["PRIORITY"] == number


def test_a_traceback_is_one_entry(heard: Journal) -> None:
    """Of all its lines."""
    try:
        raise ValueError("broken")
    except ValueError:
        LOG.exception("engine-people: stopped by a fault of ours")
    entry = heard.entry()
    assert entry["MESSAGE"].startswith("engine-people: stopped by a fault of ours\nTraceback")
    assert entry["MESSAGE"].endswith("ValueError: broken")
    assert entry["SIGHTWIRE_ABOUT"] == "engine-people"


def test_credentials_are_masked_in_every_field(heard: Journal) -> None:
    """As on stderr."""
    LOG.error("rtsp://root:swordfish@x/1: no: %s", "mqtt://me:swordfish@y")
    assert "swordfish" not in str(heard.entry())


def test_a_message_beyond_measure_is_cut(heard: Journal) -> None:
    """A datagram has a limit; cut is better than lost."""
    LOG.info("x" * 1_000_000)
    assert len(heard.entry()["MESSAGE"]) == journal.LONGEST


def test_without_a_journal_priorities_stand_before_the_lines(tmp_path: Path, heard: Journal) -> None:
    """Systemd reads them from stderr too."""
    Path(heard.address).unlink()
    LOG.warning("two\nlines")
    sys.stderr.flush()
    assert (tmp_path / "stderr").read_text() == "<4>two\n<4>lines\n"


def test_stderr_that_goes_elsewhere_is_not_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is inherited by whoever redirects."""
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    assert not journal.wanted()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not journal.wanted()
