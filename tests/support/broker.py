"""A real mosquitto on a free loopback port, to be frozen, killed and restarted, and a subscriber that listens to it."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import ipaddress
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.frozen import freeze
from tests.support.needs import missing
from tests.support.patience import PATIENCE_S

USER = "agent"


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on.

    Not one of those that Linux gives to connections (from 32768 on): one beside this test may get it before it is used,
    or while who listens there is being restarted.
    """
    while True:
        port = secrets.choice(range(10_000, 32_000))
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def require_mosquitto() -> str:
    """The program's path. Skips the test without one; fails in CI, where it must be."""
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return found or missing("mosquitto")


def die_with_parent() -> None:
    """For `preexec_fn`: no broker outlives a test run that was killed."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class Mosquitto:
    """Started by the constructor, ready when it returns.

    `observer_url` is a second, plain and anonymous listener of the same broker, for subscribers of tests.
    """

    def __init__(
        self,
        folder: Path,
        tls: bool = False,
        password: str | None = None,
        client_certs: bool = False,
        acl: str | None = None,
        extra: str = "",
    ) -> None:
        self._program = require_mosquitto()
        self._folder = folder / "mosquitto"
        self._folder.mkdir(parents=True, exist_ok=True)
        self.port, self.observer_port = free_port(), free_port()
        self.url = f"{'mqtts' if tls or client_certs else 'mqtt'}://127.0.0.1:{self.port}"
        self.observer_url = f"mqtt://127.0.0.1:{self.observer_port}"
        self.certificates = Certificates.make(self._folder) if tls or client_certs else None
        self._config = self._folder / "mosquitto.conf"
        self._config.write_text(self._settings(password, client_certs, acl) + extra)
        self._process: subprocess.Popen[bytes]
        self.restart()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def _settings(self, password: str | None, client_certs: bool, acl: str | None) -> str:
        # As root, mosquitto would become another user, who cannot read our files.
        lines = ["per_listener_settings true", "user root", f"log_dest file {self._folder}/log"]
        # No subscriber of a test is too slow, and none waits for Nagle's algorithm.
        lines += ["max_queued_messages 100000", "set_tcp_nodelay true"]
        lines += [f"listener {self.observer_port} 127.0.0.1", "allow_anonymous true"]
        lines += [f"listener {self.port} 127.0.0.1"]
        if password is None:
            lines.append("allow_anonymous true")
        else:
            self.set_password(password)
            lines += ["allow_anonymous false", f"password_file {self._folder}/passwords"]
        if acl is not None:
            (self._folder / "acl").write_text(acl)
            lines.append(f"acl_file {self._folder}/acl")
        if self.certificates is not None:
            lines += [f"cafile {self.certificates.ca}", f"certfile {self.certificates.server}"]
            lines += [f"keyfile {self.certificates.server_key}"]
            if client_certs:
                lines.append("require_certificate true")
        return "\n".join(lines) + "\n"

    def set_password(self, password: str) -> None:
        """The password of the one user; read by the broker when it starts and on `reload`."""
        file = self._folder / "passwords"
        file.touch(mode=0o600)
        subprocess.run(["mosquitto_passwd", "-b", str(file), USER, password], check=True, capture_output=True)

    def reload(self) -> None:
        """Have the broker read its passwords again."""
        self._process.send_signal(signal.SIGHUP)

    def restart(self) -> None:
        """Start (again) on the same ports; what was retained is forgotten."""
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._config)], preexec_fn=die_with_parent, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"mosquitto did not start, see {self._folder}/log") from None
                time.sleep(0.005)

    def freeze(self) -> None:
        """Stop reading and answering, with all connections open."""
        freeze(self._process.pid)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: no goodbye to anybody."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it in order; may be called twice."""
        if self._process.poll() is None:
            self.thaw()
            self._process.terminate()
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def __enter__(self) -> Mosquitto:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()


@dataclass(frozen=True)
class Received:
    """One message as it arrived."""

    topic: str
    payload: bytes
    arrived_ns: int
    """`time.monotonic_ns`."""
    retain: bool
    properties: Any

    @property
    def data(self) -> Any:
        """The payload as JSON."""
        return json.loads(self.payload)


class Subscriber:
    """Collects what a broker publishes under a topic filter. Subscribed when the constructor returns."""

    def __init__(
        self,
        url: str,
        topic: str = "#",
        version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5,
        session: str | None = None,
    ) -> None:
        """`session`: name of a session that the broker keeps while we are away (MQTT 5)."""
        self.messages: list[Received] = []
        self._changed = threading.Condition()
        self._subscribed = threading.Event()
        self._topic = topic
        parts = urlsplit(url)
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=session or "", protocol=version)
        self._client.reconnect_delay_set(0.1, 0.1)  # type: ignore[arg-type]  # it takes any number
        kept: dict[str, Any] = {}
        if session is not None:
            kept = {"clean_start": False, "properties": Properties(PacketTypes.CONNECT)}
            kept["properties"].SessionExpiryInterval = 3600
        self._client.on_connect = lambda client, *_: client.subscribe(self._topic, qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        self._client.connect(parts.hostname or "", parts.port or 1883, **kept)
        self._client.loop_start()
        if not self._subscribed.wait(PATIENCE_S):
            raise TimeoutError("not subscribed after 5 s")

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        received = Received(
            message.topic,
            bytes(message.payload),
            time.monotonic_ns(),
            message.retain,
            getattr(message, "properties", None),
        )
        with self._changed:
            self.messages.append(received)
            self._changed.notify_all()

    def wait_for(self, wanted: Callable[[list[Received]], Any], deadline_s: float = PATIENCE_S) -> list[Received]:
        """All messages, as soon as `wanted(messages)` is true. Raises TimeoutError with what did arrive."""
        with self._changed:
            if not self._changed.wait_for(lambda: wanted(self.messages), deadline_s):
                last = [(m.topic, m.payload[:80]) for m in self.messages[-5:]]
                raise TimeoutError(f"not seen in {deadline_s} s; {len(self.messages)} messages, the last: {last}")
            return list(self.messages)

    def wait_for_topic(self, topic: str, deadline_s: float = PATIENCE_S) -> Received:
        """The newest message of that topic, as soon as there is one."""
        found = self.wait_for(lambda messages: any(m.topic == topic for m in messages), deadline_s)
        return [m for m in found if m.topic == topic][-1]

    def close(self) -> None:
        """Disconnect and end the thread."""
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Certificates:
    """PEM files: an authority, what it issued to the broker (for 127.0.0.1) and a client, and a stranger."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path
    wrong_ca: Path

    @classmethod
    def make(cls, folder: Path) -> Certificates:
        """Make all six in `folder`, valid for a day."""
        pytest.importorskip("cryptography")
        names = ("ca.crt", "server.crt", "server.key", "client.crt", "client.key", "wrong-ca.crt")
        made = cls(*(folder / name for name in names))
        authority = _Authority("test authority")
        authority.issue("localhost", made.server, made.server_key)
        authority.issue("agent", made.client, made.client_key)
        made.ca.write_bytes(authority.pem)
        made.wrong_ca.write_bytes(_Authority("somebody else").pem)
        return made


class _Authority:
    """A certificate authority that lives as long as this object."""

    def __init__(self, name: str) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec

        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _x509_name(name)
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
            decipher_only=False,
        )  # fmt: skip
        self._certificate = self._signed(
            self._name, self._key.public_key(), [(x509.BasicConstraints(True, None), True), (usage, True)]
        )

    @property
    def pem(self) -> bytes:
        return _pem(self._certificate)

    def issue(self, name: str, certificate: Path, key_file: Path) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        addresses = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate.write_bytes(_pem(self._signed(_x509_name(name), key.public_key(), [(addresses, False)])))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    def _signed(self, subject: Any, public_key: Any, extensions: list[tuple[Any, bool]]) -> Any:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256())


def _x509_name(name: str) -> Any:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    pem: bytes = certificate.public_bytes(serialization.Encoding.PEM)
    return pem
