"""`isolated: true`: a source that is read in a process of its own, for decoders that crash or hang.

The process (`child`) opens the source and puts its pictures into shared memory (`slots`); here (`reader`) they are
views of it. What the source says of itself comes over a socket, one JSON object a packet. A process that crashes is a
SourceError, as a camera that is lost is, and the capture loop starts another one; one that hangs is killed.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from threading import Event

from agent.sources import Intake, Pictures, SourceConfig, Times

START_S = 20.0
"""Until the process has begun: a second or so, longer where the machine is busy."""
LEAVE_S = 1.0
"""For the process to leave the camera as it should; then it is killed."""
GRACE_S = 2.0
"""The process is killed so long before supervision would give up its reader."""


def as_read(source: SourceConfig) -> SourceConfig:
    """The source as it is to be opened: in a process of its own where its config says so."""
    return Isolated(source=source) if source.isolated else source


class Isolated(SourceConfig):
    """A source whose `open` is in another process; in all else it is that source."""

    source: SourceConfig

    @property
    def lossless(self) -> bool:
        """See SourceConfig."""
        return self.source.lossless

    @property
    def may_be_quiet(self) -> bool:
        """See SourceConfig."""
        return self.source.may_be_quiet

    @property
    def times(self) -> Times | None:
        """See SourceConfig. Its own times go for the process; supervision's, that nobody looks after it."""
        own = self.source.times
        if own is None:
            return None
        return Times(START_S + own.open_s + LEAVE_S + GRACE_S, own.step_s + GRACE_S, own.picture_s)

    def credentials(self) -> str | None:
        """See SourceConfig."""
        return self.source.credentials()

    @property
    def label(self) -> str:
        """The source's."""
        return self.source.label

    def open(self, stop: Event, intake: Intake) -> AbstractContextManager[Pictures]:
        """See SourceConfig."""
        from agent.sources._isolated.reader import reading

        return reading(self.source, stop, intake)
