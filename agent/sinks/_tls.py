"""Encryption on the way to a broker: whom we trust, who we are, and what we say we will speak."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from agent.errors import ConfigError


def tls_context(
    ca: Path | None, cert: Path | None = None, key: Path | None = None, alpn: Sequence[str] = ()
) -> ssl.SSLContext:
    """Verify the broker's certificate and host name; show ours if there is one. Raises ConfigError."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"ca: {ca}: {_file_problem(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if cert is not None:
        try:
            # The empty password keeps OpenSSL from asking for one at the terminal.
            context.load_cert_chain(cert, key, password=lambda: "")
        except (OSError, ssl.SSLError) as error:
            where = cert if key is None else f"{cert}, {key}"
            raise ConfigError(f"cert, key: {where}: {_file_problem(error)}") from None
    return context


def _file_problem(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "not a PEM file that fits (or an encrypted key)"
    return (error.strerror or str(error)).lower()
