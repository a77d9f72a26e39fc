"""`sightwire ask`: send a command to an agent, and show what it answers."""

from __future__ import annotations

import json
import signal
import threading
from typing import Any

import typer

from agent.commands import _broker, fail
from agent.errors import ConfigError


def ask(
    broker: str = typer.Argument(..., metavar="BROKER_URL", help=_broker.URLS),
    target: str = typer.Argument(..., metavar="AGENT[/CAMERA]", help="Who is asked."),
    command: str = typer.Argument(..., help="snapshot, enable, disable, set_threshold or reload."),
    values: list[str] = typer.Argument(None, metavar="[KEY=VALUE]...", help="What belongs to it, e.g. value=0.6."),
    timeout: float = typer.Option(10.0, min=0.1, help="Seconds to wait for the answer."),
    prefix: _broker.Prefix = "sightwire",
    username: _broker.Username = None,
    password_file: _broker.PasswordFile = None,
    ca: _broker.Authority = None,
    cert: _broker.Certificate = None,
    key: _broker.Key = None,
    alpn: _broker.Alpn = None,
    proxy: _broker.Proxy = None,
    client_id: _broker.ClientId = None,
) -> None:
    """Send a command to an agent and print its answer, as JSON; exit status 1 if it was not obeyed.

    An agent obeys what the 'commands:' of its configuration allow.

    Example: sightwire ask mqtt://192.168.1.10 gatehouse/dock set_threshold use=people label=person value=0.6
    """
    stop = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())

    from agent.asking import Question
    from agent.sinks.mqtt import Config

    access = _broker.access(prefix, username, password_file, ca, cert, key, alpn, proxy, client_id)
    agent, _, camera = target.partition("/")
    with _broker.answered():
        asked = Question(Config(url=broker, **access), agent, camera or None, {"command": command, **_read(values)})
    reply = asked.wait(timeout, stop)
    if reply is None:
        fail(f"{target}: {asked.trouble}")
    typer.echo(json.dumps(reply, indent=2, ensure_ascii=False))
    if not reply.get("ok"):
        raise typer.Exit(1)


def _read(values: list[str] | None) -> dict[str, Any]:
    """`value=0.6 label=person` as a mapping: JSON where it is some, text elsewhere. Raises ConfigError."""
    read: dict[str, Any] = {}
    for pair in values or ():
        key, sign, text = pair.partition("=")
        if not sign or not key:
            raise ConfigError(f"{pair!r}: expected KEY=VALUE")
        try:
            read[key] = json.loads(text)
        except ValueError:
            read[key] = text
    return read
