"""Whatever GStreamer reads: RTSP with the least delay, hardware decoders, cameras on a Jetson, pipelines of your own.

An RTSP picture is in our hands when its last packet has come and it is decoded, about a frame sooner than through
FFmpeg, whose parser waits for the next one to begin. Capture times come from the camera's RTCP reports where GStreamer
hands them on (1.22 or newer). Before its first report, a few seconds after opening, and elsewhere the clock is
`receive`: when the coded picture came to the decoder, or where nothing is decoded, when it came out of the pipeline.
Freshness is always decided on the latter.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from agent.errors import SourceError
from agent.secrets import redact
from agent.sources import Intake, Pictures, Times
from agent.sources._gst.bindings import gstreamer
from agent.sources._gst.presets import DecoderName, check_decoder, csi_source
from agent.sources._gst.rtsp import DESCRIPTION, Joint, keep_from_insisting, set_up
from agent.sources._gst.stream import Stream
from agent.sources._gst.text import check_references, elements_of, every, masking, parse
from agent.sources._patient import GRACE_S, Patient
from agent.sources._url import expect_url

START_S = 5.0
"""What a pipeline may need for its first picture, unless `timeout_s` is set: a Jetson's daemon starts with it."""
_ONLY_WITH = {
    "url": {"decoder", "transport", "latency_ms"},
    "pipeline": {"pace"},
}


def _rtsp(url: str) -> str:
    return expect_url(url, ("rtsp", "rtsps"))


class Csi(BaseModel):
    """`csi: {sensor: 0, width: 1920, height: 1080, rate: 30}`: a camera on a Jetson's CSI connector."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sensor: int = Field(default=0, ge=0, le=15)
    width: int = Field(default=1920, ge=16, le=8192)
    height: int = Field(default=1080, ge=16, le=8192)
    rate: float = Field(default=30, gt=0, le=1000)


class Config(Patient):
    """One of `pipeline: "v4l2src ! jpegdec"` (without a sink), `url: rtsp://10.0.0.7/stream1`, `csi: {sensor: 0}`."""

    type: Literal["gstreamer"] = "gstreamer"
    pipeline: Annotated[str, AfterValidator(check_references)] | None = Field(default=None, min_length=1, repr=False)
    """As gst-launch-1.0 takes it, without a sink, or with one `appsink` where the pictures are to be taken."""
    pace: Literal["live", "lossless"] = "live"
    """live: newest wins, recordings in real time; lossless: every picture of a recording."""
    url: Annotated[str, AfterValidator(_rtsp)] | None = Field(default=None, repr=False)
    decoder: DecoderName = "auto"
    transport: Literal["tcp", "udp"] = "tcp"
    latency_ms: int = Field(default=0, ge=0, le=10_000)
    """How long packets are kept so that late ones (UDP) can be put in order."""
    csi: Csi | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        ways = [way for way in ("pipeline", "url", "csi") if getattr(self, way) is not None]
        if len(ways) != 1:
            raise ValueError("give one of pipeline, url and csi")
        for way, keys in _ONLY_WITH.items():
            if ways != [way] and (given := self.model_fields_set & keys):
                raise ValueError(f"{', '.join(sorted(given))}: only with {way}")
        return self

    @property
    def lossless(self) -> bool:
        """See SourceConfig."""
        return self.pace == "lossless"

    @property
    def times(self) -> Times | None:
        """See SourceConfig. A recording, and what the machine decodes ahead of its time, are in no hurry."""
        if self.lossless:
            return None
        normal = super().times
        return normal and normal._replace(open_s=max(normal.open_s, START_S + GRACE_S))

    @property
    def label(self) -> str:
        """The URL without credentials, the sensor, or the pipeline's elements without their properties."""
        if self.url is not None:
            return redact(self.url)
        if self.csi is not None:
            return f"CSI sensor {self.csi.sensor}"
        return f"GStreamer {elements_of(self.pipeline or '')}"

    @contextmanager
    def open(self, stop: Event, intake: Intake) -> Iterator[Pictures]:
        """See SourceConfig. A closed source has no threads and no connections left."""
        stream = self._stream(intake)
        try:
            stream.start()
            yield stream.pictures(stop)
        finally:
            stream.close()

    def _stream(self, intake: Intake) -> Stream:
        username, password = self._credentials()
        mask = masking(self.pipeline or "", password)
        try:
            pipeline, sink = parse(self._description(), mask)
        except SourceError as error:
            raise type(error)(f"{self.label}: {error}") from None
        faults: list[SourceError] = []
        for element in every(pipeline.iterate_recurse()):
            if username is not None and element.find_property("user-pw") is not None:
                element.set_property("user-id", username)
                element.set_property("user-pw", password or "")
            factory = element.get_factory()
            if factory is not None and factory.get_name() == "rtspsrc":
                keep_from_insisting(element, self.label, faults)
        said = self.url is not None or "timeout_s" in self.model_fields_set
        start_s = self.silence_s if said else max(START_S, self.silence_s)
        silent_s = (start_s, self.silence_s)
        stream = Stream(pipeline, sink, self.label, mask, self.lossless, silent_s, intake, faults)
        if self.url is not None:
            joint = Joint(self.decoder, self.label, faults)
            set_up(pipeline, self.url, self.transport, self.latency_ms, self.timeout_s, joint)
        return stream

    def _description(self) -> str:
        """As gst-launch-1.0 takes it. Raises SourceError, without a label, where a preset's elements are not here."""
        exists = gstreamer().ElementFactory.find
        if self.csi is not None:
            return csi_source(self.csi.sensor, self.csi.width, self.csi.height, self.csi.rate, exists)
        if self.url is not None:
            check_decoder(self.decoder, exists)
            return DESCRIPTION
        return self.pipeline or ""

    def _credentials(self) -> tuple[str | None, str | None]:
        if self.username is None:
            parts = urlsplit(self.url or "")
            return parts.username and unquote(parts.username), parts.password and unquote(parts.password)
        return self.username, self.read_password()
