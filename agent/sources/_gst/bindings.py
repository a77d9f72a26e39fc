"""GStreamer through PyGObject, which comes with the system's Python and not from a package index.

There are no wheels of it for Linux, and building it needs a compiler and the headers of half a desktop. So it is taken
from where the distribution puts it, that one package and nothing beside it, if it was built for this version of Python.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import logging
import sys
import threading
import warnings
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from agent.errors import SourceError

log = logging.getLogger(__name__)

INSTALL = "sudo apt install python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-{good,bad} gstreamer1.0-libav"
FOLDERS = tuple(
    folder.format(*sys.version_info[:2])
    for folder in (
        "/usr/lib/python3/dist-packages",
        "/usr/lib/python{}.{}/site-packages",
        "/usr/lib64/python{}.{}/site-packages",
    )
)
"""Where Debian, Ubuntu and JetPack, Arch, and Fedora keep it."""
_NEEDED = ("Gst", "GstApp", "GstVideo", "GstRtsp")
_DOMAINS = ("GStreamer", "GStreamer-Base", "GStreamer-Video", "GStreamer-RTP", "GStreamer-RTSP", "GLib-GIO")
"""Libraries that print warnings of their own."""
_loading = threading.Lock()


class Absent(SourceError):
    """GStreamer or its Python bindings are not here; the text says what to install."""


def gstreamer() -> Any:
    """The module `gi.repository.Gst`, ready for use. Raises Absent."""
    with _loading:  # cameras open at the same time
        return _loaded()


def rtsp() -> Any:
    """The module `gi.repository.GstRtsp`; after `gstreamer()`."""
    return importlib.import_module("gi.repository.GstRtsp")


def video() -> Any:
    """The module `gi.repository.GstVideo`; after `gstreamer()`."""
    return importlib.import_module("gi.repository.GstVideo")


@cache
def _loaded() -> Any:
    keep_unwinder()
    if "gi" not in sys.modules:
        _import_gi(FOLDERS)
    gi = importlib.import_module("gi")
    try:
        for name in _NEEDED:
            gi.require_version(name, "1.0")
        gst, *more = (importlib.import_module(f"gi.repository.{name}") for name in _NEEDED)
        ready, _ = gst.init_check(None)
    except Exception as error:  # noqa: BLE001 - GLib.Error has no type before gi is there, and init can fail in any plugin
        raise Absent(f"GStreamer does not load ({error}): {INSTALL}") from None
    if not ready:
        raise Absent(f"GStreamer does not start: {INSTALL}")
    glib = importlib.import_module("gi.repository.GLib")
    # Its types are made at their first use, and a second thread that comes along meanwhile gets one half made. So all
    # are made now, in 40 ms.
    for module in (gst, *more):
        for name in dir(module):
            getattr(module, name, None)
    # Threads that wait for work for 15 s after a pipeline is closed are of no use to anybody.
    glib.ThreadPool.set_max_unused_threads(0)
    # What libraries would print goes where everything goes; PyGObject makes Python warnings of what GObject says.
    for domain in _DOMAINS:
        glib.log_set_handler(domain, glib.LogLevelFlags.LEVEL_MASK, _log, None)
    warnings.filterwarnings("ignore", category=importlib.import_module("gi.repository.GObject").Warning)
    return gst


def _log(domain: str | None, _level: Any, message: str, _data: Any) -> None:
    log.debug("%s: %s", domain, message)


def keep_unwinder() -> None:
    """Make C++ exceptions find their own unwinder again, whatever is loaded after this.

    GObject introspection puts GStreamer and all it links into the global name space, and one of those, libunwind, has
    functions with the names of the C++ runtime's. What binds to them later (OpenVINO, as soon as it throws and catches)
    dies by SIGSEGV or SIGABRT. The runtime's own library goes there first, and so is found first.
    """
    try:
        ctypes.CDLL("libgcc_s.so.1", mode=ctypes.RTLD_GLOBAL)
    except OSError:  # a system whose C++ runtime is another one
        return


def _import_gi(folders: tuple[str, ...]) -> None:
    """Import `gi` from this environment, else from one of `folders` that has it for this Python. Raises Absent."""
    if importlib.util.find_spec("gi") is not None:
        importlib.import_module("gi")
        return
    version = "{}.{}".format(*sys.version_info[:2])
    for folder in folders:
        spec = PathFinder.find_spec("gi", [folder])
        if spec is None or spec.loader is None or spec.origin is None:
            continue
        if PathFinder.find_spec("_gi", [str(Path(spec.origin).parent)]) is None:
            raise Absent(
                f"this system's GStreamer bindings ({folder}) are not for Python {version}: install sightwire with the "
                "system's own Python, or pip install PyGObject (builds from source)"
            )
        module = importlib.util.module_from_spec(spec)
        sys.modules["gi"] = module
        try:
            spec.loader.exec_module(module)
        except ImportError as error:
            del sys.modules["gi"]
            raise Absent(f"the system's GStreamer bindings do not load ({error}): {INSTALL}") from None
        return
    raise Absent(f"GStreamer's Python bindings are not installed: {INSTALL}")
