"""Whether this machine has GStreamer with its Python bindings."""

from __future__ import annotations

from agent.sources._gst.bindings import Absent, gstreamer
from tests.support.needs import missing


def need_gstreamer() -> None:
    """Skip the test, or fail it in CI, where there is none."""
    try:
        gstreamer()
    except Absent as error:
        missing(str(error))
