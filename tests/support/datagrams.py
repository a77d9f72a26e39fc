"""The way of RTP and RTCP where RTSP asks for UDP: the conversation is told of ports of ours, which pass on."""

from __future__ import annotations

import contextlib
import re
import socket

_HOST = "127.0.0.1"
_ASKED = re.compile(rb"client_port=(\d+)-(\d+)")
_ANSWERED = re.compile(rb"server_port=(\d+)-(\d+)")


class Datagrams:
    """Two sockets between the ports that the agent has named (RFC 2326, 12.39) and those of the camera's answer."""

    def __init__(self, agent: tuple[int, int]) -> None:
        self.sockets = _pair()
        """Of RTP, and of RTCP."""
        self._agent, self._camera = agent, (0, 0)
        self._ours = tuple(end.getsockname()[1] for end in self.sockets)

    @classmethod
    def asked_for(cls, request: bytes) -> tuple[bytes, Datagrams | None]:
        """The request as the camera is to see it; and the way, if it asks for one."""
        ports = _ASKED.search(request)
        if not request.startswith(b"SETUP") or ports is None:
            return request, None
        way = cls((int(ports[1]), int(ports[2])))
        return _ASKED.sub(b"client_port=%d-%d" % way._ours, request), way

    def answered(self, answer: bytes) -> bytes:
        """The camera's answer as the agent is to see it."""
        ports = _ANSWERED.search(answer)
        if ports is None:
            return answer
        self._camera = int(ports[1]), int(ports[2])
        return _ANSWERED.sub(b"server_port=%d-%d" % self._ours, _ASKED.sub(b"client_port=%d-%d" % self._agent, answer))

    def take(self, end: socket.socket) -> tuple[bytes | None, bool]:
        """What came there, None: nothing; and whether it is the camera's."""
        try:
            data, (_, port) = end.recvfrom(1 << 16)
        except OSError:  # nobody is at the other end any more
            return None, False
        return data, port == self._camera[self.sockets.index(end)]

    def pass_on(self, end: socket.socket, data: bytes, *, to_agent: bool) -> None:
        """Send it on; that nobody takes it is nobody's concern."""
        port = (self._agent if to_agent else self._camera)[self.sockets.index(end)]
        if port:
            with contextlib.suppress(OSError):
                end.sendto(data, (_HOST, port))

    def close(self) -> None:
        """Nothing comes or goes any more."""
        for end in self.sockets:
            end.close()


def _pair() -> tuple[socket.socket, socket.socket]:
    """Two ports, of which the first is even (RFC 3550, 11)."""
    for _ in range(100):
        first, second = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        with contextlib.suppress(OSError, OverflowError):
            first.bind((_HOST, 0))
            port = first.getsockname()[1]
            if port % 2 == 0:
                second.bind((_HOST, port + 1))
                for end in (first, second):
                    end.setblocking(False)
                return first, second
        first.close()
        second.close()
    raise OSError("no two ports beside each other are free")
