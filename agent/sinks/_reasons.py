"""Why a connection failed, in one line for a person."""

from __future__ import annotations

import logging
import socket
import ssl

from paho.mqtt.client import WebsocketConnectionError


def explain(error: Exception) -> str:
    """One line for a person; of our own making, so that it carries no secret."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"broker's certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'handshake failed').lower().replace('_', ' ')}"
    if isinstance(error, socket.gaierror):
        return "host name not found"
    if isinstance(error, WebsocketConnectionError | IndexError | UnicodeDecodeError):  # paho's, of other answers
        return "no MQTT over WebSocket there: check port, path and headers"
    if isinstance(error, TimeoutError):
        return "no connection within 5 s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


class Trouble(logging.Handler):
    """Catches what paho only logs: the error that ended a connection."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.text = ""
        self.logger = logging.Logger("paho", logging.ERROR)
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        error = record.args[0] if isinstance(record.args, tuple) and record.args else None
        self.text = explain(error) if isinstance(error, Exception) else record.getMessage()
