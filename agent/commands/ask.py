"""`sightwire ask`: send a command to an agent, and show what it answers."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Any

import typer

from agent.commands import fail


def ask(
    broker: str = typer.Argument(..., metavar="BROKER_URL", help="mqtt://, mqtts://, ws:// or wss://HOST[:PORT]"),
    target: str = typer.Argument(..., metavar="AGENT[/CAMERA]", help="Who is asked."),
    command: str = typer.Argument(..., help="snapshot, enable, disable, set_threshold or reload."),
    values: list[str] = typer.Argument(None, metavar="[KEY=VALUE]...", help="What belongs to it, e.g. value=0.6."),
    timeout: float = typer.Option(10.0, min=0.1, help="Seconds to wait for the answer."),
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
    """Send a command to an agent and print its answer, as JSON; exit status 1 if it was not obeyed.

    An agent obeys what the 'commands:' of its configuration allow.

    Example: sightwire ask mqtt://192.168.1.10 gatehouse/dock set_threshold use=people label=person value=0.6
    """
    stop = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())

    from pydantic import ValidationError

    from agent.asking import Question
    from agent.errors import ConfigError
    from agent.sinks.mqtt import Config

    access: dict[str, Any] = {"username": username, "password_file": password_file, "ca": ca, "cert": cert, "key": key}
    access |= {"alpn": alpn or (), "proxy": proxy, "client_id": client_id, "prefix": prefix}
    agent, _, camera = target.partition("/")
    try:
        asked = Question(Config(url=broker, **access), agent, camera or None, {"command": command, **_read(values)})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        fail(f"{where}: {first['msg'].removeprefix('Value error, ')}", 2)
    except (ConfigError, ValueError) as error:
        fail(error, 2)
    reply = asked.wait(timeout, stop)
    if reply is None:
        fail(f"{target}: {asked.trouble}")
    typer.echo(json.dumps(reply, indent=2, ensure_ascii=False))
    if not reply.get("ok"):
        raise typer.Exit(1)


def _read(values: list[str] | None) -> dict[str, Any]:
    """`value=0.6 label=person` as a mapping: JSON where it is some, text elsewhere. Raises ValueError."""
    read: dict[str, Any] = {}
    for pair in values or ():
        key, sign, text = pair.partition("=")
        if not sign or not key:
            raise ValueError(f"{pair!r}: expected KEY=VALUE")
        try:
            read[key] = json.loads(text)
        except ValueError:
            read[key] = text
    return read
