"""Where pictures come from: one file a kind, each with one `Config` class that is its factory.

A source is opened, iterated, and closed by one capture thread:

    with config.open(stop) as pictures:
        for captured, image in pictures: ...

Iteration ends when a recording ends or `stop` is set; anything else that ends it is a SourceError. An image's planes
may be views of the decoder's memory: valid as long as the Image is referenced, never written to.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from threading import Event
from typing import Any, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from agent.frame import Timestamp
from engines.pixels import Image

Pictures = Iterator[tuple[Timestamp, Image]]


class Tap(Protocol):
    """Whoever wants a stream's packets as they are. Both calls return at once, and keep nothing of what they get."""

    def opened(self, stream: Any) -> None:
        """A stream (av.VideoStream) is open; a file's is so again each time it is read from its beginning."""

    def packet(self, packet: Any) -> None:
        """Its next packet (av.Packet), before it is decoded."""


class Times(NamedTuple):
    """How long a live source may take, in seconds, before somebody else does something about it."""

    open_s: float
    """Opening and closing; a reader that takes longer is stuck, and replaced."""
    step_s: float
    """Between two pictures, or calls of `Intake.alive`; a reader that takes longer is stuck, and replaced."""
    picture_s: float
    """Between two pictures; a camera that takes longer is told as lost, while its reader goes on."""


@dataclass
class Intake:
    """What a source says of itself while it is read, besides its pictures; the capture loop shows it."""

    unreadable: int = 0
    """Packets or frames that could not be decoded: skipped."""
    last_error: str | None = None
    """What the decoder said of the last of them, without credentials."""
    left_out: int = 0
    """Whole pictures that came faster than they were taken, and gave way to newer ones before anybody saw them."""
    facts: dict[str, str] = field(default_factory=dict)
    """What is known of the stream once it is open: codec, size, rate."""
    tap: Tap | None = None
    """Gets the packets of a source that `has_packets`; None: nobody wants them."""
    skipped: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)
    """Called after each `skip`: a source of which nothing can be read yields nothing that would bring it up."""
    alive: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)
    """To be called whenever a wait or a packet brings no picture: the source waits, but is not stuck."""

    def skip(self, reason: str, count: int = 1) -> None:
        """`count` packets or frames could not be decoded; `reason` names the source, never credentials."""
        self.unreadable += count
        self.last_error = reason
        self.skipped()


class SourceConfig(BaseModel):
    """Base of every source's config: the config is the factory."""

    # Deferred: of all kinds that there are, a configuration uses few, and the union of them builds its own.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    isolated: bool = False
    """Read it in a process of its own, which may crash or hang: see `agent.sources._isolated.as_read`."""

    #: whether every frame counts (a recording) or only the newest (a camera)
    @property
    def lossless(self) -> bool:
        """True: frames wait for the engine; False: newest wins."""
        return False

    @property
    def may_be_quiet(self) -> bool:
        """True: that no picture comes for long is nothing unusual."""
        return False

    @property
    def times(self) -> Times | None:
        """What supervision goes by; None: nobody hurries it, as a recording or a folder."""
        return None

    def credentials(self) -> str | None:
        """The password as it would be used now: a camera that refused another one is asked again at once."""
        return None

    @property
    def has_packets(self) -> bool:
        """True: what it reads is a stream of packets, which it hands to `Intake.tap`."""
        return False

    @property
    @abstractmethod
    def label(self) -> str:
        """What to call this source in logs and status: never with credentials."""

    @abstractmethod
    def open(self, stop: Event, intake: Intake) -> AbstractContextManager[Pictures]:
        """Connect, and yield pictures until `stop` is set or a recording ends.

        Raises SourceError (Refused where credentials are wrong), with `label` and what to do, never with credentials.
        """
