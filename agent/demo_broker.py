"""A small MQTT broker for the demo: `python -m agent.demo_broker --port 0`.

A child process, so that it takes no time from the agent's interpreter. Loopback only, nothing kept, MQTT 3.1.1.
Prints `READY mqtt://127.0.0.1:PORT` when it listens; ends on SIGTERM, on SIGINT and when its parent is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
from typing import Any

PR_SET_PDEATHSIG = 1


def _settings(port: int) -> dict[str, Any]:
    return {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        # Without this list, amqtt looks for plugins in all installed packages and prints a statistics line a message.
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }


def _free_port() -> int:
    """Choose a port: amqtt does not say which one it got for 0. Were it taken meanwhile, we end with an error."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def _serve(port: int) -> None:
    from amqtt.broker import Broker

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    broker = Broker(_settings(port))
    await broker.start()
    print(f"READY mqtt://127.0.0.1:{port}", flush=True)  # noqa: T201 - what the parent waits for
    await ended.wait()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(broker.shutdown(), 2)


def _end_with_parent(parent: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(0)


def main() -> None:
    """Serve until told to end. Exit status 1, with one line, if the port is taken or amqtt is not installed."""
    parent = os.getppid()
    parser = argparse.ArgumentParser(prog="python -m agent.demo_broker", description=__doc__)
    parser.add_argument("--port", type=int, default=1883, help="0: any free one")
    port = parser.parse_args().port or _free_port()
    _end_with_parent(parent)
    logging.disable(logging.CRITICAL)  # amqtt logs each client that comes and goes
    try:
        asyncio.run(_serve(port))
    except ImportError:
        sys.exit("the demo's broker needs the extra: pip install 'sightwire[demo]'")
    except Exception as error:  # noqa: BLE001 - amqtt wraps a taken port in classes of its own
        sys.exit(f"the demo's broker cannot listen on 127.0.0.1:{port}: {error}")


if __name__ == "__main__":
    main()
