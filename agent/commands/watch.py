"""`sightwire watch`: what a subscriber receives, for people."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import typer

from agent.commands import fail


def watch(
    broker: str = typer.Argument(
        "mqtt://127.0.0.1:1883", metavar="[BROKER_URL]", help="mqtt://, mqtts://, ws:// or wss://HOST[:PORT]"
    ),
    agent: str = typer.Option("+", help="Only the agent of that name."),
    topic: str | None = typer.Option(None, help="Any other topic filter, e.g. 'sightwire/+/dock/#'."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line, its topic first."),
    seconds: float | None = typer.Option(None, min=0.1, help="End after this time."),
    prefix: str = typer.Option("sightwire", help="First part of the topics."),
    username: str | None = typer.Option(None, help="For brokers that ask."),
    password_file: Path | None = typer.Option(None, help="File with the password."),
    ca: Path | None = typer.Option(None, help="PEM file of the authority that signed the broker's certificate."),
    cert: Path | None = typer.Option(None, help="Client certificate, PEM."),
    key: Path | None = typer.Option(None, help="Its key, PEM."),
    alpn: str | None = typer.Option(None, help="Protocol name that TLS announces, e.g. x-amzn-mqtt-ca."),
    proxy: str | None = typer.Option(None, help="http://HOST:PORT or socks5://HOST:PORT."),
    client_id: str | None = typer.Option(None, help="For brokers that take certain names only."),
) -> None:
    """Show what arrives at a broker: a dashboard on a terminal, lines elsewhere.

    Example: sightwire watch mqtt://192.168.1.10 --agent gatehouse
    """
    stop = threading.Event()
    # Not as an exception, which could strike while a lock is being taken.
    signal.signal(signal.SIGINT, lambda *_: stop.set())

    from pydantic import ValidationError

    from agent.commands._show import show
    from agent.errors import ConfigError

    access: dict[str, Any] = {"username": username, "password_file": password_file, "ca": ca, "cert": cert, "key": key}
    access |= {"alpn": alpn or (), "proxy": proxy, "client_id": client_id}
    try:
        seen = show(
            broker, stop=stop, seconds=seconds, agent=agent, topic=topic, prefix=prefix, as_json=as_json, **access
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        fail(f"{where}: {first['msg'].removeprefix('Value error, ')}", 2)
    except ConfigError as error:
        fail(error, 2)
    else:
        if not seen.connected and not stop.is_set():
            fail(f"{broker}: {seen.reason or 'no connection'}")
