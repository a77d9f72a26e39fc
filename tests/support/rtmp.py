"""An RTMP camera that lets nobody in: the handshake, then "no" to `connect`, as servers do that want a password.

Message and chunk formats: Adobe's RTMP Specification 1.0, sections 5.2, 5.3 and 7.2.1.1; values: AMF 0.
"""

from __future__ import annotations

import socket
import struct

from tests.support.answering import Answering

_CHUNK = 128
_REJECT = "[ AccessManager.Reject ] : "
_WORDS = (
    (b"response=", f"{_REJECT}[ authmod=adobe ] : ?reason=authfailed&opaque=3"),
    (b"authmod=", f"{_REJECT}[ authmod=adobe ] : ?reason=needauth&user=me&salt=1&challenge=2&opaque=3"),
    (b"", f"{_REJECT}[ code=403 need auth; authmod=adobe ] : "),
)


def _wrong_password(command: bytes) -> str:
    """What a server answers that asks for a user name, then for a password, and then knows it better."""
    return next(words for asked, words in _WORDS if asked in command)


class RtmpRefuser(Answering):
    """Refuses every `connect`."""

    def __init__(self) -> None:
        super().__init__(patience_s=2)
        self.tries = 0
        """Of a password."""

    def answer(self, client: socket.socket) -> None:
        """See Answering."""
        hello = client.recv(1 + 1536, socket.MSG_WAITALL)
        client.sendall(b"\3" + bytes(1536) + hello[1:])
        client.recv(1536, socket.MSG_WAITALL)
        command = b""
        while not command.endswith(b"\0\0\x09"):  # the end of the object that `connect` has
            if not (more := client.recv(4096)):
                return
            command += more
        # Each further chunk of a message begins with a byte of its own.
        command = command.replace(b"\xc3", b"")
        self.tries += b"response=" in command
        client.sendall(_error(_wrong_password(command)))
        client.recv(1)  # let it go first


def _error(words: str) -> bytes:
    fields = {"level": "error", "code": "NetConnection.Connect.Rejected", "description": words}
    info = b"".join(struct.pack(">H", len(name)) + name.encode() + _string(value) for name, value in fields.items())
    body = _string("_error") + b"\0" + struct.pack(">d", 1) + b"\5" + b"\3" + info + b"\0\0\x09"
    head = b"\3" + bytes(3) + len(body).to_bytes(3, "big") + b"\x14" + bytes(4)
    return head + b"\xc3".join(body[at : at + _CHUNK] for at in range(0, len(body), _CHUNK))


def _string(text: str) -> bytes:
    return b"\2" + struct.pack(">H", len(text)) + text.encode()
