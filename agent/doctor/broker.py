"""The broker of the configuration: name, TCP, TLS and its certificate, and what it says to our CONNECT."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone

from agent.doctor.findings import Finding, note, ok, problem
from agent.errors import ConfigError
from agent.sinks._link import Endpoint, Link, State
from agent.sinks._proxy import ProxyError
from agent.sinks._reasons import explain
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
        endpoint.headers()
        for secrets in (config, config.proxy):
            if secrets is not None:
                secrets.read_password()
    except ConfigError as error:
        yield problem(TOPIC, str(error), "correct it under mqtt: in the configuration")
        return
    host, port = endpoint.address.host, endpoint.address.port
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        plain = _dial(endpoint)
    except OSError as error:
        yield problem(TOPIC, f"{where}: {_why(error)}", _mend_tcp(host, port, error))
        return
    with plain:
        try:
            how, ends_s = _greet(plain, endpoint.tls, host)
        except OSError as error:
            yield problem(TOPIC, f"{where}: {_why(error)}", _mend_tls(where, error))
            return
    if ends_s is not None and ends_s - time.time() < _SOON_S:
        yield note(TOPIC, f"{where}: its certificate ends {_day(ends_s)}", "renew the broker's certificate in time")
    client_id = f"{config.client_id or f'sightwire-{agent}'}-doctor"
    caller = _Caller(endpoint, client_id)
    state, reason = caller.outcome()
    if state == "connected":
        yield ok(TOPIC, f"{where} takes us: MQTT {caller.link.protocol}, {how}")
        if endpoint.tls is None and endpoint.password is not None and not _is_here(host):
            yield note(TOPIC, f"{where}: the password crosses the network readable", "mqtt: {url: mqtts://...}")
        return
    text = f"{where}: {reason or 'takes the connection and does not answer'}"
    yield problem(TOPIC, text, _mend_mqtt(endpoint, where, client_id, refused=state == "refused"))


def _dial(endpoint: Endpoint) -> socket.socket:
    """A connection to the broker, through the proxy if there is one. Raises OSError."""
    host, port = endpoint.address.host, endpoint.address.port
    if endpoint.proxy is not None:
        return endpoint.proxy.connect(host, port, _REACH_S)
    return socket.create_connection((host, port), _REACH_S)


def _greet(plain: socket.socket, tls: ssl.SSLContext | None, host: str) -> tuple[str, float | None]:
    """TLS, if it is wanted: which, in words, and when the broker's certificate ends (Unix s). Raises OSError."""
    if tls is None:
        return "without TLS", None
    with tls.wrap_socket(plain, server_hostname=host) as secure:
        ends_s = ssl.cert_time_to_seconds(str((secure.getpeercert() or {})["notAfter"]))
        return f"{secure.version()}, certificate until {_day(ends_s)}", ends_s


def _why(error: OSError) -> str:
    return f"no connection within {_REACH_S:g} s" if isinstance(error, TimeoutError) else explain(error)


def _mend_tcp(host: str, port: int, error: OSError) -> str:
    if isinstance(error, ProxyError):
        return "mqtt: {proxy: ...} with the address and credentials of a proxy that lets us through"
    if isinstance(error, socket.gaierror):
        return f"mqtt: {{url: ...}} with a name that this finds: getent hosts {host}"
    if _is_here(host):
        return "sudo apt-get install mosquitto && sudo systemctl enable --now mosquitto"
    return f"start the broker, or open its port in firewalls between; try: nc -vz {host} {port}"


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


def _mend_mqtt(endpoint: Endpoint, where: str, client_id: str, refused: bool) -> str:
    if refused:
        which = "as the broker knows them" if endpoint.username else "if this broker wants them"
        return f"mqtt: {{username: ..., password_file: ...}} {which}; have it take the client_id {client_id} too"
    if endpoint.tls is None:
        return f"mqtt: {{url: mqtts://{where}}} if that port expects TLS; mqtt: {{url: ...}} if it is no MQTT port"
    return f"mqtt: {{cert: FILE.pem, key: FILE.pem}} if the broker wants to know its clients; this one is {client_id}"


class _Caller:
    """Owns a link until it is known how its first try ends."""

    def __init__(self, endpoint: Endpoint, client_id: str) -> None:
        self.settled = threading.Event()
        self.link = Link(endpoint, client_id, self)

    def outcome(self) -> tuple[State, str | None]:
        """How the first try ends, and why; `connecting` without a reason where the broker keeps us waiting."""
        self.link.start()
        self.settled.wait(_ANSWER_S)
        outcome = self.link.state, self.link.reason
        self.link.close(0.5)
        return outcome

    def prepare(self, client: object) -> None:
        """Nothing to listen to."""

    def up(self, *_: object) -> None:
        """The broker accepted us."""
        self.settled.set()

    def tick(self, client: object) -> str | None:  # noqa: ARG002 - it is closed at once
        """Nothing to do."""
        return None

    def down(self) -> None:
        """Called for each session that ends; a reason is there when the link has tried what it can."""
        if self.link.reason is not None:
            self.settled.set()


def _day(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%Y-%m-%d")
