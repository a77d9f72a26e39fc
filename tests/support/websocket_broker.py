"""A second real broker, one that listens to WebSockets: `python -m tests.support.websocket_broker [CERT KEY]`.

mosquitto as Debian builds it has none. For each line of its input it starts a new broker and prints
`READY TCP_PORT WEBSOCKET_PORT`, or stops the one that runs and prints `STOPPED`; it ends on end of input or with its
parent. With a certificate the WebSocket is encrypted. MQTT 3.1.1.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pytest

from tests.support.broker import die_with_parent, free_port
from tests.support.patience import PATIENCE_S


async def _serve(certificate: list[str]) -> None:
    from amqtt.broker import Broker

    encrypted = {"ssl": True, "certfile": certificate[0], "keyfile": certificate[1]} if certificate else {}
    broker: Broker | None = None
    while await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        if broker is not None:
            await asyncio.wait_for(broker.shutdown(), 2)
            broker = None
            print("STOPPED", flush=True)  # noqa: T201 - what the parent waits for
            continue
        tcp, websocket = free_port(), free_port()
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


class WebsocketBrokers:
    """A child process that has one broker after the other: to start Python and read the package takes half a second."""

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        """`certificate`: of the brokers, and its key."""
        pytest.importorskip("amqtt")
        files = [str(path) for path in certificate or ()]
        self._scheme = "wss" if certificate else "ws"
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.support.websocket_broker", *files],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=die_with_parent,
        )

    @contextmanager
    def broker(self) -> Iterator[WebsocketBroker]:
        """A new one, which knows nothing of those before."""
        word, tcp, websocket = self._asked()
        assert word == "READY"
        yield WebsocketBroker(f"{self._scheme}://127.0.0.1:{websocket}", f"mqtt://127.0.0.1:{tcp}")
        assert self._asked() == ["STOPPED"]

    def _asked(self) -> list[str]:
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write("next\n")
        self._child.stdin.flush()
        return self._child.stdout.readline().split()

    def __enter__(self) -> WebsocketBrokers:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            self._child.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.communicate()


@dataclass(frozen=True)
class WebsocketBroker:
    """One that runs."""

    url: str
    observer_url: str
    """Its plain listener."""


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(_serve(sys.argv[1:]))
