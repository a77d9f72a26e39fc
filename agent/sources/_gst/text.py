"""Pipelines as users write them: what is wrong with them, in GStreamer's own words, and what nobody is to see."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any

from agent.errors import SourceError
from agent.secrets import redact
from agent.sources._gst.bindings import gstreamer
from agent.sources._gst.pictures import CAPS

CONVERT = "sightwire-convert"
TAIL = f"videoconvert name={CONVERT} ! appsink"
"""Our end of a pipeline: converts only what the engines do not read."""
Mask = Callable[[str], str]
"""Takes credentials out of a text."""

_QUOTED = r"\"(?:\\.|[^\"])*\"|'(?:\\.|[^'])*'"
_VALUE = re.compile(rf"=\s*(?:{_QUOTED}|\S+)")
_NAME = re.compile(r"\bname\s*=\s*[\"']?([\w-]+)")
_REFERENCE = re.compile(r"(?<![\w/.:-])([A-Za-z_][\w-]*)\.(?!\()")
#: user-pw=..., proxy-pw=..., password=..., api-key=... of any element
_SECRET = re.compile(rf"(?:-pw|pass\w*|pwd|token|secret|api-?key)\s*=\s*({_QUOTED}|\S+)", re.IGNORECASE)
_LONGEST = 300


def check_references(pipeline: str) -> str:
    """The text itself. Raises ValueError for `NAME.` without a `name=NAME`: GStreamer's parser dies of some of them."""
    if unknown := set(_REFERENCE.findall(_VALUE.sub("=", pipeline))) - set(_NAME.findall(pipeline)):
        name = min(unknown)
        raise ValueError(f"no element in it has the name {name!r}: write name={name} behind the element")
    return pipeline


def elements_of(pipeline: str) -> str:
    """The pipeline without properties and caps, in which there may be credentials."""
    words = [part.split()[0] for part in pipeline.split("!") if part.strip()]
    return shortened(" ! ".join("..." if "=" in word else word for word in words))


def parse(description: str, mask: Mask) -> tuple[Any, Any]:
    """The pipeline and the appsink that ends it: its own if it has one. Raises SourceError, without a label."""
    gst = gstreamer()
    try:
        pipeline = gst.parse_launch(description)
        sinks = _appsinks(pipeline)
    except Exception:  # noqa: BLE001 - a GLib.Error, and no mistake yet: caps may not stand at the very end
        sinks = []
    try:
        if not sinks:
            pipeline = gst.parse_launch(f"{description} ! {TAIL}")
            sinks = _appsinks(pipeline)
    except Exception as error:  # noqa: BLE001 - a GLib.Error, which is no type before gi is there
        raise SourceError(_explained(mask(shortened(getattr(error, "message", str(error)))))) from None
    if len(sinks) != 1:
        raise SourceError(f"the pipeline has {len(sinks)} ends to take pictures from (appsink): one is needed")
    if sinks[0].get_property("caps") is None:
        sinks[0].set_property("caps", gst.Caps.from_string(CAPS))
    if not isinstance(pipeline, gst.Pipeline):
        inner, pipeline = pipeline, gst.Pipeline.new(None)
        pipeline.add(inner)
    return pipeline, sinks[0]


def masking(pipeline: str, password: str | None) -> Mask:
    """What hides the password, those written into the pipeline, and those of URLs."""
    hidden = {password or ""}
    for value in _SECRET.findall(pipeline):
        hidden |= {value, value.strip("\"'")}
    ordered = sorted(hidden - {""}, key=len, reverse=True)

    def mask(text: str) -> str:
        for value in ordered:
            text = text.replace(value, "***")
        return redact(text)

    return mask


def shortened(text: str) -> str:
    """One line, not longer than a message may be."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def every(iterator: Any) -> list[Any]:
    """What a Gst.Iterator hands out."""
    found = []
    while (step := iterator.next())[0] == gstreamer().IteratorResult.OK:
        found.append(step[1])
    return found


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
