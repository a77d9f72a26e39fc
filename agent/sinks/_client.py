"""paho's client, and what it does not offer.

That is: proxies without a further package, a ping whose answer is seen, the broker's receive maximum obeyed, and a
connection attempt that can be cut short. The methods with an underscore are paho's own, the same in 2.1 and 2.2.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties

from agent.sinks._proxy import Proxy


class BrokerClient(Client):
    """One connection to a broker, never used for a second."""

    proxy: Proxy | None = None
    tls: ssl.SSLContext | None = None
    """What `tls_set_context` was given."""
    wishes: Properties | None = None
    """Properties of CONNECT, in MQTT 5."""
    on_pong: Callable[[BrokerClient], None] | None = None
    """Called by the thread that serves the connection when the answer to a ping is here."""
    _wire: socket.socket | None = None

    def ping(self) -> bool:
        """Send PINGREQ behind everything handed over so far; False without a connection."""
        return self._send_pingreq() == MQTTErrorCode.MQTT_ERR_SUCCESS

    def limit_in_flight(self, count: int) -> None:
        """At most so many messages of QoS 1 without an acknowledgement. To be called before the first is sent."""
        self._max_inflight_messages = count

    def cut(self) -> None:
        """Whoever waits for the other side, in a handshake as well, waits no more. Any thread."""
        if self._wire is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket's shutdown: that takes the TLS object away from the thread that uses it.
                socket.socket.shutdown(self._wire, socket.SHUT_RDWR)

    def abandon(self) -> None:
        """Close the socket, with a goodbye if it still takes one: a broker that thaws then finds no will to publish."""
        if self.socket() is not None:
            self.disconnect()
            self.loop_write()
        for sock in (self.socket(), self._wire):
            if sock is not None:
                sock.close()

    def _create_socket_connection(self) -> socket.socket:
        if self.proxy is not None:
            self._wire = self.proxy.connect(self.host, self.port, self.connect_timeout)
        else:
            self._wire = socket.create_connection((self.host, self.port), self.connect_timeout)
        # Small packets leave at once: Nagle's algorithm would hold the second until the first is acknowledged.
        self._wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._wire

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        assert self.tls is not None  # noqa: S101 - paho calls this for a client with a TLS context only
        wrapped = self.tls.wrap_socket(tcp_sock, server_hostname=self.host, do_handshake_on_connect=False)
        self._wire = wrapped
        wrapped.settimeout(self.connect_timeout)
        wrapped.do_handshake()
        return wrapped

    def _handle_pingresp(self) -> MQTTErrorCode:
        code = super()._handle_pingresp()
        if code == MQTTErrorCode.MQTT_ERR_SUCCESS and self.on_pong is not None:
            self.on_pong(self)
        return code
