"""Finds ONVIF cameras: WS-Discovery's Probe by multicast, and whatever answers (ADR 16).

OASIS WS-Discovery 1.0 (the April 2005 draft that ONVIF Core 7 names), sections 4.2 and 5. What answers is a stranger:
the XML parser stops at the first sign of a DTD, so that no entity is ever expanded.
"""

from __future__ import annotations

import select
import socket
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from urllib.parse import unquote
from xml.parsers import expat

GROUP = ("239.255.255.250", 3702)
WAIT_S = 2.0
REPEAT_S = 0.5
"""Datagrams get lost: each network is asked twice."""
_MOST = 256
"""Devices, and words of an answer, that are kept."""
_SCOPE = "onvif://www.onvif.org/"
_PROBE = """<?xml version="1.0" encoding="UTF-8"?>
<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope" \
xmlns:w="http://schemas.xmlsoap.org/ws/2004/08/addressing" \
xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery" xmlns:dn="http://www.onvif.org/ver10/network/wsdl">\
<e:Header><w:MessageID>uuid:{id}</w:MessageID><w:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</w:To>\
<w:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</w:Action></e:Header>\
<e:Body><d:Probe><d:Types>dn:NetworkVideoTransmitter</d:Types></d:Probe></e:Body></e:Envelope>"""


@dataclass(frozen=True)
class Device:
    """One that answered."""

    address: str
    """It answered from this IP address."""
    name: str
    hardware: str
    services: tuple[str, ...]
    """URLs of its ONVIF service."""

    def __str__(self) -> str:
        about = (
            " ".join(dict.fromkeys(word for word in (self.name, self.hardware) if word)) or "a camera without a name"
        )
        return f"{self.address}, {about}, {' '.join(self.services)}"


def search(
    group: tuple[str, int] = GROUP, interfaces: Sequence[str] | None = None, wait_s: float = WAIT_S
) -> list[Device]:
    """Ask in every network (or from these IPv4 addresses of ours) and gather answers for `wait_s`."""
    probe = _PROBE.format(id=uuid.uuid4()).encode()
    found: dict[tuple[str, tuple[str, ...]], Device] = {}
    with ExitStack() as stack:
        sockets = [stack.enter_context(_socket(address)) for address in interfaces or _addresses()]
        start_s = time.monotonic()
        due_s = start_s
        while (now_s := time.monotonic()) < start_s + wait_s:
            if now_s >= due_s:
                due_s = start_s + (REPEAT_S if due_s == start_s else wait_s)
                for sock in sockets:
                    with suppress(OSError):  # a network that is down, or takes no multicast
                        sock.sendto(probe, group)
            ready, _, _ = select.select(sockets, [], [], max(0.0, min(due_s, start_s + wait_s) - now_s))
            for sock in ready:
                data, (address, _) = sock.recvfrom(65535)
                device = read(data, address)
                if device is not None and len(found) < _MOST:
                    found[address, device.services] = device
    return sorted(found.values(), key=lambda device: [int(part) for part in device.address.split(".")])


def _addresses() -> list[str]:
    """Our IPv4 addresses in networks that are up; loopback is none."""
    import psutil

    up = {name for name, about in psutil.net_if_stats().items() if about.isup}
    every = (
        a.address
        for name, all_ in psutil.net_if_addrs().items()
        if name in up
        for a in all_
        if a.family == socket.AF_INET
    )
    return [address for address in every if not address.startswith("127.")]


def _socket(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
    sock.bind((address, 0))
    return sock


def read(data: bytes, address: str) -> Device | None:
    """What a ProbeMatches says, whatever its namespaces are called; None for anything else."""
    words = _words(data)
    if words is None or not words["XAddrs"]:
        return None
    scopes: dict[str, str] = {}
    for scope in words["Scopes"]:
        kind, _, value = scope.removeprefix(_SCOPE).partition("/")
        if scope.startswith(_SCOPE) and value:
            scopes.setdefault(kind, unquote(value))
    return Device(address, scopes.get("name", ""), scopes.get("hardware", ""), tuple(dict.fromkeys(words["XAddrs"])))


def _words(data: bytes) -> dict[str, list[str]] | None:
    """Words in the elements XAddrs and Scopes; None where the XML is wrong or has a DTD."""
    texts: dict[str, list[str]] = {"XAddrs": [], "Scopes": []}
    open_: list[str] = []

    def begin(name: str, _attributes: object) -> None:
        open_.append(name.rpartition(" ")[2])

    def text(more: str) -> None:
        if open_ and open_[-1] in texts:
            texts[open_[-1]].append(more)

    def end(name: str) -> None:
        open_.pop()
        if name.rpartition(" ")[2] in texts:
            texts[name.rpartition(" ")[2]].append(" ")

    def refuse(*_: object) -> None:
        raise ValueError("a DTD")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.CharacterDataHandler, parser.EndElementHandler = begin, text, end
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError):  # also: an encoding that nobody knows
        return None
    return {name: "".join(parts).split()[:_MOST] for name, parts in texts.items()}
