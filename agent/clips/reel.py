"""When a camera's clip begins and ends, and what is in it. One is open at a time; incidents that overlap share it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.clips import Reel
from agent.clips.packets import Packet, Template
from agent.clips.ring import Ring
from agent.clips.settings import ClipSection

MOST_INCIDENTS = 1000
"""That are remembered with their clip; those that are open longest are forgotten first."""


@dataclass(eq=False)
class Clip:
    """One clip on its way to a file."""

    name: str
    template: Template
    last_ns: int
    """It ends then, whatever happens; the camera's own time."""
    incidents: set[str] = field(default_factory=set)
    """Those that are still open."""
    end_ns: int | None = None
    """None while an incident is open."""
    bytes: int = 0
    failed: bool = False


class CameraReel(Reel):
    """See Reel. `started` and `ended` are called by the camera's owner, the rest by its capture thread."""

    def __init__(
        self,
        camera: str,
        section: ClipSection,
        begin: Callable[[Clip, list[Packet]], bool],
        append: Callable[[Clip, Packet], bool],
        finish: Callable[[Clip], None],
        refused: Callable[[str], None],
    ) -> None:
        """`begin`, `append` and `finish` pass on what is to be written and return at once; False: there is no room."""
        self.camera, self.section = camera, section
        self.missed = 0
        """Incidents without a clip: nothing of the stream was at hand."""
        self._begin, self._append, self._finish, self.refused = begin, append, finish, refused
        self._before_ns, self._after_ns, self._longest_ns = (
            round(seconds * 1e9) for seconds in (section.before, section.after, section.longest)
        )
        self._max_bytes = section.max_mb * 1_000_000 // 2  # one clip alone must not fill the room of all
        self._lock = threading.Lock()
        self._ring = Ring(self._before_ns, section.buffer_mb * 1_000_000)
        self._template: Template | None = None
        self._size: tuple[int, int] | None = None
        self._streaming = False
        self._newest: Packet | None = None
        """Not passed on yet: the last one of a connection that breaks may be cut off."""
        self._open: Clip | None = None
        self._clip_of: OrderedDict[str, Clip] = OrderedDict()

    def started(self, incident: str, at_ns: int) -> str | None:
        """See Reel."""
        with self._lock:
            clip = self._open or self._new(incident, at_ns)
            if clip is None:
                self.missed += 1
                return None
            clip.incidents.add(incident)
            clip.end_ns = None
            self._clip_of[incident] = clip
            if len(self._clip_of) > MOST_INCIDENTS:
                self._clip_of.popitem(last=False)
            if not self._streaming:
                self._end()
            return clip.name

    def ended(self, incident: str, at_ns: int) -> str | None:
        """See Reel."""
        with self._lock:
            clip = self._clip_of.pop(incident, None)
            if clip is None:
                return None
            clip.incidents.discard(incident)
            if not clip.incidents:
                clip.end_ns = at_ns + self._after_ns
            return None if clip.failed else clip.name

    def opened(self, template: Template | None) -> None:
        """Another connection: what it brings has nothing to do with what came before."""
        with self._lock:
            self._end()
            self._ring.clear()
            self._template, self._size, self._streaming = template, None, template is not None
            self._newest = None

    def packet(self, packet: Packet) -> None:
        """The stream's next packet."""
        with self._lock:
            self._pass_on()
            self._newest = packet

    def picture(self, at_ns: int, size: tuple[int, int]) -> None:
        """A picture of that time came out of the packets so far."""
        with self._lock:
            self._pass_on()
            if size != self._size:
                if self._size is not None:
                    self._end()
                    self._ring.only_newest()
                self._size = size
            self._ring.stamp(at_ns)
            clip = self._open
            if clip is not None and at_ns >= (clip.last_ns if clip.end_ns is None else min(clip.end_ns, clip.last_ns)):
                self._end()

    def closed(self) -> None:
        """The connection is gone. What it brought last may still be asked for."""
        with self._lock:
            self._streaming, self._newest = False, None
            self._end()

    def _pass_on(self) -> None:
        packet, self._newest = self._newest, None
        if packet is None or self._template is None:
            return
        self._ring.add(packet)
        if (clip := self._open) is not None:
            clip.bytes += len(packet.data)
            if clip.bytes > self._max_bytes or clip.failed or not self._append(clip, packet):
                self._end()

    def _new(self, incident: str, at_ns: int) -> Clip | None:
        packets = self._ring.since(at_ns - self._before_ns)
        if self._template is None or not packets:
            return None
        clip = Clip(
            f"{incident}{self._template.suffix}",
            self._template,
            at_ns - self._before_ns + self._longest_ns,
            bytes=sum(len(packet.data) for packet in packets),
        )
        if not self._begin(clip, packets):
            return None
        self._open = clip
        return clip

    def _end(self) -> None:
        if self._open is not None:
            self._finish(self._open)
            self._open = None
