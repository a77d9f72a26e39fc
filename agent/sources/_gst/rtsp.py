"""An RTSP camera in a pipeline: what decodes it is chosen when it has said what it sends."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from agent.errors import Refused, SourceError
from agent.sources._faults import REFUSES
from agent.sources._gst.bindings import gstreamer, rtsp
from agent.sources._gst.presets import DecoderName, rtp_chain
from agent.sources._gst.text import CONVERT, TAIL

_CAMERA = "sightwire-camera"
_TRIES = 2
DESCRIPTION = f"rtspsrc name={_CAMERA} {TAIL}"
"""A camera and our end of the pipeline, joined when its streams are known."""


def set_up(
    pipeline: Any, url: str, transport: Literal["tcp", "udp"], latency_ms: int, timeout_s: float, joint: Joint
) -> None:
    """Point a pipeline of DESCRIPTION at a camera."""
    gst = gstreamer()
    camera, convert = pipeline.get_by_name(_CAMERA), pipeline.get_by_name(CONVERT)
    parts = urlsplit(url)
    # Credentials have properties of their own; an address is repeated in error messages.
    camera.set_property("location", parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())
    gst.util_set_object_arg(camera, "protocols", f"{transport}+tls" if parts.scheme == "rtsps" else transport)
    camera.set_property("latency", latency_ms)
    camera.set_property("timeout", 0)  # over UDP it would go on with TCP by itself; our own limit is timeout_s
    camera.set_property("tcp-timeout", round(timeout_s * 1e6))
    camera.connect("select-stream", lambda _camera, _number, caps: _field(caps, "media") == "video")
    camera.connect("pad-added", joint.join, convert)
    camera.connect("no-more-pads", joint.check, convert)


def keep_from_insisting(camera: Any, label: str, faults: list[SourceError]) -> None:
    """Let an rtspsrc, of whatever pipeline, send no more than two tries of a password.

    It would try a wrong one eight times, and many cameras lock after five. What it sends again has the headers of all
    tries before. One is allowed: a digest's nonce may have been too old. Like Joint, this must not hold the pipeline.
    """

    def may_send(_camera: Any, message: Any) -> bool:
        if message.get_header(rtsp().RTSPHeaderField.AUTHORIZATION, _TRIES - 1)[1] is None:
            return True
        faults.append(Refused(f"{label}: {REFUSES}"))
        return False

    camera.connect("before-send", may_send)


class Joint:
    """Puts the decoder between camera and end. It is called from GStreamer's threads.

    It must not hold the pipeline: what holds it in turn would never be freed.
    """

    def __init__(self, decoder: DecoderName, label: str, faults: list[SourceError]) -> None:
        self._decoder, self._label, self._faults = decoder, label, faults

    def join(self, camera: Any, pad: Any, convert: Any) -> None:
        """The camera has a stream."""
        gst = gstreamer()
        caps = pad.get_current_caps() or pad.query_caps(None)
        if _field(caps, "media") != "video" or convert.get_static_pad("sink").is_linked():
            return
        encoding = _field(caps, "encoding-name") or "something without a name"
        try:
            decode = gst.parse_bin_from_description(
                rtp_chain(encoding, self._decoder, gst.ElementFactory.find), ghost_unlinked_pads=True
            )
        except Exception as error:  # noqa: BLE001 - ours, or a GLib.Error, which is no type before gi is there
            self._faults.append(SourceError(f"{self._label}: {getattr(error, 'message', error)}"))
            return
        camera.get_parent().add(decode)
        decode.link(convert)
        decode.sync_state_with_parent()
        pad.link(decode.get_static_pad("sink"))

    def check(self, _camera: Any, convert: Any) -> None:
        """The camera has no more streams."""
        if not convert.get_static_pad("sink").is_linked() and not self._faults:
            self._faults.append(SourceError(f"{self._label}: has no video stream"))


def _field(caps: Any, name: str) -> str | None:
    return caps.get_structure(0).get_string(name) if caps is not None and caps.get_size() else None
