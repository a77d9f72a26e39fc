"""A stream's packets on their way from a source to the clips: copied once, for however many cameras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.clips.packets import Packet, Template
from agent.clips.reel import CameraReel
from agent.frame import Timestamp


class PacketTap:
    """Hands one source's packets to the reels of its cameras; called by its capture thread alone."""

    def __init__(self, reels: Sequence[CameraReel]) -> None:
        self._reels = list(reels)

    def opened(self, stream: Any) -> None:
        """A connection's stream (av.VideoStream), or a file's, read from its beginning."""
        try:
            template = Template(stream)
        except ValueError as error:
            template = None
            for reel in self._reels:
                reel.refused(str(error))
        for reel in self._reels:
            reel.opened(template)

    def packet(self, packet: Any) -> None:
        """The next one (av.Packet), before it is decoded."""
        copy = Packet(bytes(packet), packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe)
        for reel in self._reels:
            reel.packet(copy)

    def picture(self, captured: Timestamp, size: tuple[int, int]) -> None:
        """A picture came out of the packets so far: that is how they get the camera's own time."""
        for reel in self._reels:
            reel.picture(captured.monotonic_ns, size)

    def closed(self) -> None:
        """The connection is gone."""
        for reel in self._reels:
            reel.closed()
