"""The way between an agent and its cameras, as a proxy on loopback with everything that can go wrong on it.

One thread carries for all cables; RTP over UDP goes through it, too (see datagrams). What the camera sends is told
apart into what belongs to the conversation (RTSP answers, HTTP headers) and pictures, so that a fault can spoil the
latter alone.
"""

from __future__ import annotations

import contextlib
import random
import selectors
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, get_args

from tests.support.datagrams import Datagrams

Fault = Literal[
    "refused",  # the camera reboots: connections are reset, nothing listens
    "silent",  # it hangs: connections are closed, new ones are taken and never answered
    "stalled",  # conversations and reports go on, connections stay open, pictures stop
    "cut",  # a cable is cut: no goodbye, not even to who connects anew
    "broken-off",  # every connection ends in the middle of a picture; new ones, too
    "truncated",  # every packet has lost its second half
    "garbage",  # packets come, with noise in them
    "changed",  # the camera was set up anew: connections are reset, another size (and over RTSP codec) from now on
    "clock",  # its clocks jump by an hour: the wall clock in its reports, and the stamps of the packets
    "bursts",  # nothing for two seconds, then all at once, again and again
    "lossy",  # datagrams are lost, come twice, or late
]
FAULTS: tuple[Fault, ...] = get_args(Fault)

_RTP_HEAD = 12
_HOUR_S = 3600
_BURST_S = 2.0
_BROKEN_OFF = 6000
"""Bytes after which a connection ends."""
_LOST, _TWICE, _LATE = 0.1, 0.2, 0.3
"""Of ten datagrams one each, while a cable is `lossy`."""
_MOST_WAITING = 4 << 20
"""Bytes on their way to a reader that does not read; then its connection is reset."""


@dataclass(eq=False)
class _Link:
    """A connection: the agent's end, and the camera's unless nobody is there."""

    agent: socket.socket
    camera: socket.socket | None
    frozen: bool = False
    """Nothing gets through any more, for ever: it was open when the cable was cut."""
    head: bytearray = field(default_factory=bytearray)
    """What came from the camera and is not complete yet."""
    in_body: bool = False
    held: bytearray = field(default_factory=bytearray)
    """To be sent with the next burst."""
    out: bytearray = field(default_factory=bytearray)
    """The agent's end did not take it yet."""
    sent: int = 0
    ways: list[Datagrams] = field(default_factory=list)
    """Beside the connection."""
    held_datagrams: list[tuple[Datagrams, socket.socket, bytes]] = field(default_factory=list)
    """To be sent with the next burst, or after the next one."""


class Cable:
    """Leads to `camera` (a port of loopback) until a fault; made by `Cables.lay`."""

    def __init__(self, camera: int, spare: int) -> None:
        """`spare`: where it leads once the camera is `changed`."""
        self.camera, self._spare = camera, spare
        self.fault: Fault | None = None
        self.links: list[_Link] = []
        self.fillers: list[socket.socket] = []
        self.connections = 0
        self.listener = _listen(0)
        self.port: int = self.listener.getsockname()[1]

    def spoil(self, fault: Fault) -> None:
        """With the lock of `Cables`."""
        self.fault = fault
        if fault in ("refused", "silent", "changed"):
            self.drop_all(reset=fault != "silent")
        if fault == "refused":
            self.listener.close()
        if fault == "changed":
            self.camera = self._spare
        if fault == "cut":
            for link in self.links:
                link.frozen = True
                if link.camera is not None:
                    link.camera.close()
                    link.camera = None
            self._fill()

    def mend(self) -> None:
        """With the lock of `Cables`."""
        if self.fault == "refused":
            self.listener = _listen(self.port)
        if self.fault == "silent":
            self.drop_all(reset=True)
        for filler in self.fillers:
            filler.close()
        self.fillers.clear()
        self.fault = None

    def drop_all(self, *, reset: bool) -> None:
        """End all connections."""
        for link in self.links[:]:
            self.drop(link, reset=reset)

    def drop(self, link: _Link, *, reset: bool = False) -> None:
        """End this connection; `reset`: as by a machine that has forgotten it."""
        self.links.remove(link)
        if reset:
            with contextlib.suppress(OSError):
                link.agent.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        link.agent.close()
        if link.camera is not None:
            link.camera.close()
        for way in link.ways:
            way.close()

    def accept(self) -> _Link | None:
        """Take a connection, and lead it to the camera."""
        agent, _ = self.listener.accept()
        agent.setblocking(False)
        camera = None
        if self.fault != "silent":
            try:
                camera = socket.create_connection(("127.0.0.1", self.camera), 2)
            except OSError:
                agent.close()
                return None
            camera.setblocking(False)
        self.connections += 1
        link = _Link(agent, camera)
        self.links.append(link)
        return link

    def _fill(self) -> None:
        """Fill the queue of connections that nobody takes: the kernel then drops who knocks, as a cut cable does."""
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self.fillers.append(filler)


class Cables:
    """All cables of a site; a context manager, like the thread in it."""

    def __init__(self) -> None:
        self._cables: list[Cable] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cables")
        self._random = random.Random(7)

    def __enter__(self) -> Cables:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        for cable in self._cables:
            if cable.fault:
                cable.mend()
            cable.drop_all(reset=True)
            cable.listener.close()

    def lay(self, camera: int, spare: int = 0) -> Cable:
        """A new cable to that port."""
        cable = Cable(camera, spare)
        with self._lock:
            self._cables.append(cable)
        return cable

    def spoil(self, cable: Cable, fault: Fault) -> float:
        """From now on; returns when that is, `time.monotonic`."""
        with self._lock:
            cable.spoil(fault)
        return time.monotonic()

    def mend(self, cable: Cable) -> float:
        """All is well again; returns when, `time.monotonic`."""
        with self._lock:
            cable.mend()
        return time.monotonic()

    def _run(self) -> None:
        burst = time.monotonic()
        while not self._ended.is_set():
            with self._lock, selectors.DefaultSelector() as ready:
                self._register(ready)
                for key, _ in ready.select(0):
                    cable, link, way = key.data
                    if link is None:
                        cable.accept()
                    elif link not in cable.links:
                        pass
                    elif way is not None:
                        self._carry_datagram(cable, link, way, key.fileobj)
                    else:
                        self._carry(cable, link, key.fileobj is link.camera)
                if time.monotonic() >= burst:
                    burst = time.monotonic() + _BURST_S
                    self._release()
            self._ended.wait(0.005)

    def _register(self, ready: selectors.BaseSelector) -> None:
        for cable in self._cables:
            if cable.fault not in ("refused", "cut"):
                ready.register(cable.listener, selectors.EVENT_READ, (cable, None, None))
            for link in cable.links:
                if link.frozen:
                    continue
                for end in (link.agent, link.camera):
                    if end is not None:
                        ready.register(end, selectors.EVENT_READ, (cable, link, None))
                for way in link.ways:
                    for end in way.sockets:
                        ready.register(end, selectors.EVENT_READ, (cable, link, way))

    def _release(self) -> None:
        for cable in self._cables:
            for link in cable.links[:]:
                link.out += link.held
                link.held.clear()
                self._release_datagrams(link)
                self._send(cable, link)

    def _carry(self, cable: Cable, link: _Link, from_camera: bool) -> None:
        source = link.camera if from_camera else link.agent
        assert source is not None
        try:
            data = source.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            cable.drop(link)
        elif not from_camera:
            data, way = Datagrams.asked_for(data)
            if way is not None:
                link.ways.append(way)
            if link.camera is not None:
                with contextlib.suppress(OSError):
                    link.camera.send(data)
                link.in_body = False
        else:
            passed = self._spoilt(cable, link, data)
            if cable.fault == "bursts":
                link.held += passed
            else:
                link.out += passed
            self._send(cable, link)

    def _send(self, cable: Cable, link: _Link) -> None:
        if link.frozen or not link.out:
            return
        try:
            sent = link.agent.send(link.out)
        except BlockingIOError:
            sent = 0
        except OSError:
            cable.drop(link)
            return
        link.sent += sent
        del link.out[:sent]
        if len(link.out) > _MOST_WAITING:
            cable.drop(link, reset=True)
        elif cable.fault == "broken-off" and link.sent > _BROKEN_OFF:
            cable.drop(link)

    def _spoilt(self, cable: Cable, link: _Link, data: bytes) -> bytes:
        """What gets through of it."""
        link.head += data
        out = bytearray()
        while link.head:
            part, is_picture = _next_part(link)
            if not part:
                break
            if is_picture:
                out += self._spoil_part(cable.fault, part, link.in_body)
            else:
                out += link.ways[-1].answered(part) if link.ways else part
        return bytes(out)

    def _carry_datagram(self, cable: Cable, link: _Link, way: Datagrams, end: socket.socket) -> None:
        packet, from_camera = way.take(end)
        if packet is None or not from_camera:
            if packet:
                way.pass_on(end, packet, to_agent=False)
            return
        # Framed as in a connection, so that the same can befall it.
        part = struct.pack(">cBH", b"$", way.sockets.index(end), len(packet)) + packet
        packet = self._spoil_part(cable.fault, part, http=False)[4:]
        chance = self._random.random() if cable.fault == "lossy" else 1.0
        if not packet or chance < _LOST:
            return
        if cable.fault == "bursts" or _TWICE <= chance < _LATE:
            link.held_datagrams.append((way, end, packet))
            return
        for _ in range(2 if chance < _TWICE else 1):
            way.pass_on(end, packet, to_agent=True)
        self._release_datagrams(link)
        link.sent += len(packet)
        if cable.fault == "broken-off" and link.sent > _BROKEN_OFF:
            cable.drop(link)

    def _release_datagrams(self, link: _Link) -> None:
        for way, end, packet in link.held_datagrams:
            way.pass_on(end, packet, to_agent=True)
        link.held_datagrams.clear()

    def _spoil_part(self, fault: Fault | None, part: bytes, http: bool) -> bytes:
        if fault == "stalled" and (http or part[1] == 0):
            return b""
        begin = 0 if http else 4 + _RTP_HEAD
        if len(part) <= begin:
            return part
        if fault == "garbage" and (http or part[1] == 0):
            return part[:begin] + self._random.randbytes(len(part) - begin)
        if fault == "truncated" and http:
            return part[: len(part) // 2]
        if fault == "truncated" and part[1] == 0:
            kept = max(begin + 2, len(part) // 2)
            return part[:2] + struct.pack(">H", kept - 4) + part[4:kept]
        if fault == "clock" and not http:
            return _later(part)
        return part


def _listen(port: int) -> socket.socket:
    """The shortest queue that there is, so that it can be filled."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(2)
    return listener


def _next_part(link: _Link) -> tuple[bytes, bool]:
    """Take the next whole piece of what came: (bytes, whether it is of a picture); (b"", False): there is none yet."""
    head = link.head
    size = 0
    if link.in_body:
        size = len(head)
    elif head[0] == 0x24:  # $, channel, length: RFC 2326, 10.12
        size = 4 + struct.unpack(">H", head[2:4])[0] if len(head) >= 4 else len(head) + 1
        if size > len(head):
            return b"", False
    if size:
        part = bytes(head[:size])
        del head[:size]
        return part, True
    end = head.find(b"\r\n\r\n") + 4
    if end < 4:
        return b"", False
    lines = bytes(head[:end]).lower().split(b"\r\n")
    if lines[0].startswith(b"http/"):
        link.in_body = True
    else:
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        if len(head) < end + length:
            return b"", False
        end += length
    part = bytes(head[:end])
    del head[:end]
    return part, False


def _later(part: bytes) -> bytes:
    """An hour later: the NTP time of a sender report (RFC 3550, 6.4.1), the stamp of a packet of 90 kHz (5.1)."""
    packet = bytearray(part)
    stamp = _HOUR_S * 90_000
    if part[5] == 200 and len(packet) >= 4 + 20:
        seconds, fraction, rtp = struct.unpack_from(">III", packet, 4 + 8)
        struct.pack_into(">III", packet, 4 + 8, (seconds + _HOUR_S) % (1 << 32), fraction, (rtp + stamp) % (1 << 32))
    elif part[1] == 0 and len(packet) >= 4 + _RTP_HEAD:
        (rtp,) = struct.unpack_from(">I", packet, 4 + 4)
        struct.pack_into(">I", packet, 4 + 4, (rtp + stamp) % (1 << 32))
    return bytes(packet)
