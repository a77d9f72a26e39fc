"""All cameras' albums, and the one thread that makes pictures of what waits in them.

A camera's owner leaves frames, and goes on. What waits is bounded: one frame an incident, and so many bytes in all.
Every frame that was left is counted:

    taken == made + replaced + dropped + failed + waiting
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from agent.folders import state_folder
from agent.frame import Frame
from agent.keeping import FolderState, Keeper, Shelf
from agent.messages import Blob, rfc3339
from agent.sinks import Message
from agent.snapshots import Album
from agent.snapshots.choosing import BETTER, Candidate, Choice, worth
from agent.snapshots.jpeg import MOST_BYTES, Encoder
from agent.snapshots.settings import SnapshotSection
from agent.workers import Worker
from engines.errors import PictureError
from engines.results import Detections, Result

log = logging.getLogger(__name__)

MOST_HELD_BYTES = 64_000_000
"""Pixels that wait to be encoded, of all cameras: twenty pictures of 1080p."""
MOST_WAITING = 64
"""Incidents whose next picture waits, of all cameras; they may share a frame."""
TRIM_EVERY_S = 60.0
"""So soon what has grown too old is deleted where nothing new comes."""
NEWEST_AGE_NS = 10_000_000_000
"""Older frames are no answer to who asks for a picture now."""
MAX_AGE_NS = 10_000_000_000
"""Of a published picture that nobody could be given."""


class NoPicture(Exception):
    """There is nothing to make a picture of; says why."""


class _Album(Album):
    """One camera's. `saw` and `offer` are called by its owner, the rest by the book."""

    def __init__(self, book: Snapshots, camera: str, section: SnapshotSection, keeper: Keeper) -> None:
        self.camera, self.section, self.keeper = camera, section, keeper
        self.choice = Choice()
        self.newest: Frame | None = None
        self.due_s = 0.0
        """When the next picture may be made, `time.monotonic`."""
        self.leaves = False
        """The camera is gone; what waits is still made."""
        self.taken = self.made = self.replaced = self.dropped = self.failed = self.published = 0
        self._book = book

    def saw(self, frame: Frame) -> None:
        """See Album."""
        self.newest = frame

    def offer(
        self, incident: str, frame: Frame, result: Result, row: int | None, score: float, labels: Sequence[str] = ()
    ) -> str | None:
        """See Album."""
        name = f"{incident}.jpg"
        value = worth(result, row, score, frame.image.size)
        standing = self.choice.incidents.get(incident)
        if standing is not None and value <= standing.worth * BETTER:
            return name if standing.promised else None
        shown = None
        if self.section.boxes and labels:
            shown = result[row] if row is not None and isinstance(result, Detections) else result
        return name if self._book.wait(self, Candidate(name, incident, frame, shown, labels), value) else None

    def ended(self, incident: str) -> str | None:
        """See Album."""
        with self._book.changed:
            return f"{incident}.jpg" if self.choice.ended(incident) else None


class Snapshots:
    """The pictures of an agent. `start`, then albums are fed, then `close`."""

    def __init__(
        self, agent: str, publish: Callable[[Message], object], on_state: Callable[[], None] = lambda: None
    ) -> None:
        """`publish` takes `<camera>/snapshot`, where the configuration asks for it. `on_state`: `state` has changed."""
        self._agent, self._publish, self._on_state = agent, publish, on_state
        self.changed = threading.Condition()
        self._albums: dict[str, _Album] = {}
        """Replaced, never changed: several threads look at it."""
        self._closed = False
        self._end_s = 0.0
        self._encoder = Encoder()
        self._worker = Worker("snapshots", self._run)
        self._started = False

    def album(self, camera: str, section: SnapshotSection) -> Album:
        """The album of a camera whose configuration asks for pictures; the one that it has, if it has one."""
        album = self._albums.get(camera)
        if album is not None and album.section == section:
            album.leaves, album.newest = False, None  # of what it saw something else may be masked now
            return album
        root = (section.folder or state_folder() / "snapshots") / self._agent
        shelf = Shelf(root / camera, camera, (".jpg",), section.limit, section.max_mb * 1_000_000, section.max_age)
        keeper = Keeper(shelf, FolderState(camera, "snapshot", shelf.folder, self._on_state))
        with self.changed:
            if album is None:
                album = _Album(self, camera, section, keeper)
                self._albums = {**self._albums, camera: album}
            album.section, album.keeper, album.leaves = section, keeper, False
        return album

    def remove(self, camera: str) -> None:
        """No more pictures of that camera, once those that wait are made."""
        with self.changed:
            if (album := self._albums.get(camera)) is not None:
                album.leaves = True
                self._forget(album)

    def _forget(self, album: _Album) -> None:
        if album.leaves and not album.choice.waiting:
            self._albums = {name: each for name, each in self._albums.items() if each is not album}

    def start(self) -> None:
        """Start the thread, if any camera wants pictures and it does not run."""
        if self._albums and not self._started:
            self._started = True
            self._worker.start()

    def close(self, deadline_s: float) -> None:
        """Encode what waits, for at most `deadline_s`; what is left then is dropped and counted."""
        with self.changed:
            self._closed, self._end_s = True, time.monotonic() + deadline_s
            self.changed.notify_all()
        if self._started and not self._worker.join(deadline_s + 1):
            log.warning("snapshots: does not end; left behind")

    def now(self, camera: str) -> str:
        """Have a picture made of the camera's newest frame, and published where the configuration says so; its name.

        Returns at once. Raises NoPicture.
        """
        album = self._albums.get(camera)
        if album is None:
            raise NoPicture("the configuration asks for no snapshots of this camera")
        frame = album.newest
        if frame is None:
            raise NoPicture("no frame of this camera has been looked at yet")
        if (age_ns := frame.captured.age_ns() or 0) > NEWEST_AGE_NS:
            raise NoPicture(f"the newest frame of this camera is {age_ns // 1_000_000_000} s old")
        incident = f"asked-{camera}-{frame.captured.wall_ns}"
        name = f"{incident}.jpg"
        with self.changed:
            for waiting in album.choice.waiting.values():
                if waiting.incident.startswith("asked-"):
                    return waiting.name  # it is about to be made, and will do for this one too
        if not self.wait(album, Candidate(name, incident, frame, None, ()), 1.0):
            raise NoPicture("too many pictures are being made")
        album.ended(incident)
        return name

    def wait(self, album: _Album, candidate: Candidate, value: float) -> bool:
        """Let a candidate wait to be encoded; False where there is no room."""
        with self.changed:
            album.taken += 1
            waiting = [each for one in self._albums.values() for each in one.choice.waiting.values()]
            others = [each for each in waiting if each.incident != candidate.incident]
            held = {id(each.frame.image): each.bytes for each in [*others, candidate]}
            if self._closed or len(others) >= MOST_WAITING or sum(held.values()) > MOST_HELD_BYTES:
                album.dropped += 1
                return False
            album.replaced += album.choice.wait(candidate, value) is not None
            self.changed.notify()
            return True

    def state(self) -> dict[str, Any]:
        """Camera -> where its pictures lie, whether they can be kept, and why not."""
        return {
            name: {**album.keeper.state.told(), "published": album.section.publish}
            for name, album in self._albums.items()
        }

    def counts(self) -> dict[str, dict[str, int]]:
        """Camera -> the account of what was taken, and what is kept."""
        with self.changed:
            return {
                name: {
                    "taken": album.taken,
                    "made": album.made,
                    "replaced": album.replaced,
                    "dropped": album.dropped,
                    "failed": album.failed,
                    "waiting": album.taken - album.made - album.replaced - album.dropped - album.failed,
                    "published": album.published,
                    **album.keeper.standing,
                }
                for name, album in self._albums.items()
            }

    # -- the thread

    def _run(self, stop: threading.Event) -> None:  # noqa: ARG002  # ends when closed
        trim_s = 0.0
        while True:
            if time.monotonic() >= trim_s:
                trim_s = time.monotonic() + TRIM_EVERY_S
                for album in self._albums.values():
                    album.keeper.attempt(Shelf.trim)
            taken = self._take(trim_s)
            if taken is not None:
                self._make(*taken)
                del taken  # its pixels are the decoder's
            elif self._closed:
                return

    def _take(self, until_s: float) -> tuple[_Album, Candidate] | None:
        """What is to be encoded next, when it is due; None: nothing until then, or never again."""
        with self.changed:
            while True:
                now_s = time.monotonic()
                if self._closed and now_s >= self._end_s:
                    self._drop_all()
                albums = [album for album in self._albums.values() if album.choice.waiting]
                album = min(albums, key=lambda each: each.due_s, default=None)
                if album is not None and (self._closed or album.due_s <= now_s):
                    album.due_s = now_s + album.section.every
                    return album, album.choice.take()
                if self._closed or now_s >= until_s:
                    return None
                self.changed.wait(min(until_s, until_s if album is None else album.due_s) - now_s)

    def _drop_all(self) -> None:
        for album in self._albums.values():
            album.dropped += len(album.choice.waiting)
            album.choice.waiting.clear()

    def _make(self, album: _Album, candidate: Candidate) -> None:
        section = album.section
        worked = published = False
        try:
            data = self._encoder.encode(
                candidate.frame.image,
                max_width=section.max_width,
                quality=section.quality,
                result=candidate.result,
                labels=candidate.labels,
                most_bytes=MOST_BYTES if section.publish else None,
            )
            worked = album.keeper.attempt(lambda shelf: shelf.write(candidate.name, data))
            if section.publish:
                self._publish(_message(candidate, data, section.retain))
                published = True
        except PictureError as error:
            log.warning("%s: snapshot: %s", album.camera, error)
        finally:
            with self.changed:
                album.made += worked
                album.failed += not worked
                album.published += published
                album.choice.made(candidate, worked)
                self._forget(album)


def _message(candidate: Candidate, data: bytes, retain: bool) -> Message:
    captured = candidate.frame.captured
    facts = {"id": candidate.incident, "captured_at": rfc3339(captured.wall_ns), "clock": captured.clock}
    return Message(
        f"{candidate.frame.camera}/snapshot",
        Blob.model_construct(data=data, content_type="image/jpeg", facts=facts),
        retain=retain,
        born_ns=time.monotonic_ns(),
        max_age_ns=None if retain else MAX_AGE_NS,
    )
