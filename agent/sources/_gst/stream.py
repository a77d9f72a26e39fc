"""A pipeline that runs: its samples as stamped pictures, and what its bus says as one of our errors."""

from __future__ import annotations

import time
from threading import Event
from typing import Any

from agent.errors import Refused, SourceError
from agent.frame import Timestamp
from agent.sources import Intake, Pictures
from agent.sources._faults import REFUSES, UNDECODABLE
from agent.sources._gst.arrivals import Arrivals
from agent.sources._gst.bindings import gstreamer
from agent.sources._gst.pictures import Pictures as Reader
from agent.sources._gst.text import Mask, every, shortened
from agent.sources._gst.waiting import Waiting
from agent.sources._patient import KEY_FRAME_S

_Silent = tuple[float, float]
_POLL_NS = 50_000_000
"""How soon a stop or a message on the bus is noticed while no picture comes."""
_HELD = 4
"""Pictures that may wait for the capture thread: several come at once when a stream begins, or a machine is busy. Only
when it is further behind are they dropped, oldest first, and counted; which of them an engine gets is the mailbox's to
decide."""


class Stream:
    """Owns a pipeline from its first change of state to its last; closed is closed."""

    def __init__(
        self,
        pipeline: Any,
        sink: Any,
        label: str,
        mask: Mask,
        lossless: bool,
        silent_s: _Silent,
        intake: Intake,
        faults: list[SourceError],
    ) -> None:
        """`silent_s`: how long it may be silent before the first picture, and later.

        `faults`: added to by who finds out, in a thread of GStreamer's, that this can come to nothing.
        """
        self._pipeline, self._sink, self._bus = pipeline, sink, pipeline.get_bus()
        self._label, self._mask, self._lossless, self._intake = label, mask, lossless, intake
        self._start_ns, self._silence_ns = (round(seconds * 1e9) for seconds in silent_s)
        self._seen = False
        self._reader = Reader(label, intake)
        self._arrivals, self._waiting = Arrivals(intake), Waiting()
        self._last_ns = -1
        self._began_ns = time.time_ns()
        self._live = self._paced = False
        """Paced: a recording that is shown in real time: pictures are decoded ahead and wait for theirs."""
        self._faults = faults

    def start(self) -> None:
        """Set it going. Raises SourceError where an element refuses at once."""
        gst = gstreamer()
        for element in every(self._pipeline.iterate_recurse()):
            _meet(element, self._arrivals)
        self._pipeline.connect("deep-element-added", _added, self._arrivals)
        change = self._pipeline.set_state(gst.State.PAUSED)
        self._live = change == gst.StateChangeReturn.NO_PREROLL
        if self._live and self._lossless:
            raise SourceError(f"{self._label}: is live, which cannot be read without loss: leave out 'pace: lossless'")
        self._paced = not self._live and not self._lossless
        self._sink.set_property("sync", self._paced)
        self._sink.set_property("drop", not self._lossless)
        self._sink.set_property("max-buffers", _HELD)
        if not self._lossless:
            self._waiting.watch(self._sink)
        if change == gst.StateChangeReturn.FAILURE or (
            self._pipeline.set_state(gst.State.PLAYING) == gst.StateChangeReturn.FAILURE
        ):
            self._listen(gst.SECOND)
            raise SourceError(f"{self._label}: the pipeline does not start")

    def close(self) -> None:
        """Stop everything; pictures already taken stay valid."""
        self._bus.set_flushing(True)
        self._pipeline.set_state(gstreamer().State.NULL)

    def pictures(self, stop: Event) -> Pictures:
        """Until `stop` or the end of a recording. A camera that ends its stream, or is silent, is a SourceError."""
        since_ns = time.monotonic_ns()
        while not stop.is_set():
            sample = self._sink.try_pull_sample(_POLL_NS)
            if sample is not None:
                self._seen = True
                self._intake.left_out += self._waiting.take(sample.get_buffer().pts)
                captured = self._captured(sample)
                if captured is not None:
                    yield captured, self._reader.image(sample)
                since_ns = time.monotonic_ns()
            if self._listen(_POLL_NS if sample is None and self._sink.is_eos() else 0):
                return
            if sample is None:
                self._intake.alive()
                self._check_flow(since_ns)

    def _check_flow(self, since_ns: int) -> None:
        """Raise SourceError where nothing comes, or nothing comes of it."""
        now_ns = time.monotonic_ns()
        silence_ns = self._silence_ns if self._seen else self._start_ns
        if now_ns - max(since_ns, self._arrivals.last_ns) >= silence_ns:
            raise SourceError(f"{self._label}: no picture for {silence_ns / 1e9:g} s")
        # A stream that we have just joined brings no picture before its first key frame.
        undecoded_ns = silence_ns if self._seen else max(round(KEY_FRAME_S * 1e9), silence_ns)
        if now_ns - since_ns >= undecoded_ns:
            raise SourceError(f"{self._label}: {UNDECODABLE}")

    def _captured(self, sample: Any) -> Timestamp | None:
        """When it was taken; None if it is damaged."""
        gst, now_ns, wall_now_ns = gstreamer(), time.monotonic_ns(), time.time_ns()
        buffer = sample.get_buffer()
        arrival = self._arrivals.take(buffer.pts)
        if buffer.has_flags(gst.BufferFlags.CORRUPTED):
            self._skip("damaged: parts of it were lost")
            return None
        if arrival is not None and not arrival.whole:
            if arrival.damaged:
                self._skip("predicted from a damaged one")
            return None
        if self._lossless:
            position_ns = self._position_ns(sample)
            return Timestamp(self._began_ns + position_ns, position_ns, "file", None)
        arrived_ns = now_ns if arrival is None or self._paced else arrival.monotonic_ns
        # What is sent ahead, to be shown later, is no older than the picture that it is shown after.
        arrived_ns = self._last_ns = max(arrived_ns, self._last_ns)
        if arrival is not None and arrival.wall_ns is not None:
            return Timestamp(arrival.wall_ns, arrived_ns, "rtcp", wall_now_ns)
        return Timestamp(wall_now_ns - (now_ns - arrived_ns), arrived_ns, "receive", wall_now_ns)

    def _position_ns(self, sample: Any) -> int:
        """Running time of a recording's picture; those without a stamp follow the last one."""
        gst, pts = gstreamer(), sample.get_buffer().pts
        running = gst.CLOCK_TIME_NONE
        if pts != gst.CLOCK_TIME_NONE:
            running = sample.get_segment().to_running_time(gst.Format.TIME, pts)
        after_ns = self._last_ns + max(1, self._reader.duration_ns)
        self._last_ns = after_ns if running == gst.CLOCK_TIME_NONE else max(int(running), self._last_ns + 1)
        return self._last_ns

    def _listen(self, wait_ns: int = 0) -> bool:
        """Read the bus, True at the end of a recording. Raises SourceError with what GStreamer says."""
        gst = gstreamer()
        if self._faults:
            raise self._faults[0]
        kinds = gst.MessageType.ERROR | gst.MessageType.WARNING | gst.MessageType.EOS
        while (message := self._bus.timed_pop_filtered(wait_ns, kinds)) is not None:
            if message.type == gst.MessageType.ERROR:
                raise self._error(*message.parse_error())
            if message.type == gst.MessageType.EOS:
                # An endless download is not live to GStreamer, but has no length either.
                if self._lossless or (not self._live and self._pipeline.query_duration(gst.Format.TIME)[0]):
                    return True
                raise SourceError(f"{self._label}: the camera has ended the stream")
            problem, _ = message.parse_warning()
            if problem.matches(gst.StreamError.quark(), gst.StreamError.DECODE):
                self._skip(problem.message)
        return False

    def _error(self, problem: Any, details: str | None) -> SourceError:
        gst = gstreamer()
        # The details are lines of source code and elements; the last one may say what happened.
        last = (details or "").strip().rpartition("\n")[2]
        # 403 has no name in some of its elements.
        if problem.matches(gst.ResourceError.quark(), gst.ResourceError.NOT_AUTHORIZED) or last.endswith("(403)"):
            return Refused(f"{self._label}: {REFUSES}")
        said = problem.message if not last or ": /Gst" in last else f"{problem.message.rstrip('.')} ({last})"
        if "not-negotiated" in said:
            said += ": put videoconvert, or where the memory is a device's its own converter, before the end"
        return SourceError(f"{self._label}: {shortened(self._mask(said))}")

    def _skip(self, what: str) -> None:
        self._intake.skip(f"{self._label}: {shortened(self._mask(what))}")


def _added(_bin: Any, _inner: Any, element: Any, arrivals: Arrivals) -> None:
    _meet(element, arrivals)


def _meet(element: Any, arrivals: Arrivals) -> None:
    """An element joins the pipeline: watch it if it decodes, and ask it for capture times if it can tell."""
    if element.find_property("add-reference-timestamp-meta") is not None:
        element.set_property("add-reference-timestamp-meta", True)
    arrivals.meet(element)
