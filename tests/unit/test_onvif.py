"""The search for ONVIF cameras: what strangers answer is read with care."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.doctor import cameras, onvif
from agent.doctor.onvif import Device, read, search

ANSWER = """<?xml version="1.0" encoding="utf-8"?>
<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://www.w3.org/2003/05/soap-envelope"
  xmlns:wsa="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery">
 <SOAP-ENV:Header><wsa:RelatesTo>uuid:1</wsa:RelatesTo></SOAP-ENV:Header>
 <SOAP-ENV:Body><d:ProbeMatches><d:ProbeMatch>
  <wsa:EndpointReference><wsa:Address>urn:uuid:5f5a69c2</wsa:Address></wsa:EndpointReference>
  <d:Types>dn:NetworkVideoTransmitter tds:Device</d:Types>
  <d:Scopes>onvif://www.onvif.org/type/video_encoder onvif://www.onvif.org/name/Gate%20camera
    onvif://www.onvif.org/hardware/DS-2CD2042 onvif://www.onvif.org/Profile/Streaming http://example/other</d:Scopes>
  <d:XAddrs>http://10.0.0.9/onvif/device_service http://[fe80::1]/onvif/device_service</d:XAddrs>
  <d:MetadataVersion>10</d:MetadataVersion>
 </d:ProbeMatch></d:ProbeMatches></SOAP-ENV:Body>
</SOAP-ENV:Envelope>"""
CAMERA = Device(
    "10.0.0.9",
    "Gate camera",
    "DS-2CD2042",
    ("http://10.0.0.9/onvif/device_service", "http://[fe80::1]/onvif/device_service"),
)
BOMB = '<!DOCTYPE x [<!ENTITY a "http://x"><!ENTITY b "&a;&a;">]><E><XAddrs>&b;</XAddrs></E>'


def test_an_answer_says_name_hardware_and_address() -> None:
    assert read(ANSWER.encode(), "10.0.0.9") == CAMERA
    assert str(CAMERA).startswith("10.0.0.9, Gate camera DS-2CD2042, http://10.0.0.9/onvif/device_service")


def test_an_answer_in_another_encoding_is_read() -> None:
    assert read(ANSWER.replace("utf-8", "utf-16").encode("utf-16"), "10.0.0.9") == CAMERA


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"M-SEARCH * HTTP/1.1",
        ANSWER.encode()[:-20],
        ANSWER.replace("d:XAddrs", "d:Other").encode(),
        ANSWER.replace("utf-8", "klingon").encode(),
        ANSWER.replace("utf-8", "utf-7").encode(),
        BOMB.encode(),
        BOMB.encode("utf-16"),
    ],
    ids=["empty", "SSDP", "cut short", "no address", "no encoding", "odd encoding", "entities", "hidden entities"],
)
def test_what_is_no_answer_is_left_out(data: bytes) -> None:
    assert read(data, "10.0.0.9") is None


@given(st.binary(max_size=300))
def test_no_bytes_are_too_strange(data: bytes) -> None:
    read(data, "10.0.0.9")


@given(st.lists(st.tuples(st.integers(0, len(ANSWER) - 1), st.integers(0, 255)), max_size=20))
def test_no_damage_is_too_strange(changes: list[tuple[int, int]]) -> None:
    data = bytearray(ANSWER.encode())
    for at, value in changes:
        data[at] = value
    device = read(bytes(data), "10.0.0.9")
    assert device is None or device.services


def test_an_answer_of_thousands_of_addresses_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    many = " ".join(f"http://{n}" for n in range(5000))
    device = read(ANSWER.replace("http://10.0.0.9/onvif/device_service", many).encode(), "10.0.0.9")
    assert device is not None
    assert len(device.services) == 256


@contextmanager
def responder(answers: Callable[[bytes, int], list[bytes]], multicast: bool) -> Iterator[tuple[str, int]]:
    """Answers the n-th datagram with `answers(datagram, n)`, on loopback; yields the address to send to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.02)
        sock.bind(("", 0) if multicast else ("127.0.0.1", 0))
        if multicast:
            member = struct.pack("4s4s", socket.inet_aton(onvif.GROUP[0]), socket.inet_aton("127.0.0.1"))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        done = threading.Event()

        def serve() -> None:
            heard = 0
            while not done.is_set():
                try:
                    data, peer = sock.recvfrom(65535)
                except TimeoutError:
                    continue
                for answer in answers(data, heard):
                    sock.sendto(answer, peer)
                heard += 1

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield onvif.GROUP[0] if multicast else "127.0.0.1", sock.getsockname()[1]
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize("multicast", [False, True], ids=["unicast", "multicast"])
def test_cameras_that_answer_are_found_once(monkeypatch: pytest.MonkeyPatch, multicast: bool) -> None:
    """The first datagram is lost; the second is answered twice, beside nonsense."""
    monkeypatch.setattr(onvif, "REPEAT_S", 0.05)
    asked: list[bytes] = []

    def answers(data: bytes, heard: int) -> list[bytes]:
        asked.append(data)
        return [b"nonsense", ANSWER.encode(), ANSWER.encode()] if heard else []

    with responder(answers, multicast) as group:
        found = search(group, ["127.0.0.1"], 0.4)
    assert [(d.address, d.name) for d in found] == [("127.0.0.1", "Gate camera")]
    assert len(asked) == 2
    assert b"NetworkVideoTransmitter" in asked[0]


def test_a_network_without_cameras_takes_no_longer_than_it_may() -> None:
    with responder(lambda _data, _heard: [], multicast=False) as group:
        assert search(group, ["127.0.0.1"], 0.1) == []


def test_a_network_that_cannot_be_reached_is_no_error() -> None:
    assert search(("255.255.255.255", 9), ["127.0.0.1"], 0.05) == []


@pytest.mark.parametrize(("found", "state"), [([CAMERA], "ok"), ([], "note")])
def test_the_doctor_lists_what_was_found(monkeypatch: pytest.MonkeyPatch, found: list[Device], state: str) -> None:
    monkeypatch.setattr(onvif, "search", lambda: found)
    (finding,) = cameras.onvif()
    assert finding.state == state
