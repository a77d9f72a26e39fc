"""Short clips around incidents, of the stream's own packets: nothing is decoded or encoded for them.

`settings` what the configuration says of it · `packets` what a source hands on · `ring` the last seconds of a stream ·
`reel` when a camera's clip begins and ends · `muxing` the file · `book` all cameras, and the one thread that writes
"""

from __future__ import annotations

from abc import ABC, abstractmethod


class Reel(ABC):
    """Keeps clips of one camera's incidents. Incidents that overlap share a clip."""

    @abstractmethod
    def started(self, incident: str, at_ns: int) -> str | None:
        """An incident begins at that time, the camera's own (`Frame.captured.monotonic_ns`); its clip's name.

        None where there is none: nothing of the stream is at hand. Returns at once. The file is whole some seconds
        after the incident's end.
        """

    @abstractmethod
    def ended(self, incident: str, at_ns: int) -> str | None:
        """The incident is over (for a moment: at once); the name of its clip."""
