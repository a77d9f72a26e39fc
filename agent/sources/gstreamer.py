"""Whatever GStreamer reads: RTSP with the least delay, hardware decoders, cameras on a Jetson, pipelines of your own.

An RTSP picture is in our hands when its last packet has come and it is decoded, about a frame sooner than through
FFmpeg, whose parser waits for the next one to begin. Capture times come from the camera's RTCP reports where GStreamer
hands them on (1.22 or newer). Before its first report, a few seconds after opening, and elsewhere the clock is
`receive`: when the coded picture came to the decoder, or where nothing is decoded, when it came out of the pipeline.
Freshness is always decided on the latter.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from agent.errors import SourceError
from agent.secrets import Secret, read_secret, redact
from agent.sources import Intake, Pictures, SourceConfig
from agent.sources._gst import gstreamer
from agent.sources._gst_pictures import CAPS
from agent.sources._gst_presets import DecoderName, check_decoder, csi_source, rtp_chain
from agent.sources._gst_stream import Mask, Stream, every, shortened

_ONLY_WITH = {
    "url": {"decoder", "transport", "latency_ms"},
    "pipeline": {"pace"},
}
_CAMERA, _CONVERT, _SINK = "sightwire-camera", "sightwire-convert", "sightwire-pictures"
_TAIL = f"videoconvert name={_CONVERT} ! appsink name={_SINK}"
#: values that nobody else is to see: user-pw=..., password=..., on any element
_SECRET = re.compile(
    r"\b[\w-]*(?:user-?id|user-?pw|-id|-pw|user(?:name)?|pass\w*|pwd|token|secret|key)\s*=\s*(\"[^\"]*\"|'[^']*'|\S+)",
    re.IGNORECASE,
)


_VALUE = re.compile(r"=\s*(?:\"(?:\\.|[^\"])*\"|'(?:\\.|[^'])*'|\S+)")
_NAME = re.compile(r"\bname\s*=\s*[\"']?([\w-]+)")
_REFERENCE = re.compile(r"(?<![\w/.:-])([A-Za-z_][\w-]*)\.(?!\()")


def _pipeline(text: str) -> str:
    # GStreamer's parser dies of some references to elements that are not there.
    if unknown := set(_REFERENCE.findall(_VALUE.sub("=", text))) - set(_NAME.findall(text)):
        raise ValueError(
            f"no element in it has the name {min(unknown)!r}: write name={min(unknown)} behind the element"
        )
    return text


def _rtsp(url: str) -> str:
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("rtsp", "rtsps") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        right = False
    if not right:
        raise ValueError("expected rtsp://HOST[:PORT]/PATH or rtsps://...; for anything else write a pipeline")
    return url


class Csi(BaseModel):
    """`csi: {sensor: 0, width: 1920, height: 1080, rate: 30}`: a camera on a Jetson's CSI connector."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sensor: int = Field(default=0, ge=0, le=15)
    width: int = Field(default=1920, ge=16, le=8192)
    height: int = Field(default=1080, ge=16, le=8192)
    rate: float = Field(default=30, gt=0, le=1000)


class Config(SourceConfig):
    """One of `pipeline: "v4l2src ! jpegdec"` (without a sink), `url: rtsp://10.0.0.7/stream1`, `csi: {sensor: 0}`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    type: Literal["gstreamer"] = "gstreamer"
    pipeline: Annotated[str, AfterValidator(_pipeline)] | None = Field(default=None, min_length=1, repr=False)
    """As gst-launch-1.0 takes it, without a sink, or with one `appsink` where the pictures are to be taken."""
    pace: Literal["live", "lossless"] = "live"
    """live: newest wins, recordings in real time; lossless: every picture of a recording."""
    url: Annotated[str, AfterValidator(_rtsp)] | None = Field(default=None, repr=False)
    decoder: DecoderName = "auto"
    transport: Literal["tcp", "udp"] = "tcp"
    latency_ms: int = Field(default=0, ge=0, le=10_000)
    """How long packets are kept so that late ones (UDP) can be put in order."""
    csi: Csi | None = None
    username: str | None = None
    password: Secret | None = None
    password_file: Path | None = None
    timeout_s: float = Field(default=5.0, gt=0, le=60)
    """A source that is silent for so long is lost."""

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        ways = [way for way in ("pipeline", "url", "csi") if getattr(self, way) is not None]
        if len(ways) != 1:
            raise ValueError("give one of pipeline, url and csi")
        for way, keys in _ONLY_WITH.items():
            if ways != [way] and (given := self.model_fields_set & keys):
                raise ValueError(f"{', '.join(sorted(given))}: only with {way}")
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file exclude each other")
        if self.username is None and (self.password is not None or self.password_file is not None):
            raise ValueError("a password needs a username")
        return self

    @property
    def lossless(self) -> bool:
        """See SourceConfig."""
        return self.pace == "lossless"

    @property
    def label(self) -> str:
        """The URL without credentials, the sensor, or the pipeline's elements without their properties."""
        if self.url is not None:
            return redact(self.url)
        if self.csi is not None:
            return f"CSI sensor {self.csi.sensor}"
        words = [part.split()[0] for part in (self.pipeline or "").split("!") if part.strip()]
        return shortened("GStreamer " + " ! ".join("..." if "=" in word else word for word in words))

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
        mask = _masking(self.pipeline or "", username, password)
        try:
            pipeline, sink = _parsed(self._description(), mask)
        except SourceError as error:
            raise type(error)(f"{self.label}: {error}") from None
        for element in every(pipeline.iterate_recurse()):
            if username is not None and element.find_property("user-pw") is not None:
                element.set_property("user-id", username)
                element.set_property("user-pw", password or "")
        stream = Stream(pipeline, sink, self.label, mask, self.lossless, self.timeout_s, intake)
        if self.url is not None:
            self._set_up_rtsp(pipeline, stream.faults)
        return stream

    def _description(self) -> str:
        """What comes before our own end of the pipeline. Raises SourceError without a label."""
        exists = gstreamer().ElementFactory.find
        if self.csi is not None:
            csi = self.csi
            return csi_source(csi.sensor, csi.width, csi.height, csi.rate, exists)
        if self.url is not None:
            check_decoder(self.decoder, exists)
            return f"rtspsrc name={_CAMERA} {_TAIL}"  # joined when its streams are known
        return self.pipeline or ""

    def _credentials(self) -> tuple[str | None, str | None]:
        if self.username is None:
            parts = urlsplit(self.url or "")
            return parts.username and unquote(parts.username), parts.password and unquote(parts.password)
        if self.password_file is not None:
            return self.username, read_secret(self.password_file)
        return self.username, self.password.resolve() if self.password is not None else None

    def _set_up_rtsp(self, pipeline: Any, faults: list[SourceError]) -> None:
        # What GStreamer calls back must not hold the pipeline, or it would never be freed.
        gst = gstreamer()
        camera, convert = pipeline.get_by_name(_CAMERA), pipeline.get_by_name(_CONVERT)
        parts = urlsplit(self.url or "")
        # Credentials have gone into properties of their own; an address is repeated in error messages.
        camera.set_property("location", parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())
        gst.util_set_object_arg(camera, "protocols", "tcp+tls+tcp" if parts.scheme == "rtsps" else self.transport)
        camera.set_property("latency", self.latency_ms)
        camera.set_property("timeout", 0)  # over UDP it would go on with TCP by itself; our own limit is timeout_s
        camera.set_property("tcp-timeout", round(self.timeout_s * 1e6))
        camera.connect("select-stream", lambda _camera, _number, caps: _field(caps, "media") == "video")
        camera.connect("pad-added", _decode, convert, faults, self.decoder, self.label)
        camera.connect("no-more-pads", _check_linked, convert, faults, self.label)


def _decode(camera: Any, pad: Any, convert: Any, faults: list[SourceError], decoder: DecoderName, label: str) -> None:
    """A stream of the camera is known: put what decodes it behind it. Runs in a thread of GStreamer's."""
    gst = gstreamer()
    caps = pad.get_current_caps() or pad.query_caps(None)
    end = convert.get_static_pad("sink")
    if _field(caps, "media") != "video" or end.is_linked():
        return
    try:
        chain = rtp_chain(_field(caps, "encoding-name") or "something without a name", decoder, gst.ElementFactory.find)
        bin_ = gst.parse_bin_from_description(chain, True)
    except SourceError as error:
        faults.append(SourceError(f"{label}: {error}"))
        return
    except Exception as error:  # noqa: BLE001 - GLib.Error, whose type is known only when gi is there
        faults.append(SourceError(f"{label}: {getattr(error, 'message', error)}"))
        return
    camera.get_parent().add(bin_)
    bin_.link(convert)
    bin_.sync_state_with_parent()
    pad.link(bin_.get_static_pad("sink"))


def _check_linked(_camera: Any, convert: Any, faults: list[SourceError], label: str) -> None:
    if not convert.get_static_pad("sink").is_linked() and not faults:
        faults.append(SourceError(f"{label}: has no video stream"))


def _field(caps: Any, name: str) -> str | None:
    return caps.get_structure(0).get_string(name) if caps is not None and caps.get_size() else None


def _parsed(description: str, mask: Mask) -> tuple[Any, Any]:
    """The pipeline and the appsink that ends it, ours unless it has its own. Raises SourceError without a label."""
    gst = gstreamer()
    try:
        pipeline = gst.parse_launch(description)
        sinks = _appsinks(pipeline)
    except Exception:  # noqa: BLE001 - GLib.Error; right or wrong, see below: caps may not stand at an end
        sinks = []
    try:
        if not sinks:
            pipeline = gst.parse_launch(f"{description} ! {_TAIL}")
            sinks = _appsinks(pipeline)
    except Exception as error:  # noqa: BLE001 - GLib.Error, whose type is known only when gi is there
        raise SourceError(_explained(mask(shortened(getattr(error, "message", str(error)))))) from None
    if len(sinks) != 1:
        raise SourceError(f"the pipeline has {len(sinks)} ends to take pictures from (appsink): one is needed")
    if sinks[0].get_property("caps") is None:
        sinks[0].set_property("caps", gst.Caps.from_string(CAPS))
    if not isinstance(pipeline, gst.Pipeline):
        inner, pipeline = pipeline, gst.Pipeline.new(None)
        pipeline.add(inner)
    return pipeline, sinks[0]


def _appsinks(parsed: Any) -> list[Any]:
    if not isinstance(parsed, gstreamer().Bin):
        return [parsed] if parsed.get_factory().get_name() == "appsink" else []
    return every(parsed.iterate_all_by_element_factory_name("appsink"))


def _explained(message: str) -> str:
    """GStreamer's own message, and what to do."""
    unknown = re.fullmatch(r'no element "(.*)"', message)
    if unknown is None:
        return f"the pipeline is not right: {message}"
    gst = gstreamer()
    names = [feature.get_name() for feature in gst.Registry.get().get_feature_list(gst.ElementFactory)]
    near = difflib.get_close_matches(unknown[1], names, n=1)
    return f"{message}, " + (f"did you mean {near[0]!r}?" if near else "or its plugin is not installed")


def _masking(pipeline: str, *credentials: str | None) -> Mask:
    """What hides these credentials, and those written into a pipeline, in a text."""
    hidden = {value for value in credentials if value}
    for value in _SECRET.findall(pipeline):
        hidden |= {value, value.strip("\"'")}
    ordered = sorted(hidden - {""}, key=len, reverse=True)

    def mask(text: str) -> str:
        for value in ordered:
            text = text.replace(value, "***")
        return redact(text)

    return mask
