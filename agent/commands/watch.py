"""`sightwire watch`: what a subscriber receives, for people."""

from __future__ import annotations

import signal
import threading

import typer

from agent.commands import _broker, fail


def watch(
    broker: str = typer.Argument("mqtt://127.0.0.1:1883", metavar="[BROKER_URL]", help=_broker.URLS),
    agent: str = typer.Option("+", help="Only the agent of that name."),
    topic: str | None = typer.Option(None, help="Any other topic filter, e.g. 'sightwire/+/dock/#'."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line, its topic first."),
    seconds: float | None = typer.Option(None, min=0.1, help="End after this time."),
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
    """Show what arrives at a broker: a dashboard on a terminal, lines elsewhere.

    Example: sightwire watch mqtt://192.168.1.10 --agent gatehouse
    """
    stop = threading.Event()
    # Not as an exception, which could strike while a lock is being taken.
    signal.signal(signal.SIGINT, lambda *_: stop.set())

    from agent.commands._show import show

    access = _broker.access(prefix, username, password_file, ca, cert, key, alpn, proxy, client_id)
    with _broker.answered():
        seen = show(broker, stop=stop, seconds=seconds, agent=agent, topic=topic, as_json=as_json, **access)
    if not seen.connected and not stop.is_set():
        fail(f"{broker}: {seen.reason or 'no connection'}")
