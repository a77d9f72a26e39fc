"""What the commands that talk to a broker share: the options that say how, and mistakes in them in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.commands import fail
from agent.errors import ConfigError

URLS = "mqtt://, mqtts://, ws:// or wss://HOST[:PORT]"

Prefix = Annotated[str, typer.Option(help="First part of the topics.")]
Username = Annotated[str | None, typer.Option(help="For brokers that ask.")]
PasswordFile = Annotated[Path | None, typer.Option(help="File with the password.")]
Authority = Annotated[Path | None, typer.Option(help="PEM file of the authority that signed the broker's certificate.")]
Certificate = Annotated[Path | None, typer.Option(help="Client certificate, PEM.")]
Key = Annotated[Path | None, typer.Option(help="Its key, PEM.")]
Alpn = Annotated[str | None, typer.Option(help="Protocol name that TLS announces, e.g. x-amzn-mqtt-ca.")]
Proxy = Annotated[str | None, typer.Option(help="http://HOST:PORT or socks5://HOST:PORT.")]
ClientId = Annotated[str | None, typer.Option(help="For brokers that take certain names only.")]


def access(
    prefix: str,
    username: str | None,
    password_file: Path | None,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    alpn: str | None,
    proxy: str | None,
    client_id: str | None,
) -> dict[str, Any]:
    """The options as the MQTT sink's settings have them."""
    files = {"password_file": password_file, "ca": ca, "cert": cert, "key": key}
    return {"prefix": prefix, "username": username, "alpn": alpn or (), "proxy": proxy, "client_id": client_id, **files}


@contextmanager
def answered() -> Iterator[None]:
    """End the command with a line where the settings cannot be used."""
    from pydantic import ValidationError

    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        fail(f"{where}: {first['msg'].removeprefix('Value error, ')}", 2)
    except ConfigError as error:
        fail(error, 2)
