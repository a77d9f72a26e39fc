"""`mqtt:` of the configuration: which broker, how to reach it, and how to speak to it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from typing_extensions import Self

from agent.errors import ConfigError
from agent.secrets import Credentials, Password
from agent.sinks import Message, SinkConfig
from agent.sinks._address import parse_url
from agent.sinks._link import Endpoint
from agent.sinks._proxy import Proxy
from agent.sinks._tls import tls_context
from agent.sinks.dialects import DialectConfig
from agent.sinks.dialects.home_assistant import Config as HomeAssistantConfig
from agent.sinks.dialects.sightwire import Config as SightwireConfig
from agent.values import union_of_parts

if TYPE_CHECKING:
    from agent.sinks.mqtt import MqttSink


def _url(url: str) -> str:
    parse_url(url)
    return url


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _worded(value: Any) -> Any:
    return str(value) if type(value) is int else value  # YAML reads `protocol: 5` as a number


def _dialect(value: Any) -> Any:
    """A dialect's name instead of a mapping with `type`."""
    return {"type": value} if isinstance(value, str) else value


def _yes_or_no(value: Any) -> Any:
    """Instead of a mapping of settings."""
    if not isinstance(value, (bool, dict, type(None), HomeAssistantConfig)):
        raise ValueError("expected true, false or a mapping of keys")
    return ({} if value else None) if isinstance(value, bool) else value


if TYPE_CHECKING:  # made of whatever parts are installed
    AnyDialect = DialectConfig
else:
    AnyDialect = union_of_parts("agent.sinks.dialects", "sightwire.dialects")

Alpn = Annotated[str, Field(pattern=r"^[!-~]{1,255}$")]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]


class Config(SinkConfig, Credentials):
    """`mqtt: {url: mqtts://broker:8883, username: cam, password: credential:mqtt}`."""

    type: Literal["mqtt"] = "mqtt"
    url: Annotated[str, AfterValidator(_url)]
    """`mqtt://HOST[:1883]`, `mqtts://HOST[:8883]` (TLS), `ws://HOST[:80][/mqtt]` or `wss://HOST[:443][/mqtt]`."""
    ca: Path | None = None
    """PEM file with the authorities to trust instead of the system's."""
    cert: Path | None = None
    """Client certificate, PEM; may contain the key too."""
    key: Path | None = None
    alpn: Annotated[tuple[Alpn, ...], BeforeValidator(_listed)] = ()
    """Protocol names that TLS announces, for a broker that shares port 443 with others."""
    headers: dict[HeaderName, Password] = Field(default_factory=dict)
    """More lines for the WebSocket handshake; values are secrets."""
    proxy: Proxy | None = None
    client_id: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$")] | None = None
    """Default `sightwire-<agent>`; empty: the broker chooses. It ends an older connection of the same name."""
    prefix: Annotated[str, Field(pattern=r"^[^+#/\s\x00]+(/[^+#/\s\x00]+)*$")] = "sightwire"
    """First part of every topic; may contain `/`."""
    keepalive_s: int = Field(default=10, ge=2, le=3600)
    protocol: Annotated[Literal["auto", "5", "3.1.1"], BeforeValidator(_worded)] = "auto"
    """auto: 5, and 3.1.1 where the broker does not speak it."""
    retain: bool = True
    """False for a broker that cannot, or must not, keep messages. MQTT 5 brokers say so themselves."""
    will: bool = True
    """False for a broker that refuses a will."""
    max_qos: Literal[0, 1] = 1
    """Of state and events; MQTT 5 brokers that cannot do 1 say so themselves. Results are always QoS 0."""
    max_packet_bytes: int | None = Field(default=None, ge=256)
    """Larger messages are not sent: for a broker of 3.1.1 that would close the connection."""
    probe: Literal["auto", "unsubscribe", "ping"] = "auto"
    """What asks the broker whether it still answers. auto: UNSUBSCRIBE, and PINGREQ where that is not answered."""

    dialect: Annotated[AnyDialect, BeforeValidator(_dialect)] = Field(
        default_factory=lambda: cast(Any, "sightwire"), validate_default=True
    )
    """What topics and payloads look like: a name, or a mapping with `type`."""
    home_assistant: Annotated[HomeAssistantConfig | None, BeforeValidator(_yes_or_no)] = None
    """`true` or `{prefix: homeassistant}`: besides, cameras are announced to Home Assistant."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        address = parse_url(self.url)
        for name in ("ca", "cert", "key", "alpn"):
            if getattr(self, name) and not address.tls:
                raise ValueError(f"{name} needs a URL that begins with mqtts:// or wss://")
        if self.headers and not address.websocket:
            raise ValueError("headers need a URL that begins with ws:// or wss://")
        if self.key is not None and self.cert is None:
            raise ValueError("key needs cert")
        if isinstance(self.dialect, HomeAssistantConfig):
            raise ValueError("home_assistant stands beside a dialect: say 'home_assistant: true' instead of it")
        if self.home_assistant is not None and not isinstance(self.dialect, SightwireConfig):
            raise ValueError(
                "home_assistant needs 'dialect: sightwire', whose topics its entities read; "
                "give the other dialect a sink of its own"
            )
        return self

    def open(self, agent: str, farewell: Message) -> MqttSink:
        """Build the sink and begin to connect. Raises ConfigError for a certificate file that cannot be used."""
        from agent.sinks.mqtt import MqttSink

        sink = MqttSink(self, agent, farewell)
        sink.start()
        return sink

    def made_of(self) -> object:
        """When its certificates were written. (A password is read at each connect.)"""
        written = []
        for path in (self.ca, self.cert, self.key):
            with contextlib.suppress(OSError):
                written += [path and path.stat().st_mtime_ns]
        return written

    def client_name(self, agent: str) -> str:
        """What it calls itself at the broker; empty: the broker chooses."""
        return f"sightwire-{agent}" if self.client_id is None else self.client_id

    def look_at_files(self) -> None:
        """See SinkConfig."""
        self.endpoint()

    def endpoint(self) -> Endpoint:
        """Where and how to connect. Raises ConfigError as `open` does."""
        address = parse_url(self.url)
        return Endpoint(
            address=address,
            tls=tls_context(self.ca, self.cert, self.key, self.alpn) if address.tls else None,
            proxy=self.proxy,
            headers=self._read_headers,
            username=self.username,
            password=self.read_password if self.username is not None else None,
            protocol=self.protocol,
            keepalive_s=self.keepalive_s,
        )

    def _read_headers(self) -> dict[str, str]:
        """Name and value as they are now. Raises ConfigError for what would not be one line."""
        values = {name: value.resolve() for name, value in self.headers.items()}
        for name, value in values.items():
            if not value.isprintable():
                raise ConfigError(f"headers: {name}: a value is one line, without control characters")
        return values
