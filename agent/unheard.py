"""A broker of our own that nobody listens to: `bench --plan` publishes to it as the agent would to the real one.

It takes every message, answers what has to be answered, and passes nothing on. A child process, so that it takes no
time from the agent's interpreter: `python -m agent.unheard` prints `READY mqtt://127.0.0.1:PORT` and ends with its
standard input, which is its parent's.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from agent.errors import AgentError

CONNECT, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, PINGREQ = 1, 3, 8, 10, 12
V5 = 5


@contextmanager
def unheard() -> Iterator[str]:
    """One that runs; its URL. Raises AgentError."""
    command = [sys.executable, "-m", "agent.unheard"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            said = child.stdout.readline().split() if child.stdout else []
            if said[:1] != ["READY"]:
                raise AgentError("the plan's own broker does not start: is a port of 127.0.0.1 to be had?")
            yield said[1]
        finally:
            child.kill()


class Peer(asyncio.Protocol):
    """One client."""

    def __init__(self) -> None:
        self._here = bytearray()
        self._v5 = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._here += data
        while (ends := _ends(self._here)) is not None:
            start, end = ends
            answer = self._answer(self._here[0], self._here[start:end])
            del self._here[:end]
            if answer:
                self._transport.write(answer)

    def _answer(self, first: int, body: bytearray) -> bytes:
        """What MQTT 3.1.1 or 5 wants to hear to a packet; nothing to a result (QoS 0)."""
        kind = first >> 4
        if kind == CONNECT:
            self._v5 = body[6] == V5
            return b"\x20\x03\0\0\0" if self._v5 else b"\x20\x02\0\0"
        if kind == PUBLISH and first & 0b110:
            topic = 2 + int.from_bytes(body[:2], "big")
            return b"\x40\x02" + body[topic : topic + 2]
        if kind in (SUBSCRIBE, UNSUBSCRIBE):
            # The agent asks for one topic at a time: one code, of success.
            said = {(SUBSCRIBE, True): b"\0\0", (SUBSCRIBE, False): b"\0", (UNSUBSCRIBE, True): b"\0\0"}
            codes = said.get((kind, self._v5), b"")
            return bytes([(kind + 1) << 4, 2 + len(codes)]) + body[:2] + codes
        return b"\xd0\0" if kind == PINGREQ else b""


def _ends(data: bytearray) -> tuple[int, int] | None:
    """Where the body of the packet at the start begins and ends; None: it is not all here."""
    size = 0
    for place, digit in enumerate(data[1:5]):
        size |= (digit & 127) << 7 * place
        if digit < 128:
            start = place + 2
            return (start, start + size) if len(data) >= start + size else None
    return None


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Peer, "127.0.0.1", 0)
    print(f"READY mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)  # noqa: T201 - for the parent
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who ends us
    asyncio.run(_serve())
