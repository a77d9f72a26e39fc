"""A second real broker, one that listens to WebSockets: `python -m tests.support.websocket_broker [CERT KEY]`.

mosquitto as Debian builds it has none. Prints `READY TCP_PORT WEBSOCKET_PORT`; ends on end of input or with its parent.
With a certificate the WebSocket is encrypted. MQTT 3.1.1.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import pytest

from tests.support.broker import die_with_parent, free_port


async def _serve(certificate: list[str]) -> None:
    from amqtt.broker import Broker

    tcp, websocket = free_port(), free_port()
    encrypted = {"ssl": True, "certfile": certificate[0], "keyfile": certificate[1]} if certificate else {}
    broker = Broker(
        {
            "listeners": {
                "default": {"type": "tcp", "bind": f"127.0.0.1:{tcp}"},
                "ws": {"type": "ws", "bind": f"127.0.0.1:{websocket}", **encrypted},
            },
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    print(f"READY {tcp} {websocket}", flush=True)  # noqa: T201 - what the parent waits for
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await asyncio.wait_for(broker.shutdown(), 2)


class WebsocketBroker:
    """Runs as a child process, ready when the constructor returns."""

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        """`certificate`: of the broker, and its key."""
        pytest.importorskip("amqtt")
        files = [str(path) for path in certificate or ()]
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.support.websocket_broker", *files],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=die_with_parent,
        )
        assert self._child.stdout
        word, tcp, websocket = self._child.stdout.readline().split()
        assert word == "READY"
        self.url = f"{'wss' if certificate else 'ws'}://127.0.0.1:{websocket}"
        self.observer_url = f"mqtt://127.0.0.1:{tcp}"

    def __enter__(self) -> WebsocketBroker:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            self._child.communicate("end\n", 5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.communicate()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(_serve(sys.argv[1:]))
