"""The broker of the configuration: name, TCP, TLS and its certificate, and what it says to our CONNECT."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone

from paho.mqtt.client import Client

from agent.doctor.findings import Finding, note, ok, problem
from agent.errors import ConfigError
from agent.sinks._link import Endpoint, Link, explain
from agent.sinks.mqtt import Config

TOPIC = "broker"
_REACH_S = 3.0
"""For each of TCP and TLS."""
_ANSWER_S = 4.0
_SOON_S = 14 * 86_400
"""A certificate that ends sooner is worth a note."""


def look(config: Config, agent: str) -> Iterator[Finding]:
    """One connection for TCP and TLS, one for MQTT, under a name of its own: a running agent is not disturbed."""
    try:
        endpoint = config.endpoint()
        if endpoint.password is not None:
            endpoint.password()
    except ConfigError as error:
        yield problem(TOPIC, str(error), "correct it under mqtt: in the configuration")
        return
    except OSError as error:
        yield problem(TOPIC, f"{error.filename}: cannot be read: {error.strerror}", f"sudo ls -l {error.filename}")
        return
    where = f"{endpoint.host}:{endpoint.port}"
    try:
        plain = socket.create_connection((endpoint.host, endpoint.port), _REACH_S)
    except OSError as error:
        yield problem(TOPIC, f"{where}: {explain(error)}", _mend_tcp(endpoint, error))
        return
    with plain:
        try:
            how, ends_s = _greet(plain, endpoint)
        except OSError as error:
            yield problem(TOPIC, f"{where}: {explain(error)}", _mend_tls(where, error))
            return
    if ends_s is not None and ends_s - time.time() < _SOON_S:
        yield note(TOPIC, f"{where}: its certificate ends {_day(ends_s)}", "renew the broker's certificate in time")
    yield from _connect(endpoint, f"{config.client_id or f'sightwire-{agent}'}-doctor", where, how)


def _greet(plain: socket.socket, endpoint: Endpoint) -> tuple[str, float | None]:
    """TLS, if it is wanted: which, in words, and when the broker's certificate ends (Unix s). Raises OSError."""
    if endpoint.tls is None:
        return "without TLS", None
    with endpoint.tls.wrap_socket(plain, server_hostname=endpoint.host) as secure:
        ends_s = ssl.cert_time_to_seconds(str((secure.getpeercert() or {})["notAfter"]))
        return f"{secure.version()}, certificate until {_day(ends_s)}", ends_s


def _mend_tcp(endpoint: Endpoint, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"mqtt: {{url: ...}} with a name that this finds: getent hosts {endpoint.host}"
    if _is_here(endpoint.host):
        return "sudo apt-get install mosquitto && sudo systemctl enable --now mosquitto"
    return f"start the broker, or open its port in firewalls between; try: nc -vz {endpoint.host} {endpoint.port}"


def _mend_tls(where: str, error: OSError) -> str:
    show = f"openssl s_client -connect {where} </dev/null | openssl x509 -noout -dates -issuer -ext subjectAltName"
    if not isinstance(error, ssl.SSLCertVerificationError):
        return f"mqtt: {{url: mqtt://{where}}} if that port speaks no TLS; else: {show}"
    if "expired" in error.verify_message:
        return f"renew the broker's certificate; what it says: {show}"
    if "issuer" in error.verify_message or "self-signed" in error.verify_message.replace(" ", "-"):
        return "mqtt: {ca: FILE.pem}, the authority that signed the broker's certificate"
    return f"mqtt: {{url: ...}} with a name that is in the certificate; what it says: {show}"


def _is_here(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _connect(endpoint: Endpoint, client_id: str, where: str, how: str) -> Iterator[Finding]:
    caller = _Caller(endpoint, client_id)
    link = caller.link
    link.start()
    caller.settled.wait(_ANSWER_S)
    state, reason, protocol = link.state, link.reason, link.protocol
    link.close(0.5)
    if state == "connected":
        yield ok(TOPIC, f"{where} takes us: MQTT {protocol}, {how}")
        if endpoint.tls is None and endpoint.password is not None and not _is_here(endpoint.host):
            yield note(TOPIC, f"{where}: the password crosses the network readable", "mqtt: {url: mqtts://...}")
    elif state == "refused":
        mend = "mqtt: {username: ..., password_file: ...} as the broker knows them"
        if not endpoint.username:
            mend = "mqtt: {username: ..., password_file: ...}: this broker wants them"
        yield problem(TOPIC, f"{where}: {reason}", mend)
    elif endpoint.tls is None:
        mend = f"mqtt: {{url: mqtts://{where}}} if that port expects TLS; mqtt: {{url: ...}} if it is no MQTT port"
        yield problem(TOPIC, f"{where}: {reason or 'takes the connection and does not answer'}", mend)
    else:
        mend = "mqtt: {cert: FILE.pem, key: FILE.pem} if the broker wants to know its clients"
        yield problem(TOPIC, f"{where}: {reason or 'takes the connection and does not answer'}", mend)


class _Caller:
    """Owns a link until it is known how its first try ends."""

    def __init__(self, endpoint: Endpoint, client_id: str) -> None:
        self.settled = threading.Event()
        self.link = Link(endpoint, client_id, self)

    def prepare(self, client: Client) -> None:
        """Nothing to listen to."""

    def up(self, client: Client, protocol: str) -> None:  # noqa: ARG002 - the same in both
        """The broker accepted us."""
        self.settled.set()

    def tick(self, client: Client) -> str | None:  # noqa: ARG002 - it is closed at once
        """Nothing to do."""
        return None

    def down(self) -> None:
        """Called for each session that ends; a reason is there when the link has tried what it can."""
        if self.link.reason is not None:
            self.settled.set()


def _day(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%Y-%m-%d")
