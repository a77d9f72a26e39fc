"""How each camera is reached, so that it can be cut without touching it; or why that cannot be done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from agent.chaos.film import Film
from agent.chaos.proxy import Proxy
from agent.config import CameraSection
from agent.sources import SourceConfig
from agent.sources._shorthand import from_text

LEFT_OUT = ("snapshots", "clips", "motion")
"""Of a camera: what writes to the user's folders, and what makes results rare by itself."""
PORTS = {"rtsp": 554, "http": 80, "rtmp": 1935}
"""What a proxy can stand in front of: TCP without TLS, whose certificate would not be ours."""


@dataclass
class Way:
    """To one camera, or to several with the same source."""

    source: Any
    """As it stands in the agent's configuration."""
    why_not: str | None = None
    """... we cannot cut it."""
    proxy: Proxy | None = None
    film: Film | None = None
    """The camera is a recording that we show."""
    key_frames: bool = False
    """A picture can be read only from the next key frame on."""
    live: bool = True
    """It has no end."""


def way_to(camera: CameraSection, raw: Any, opened: contextlib.ExitStack) -> Way:
    """`raw`: the source as the configuration has it. Proxy and film are closed with `opened`.

    Raises OSError for a recording that cannot be read.
    """
    mapping = from_text(raw) if isinstance(raw, str) else dict(raw)
    source = camera.source
    kind = mapping.get("type")
    if kind == "file":
        film = Film(source.path, source.start)  # type: ignore[attr-defined]  # a file's Config
        opened.callback(film.close)
        way = Way({"type": "rtsp", "url": film.url}, film=film)
        _lead(way, film.url, opened)
        return way
    url = str(mapping.get("url") or "")
    why_not = _why_not(source, kind, url)
    if why_not:
        return Way(mapping, why_not=why_not, live=not source.lossless)
    way = Way(mapping, key_frames=urlsplit(url).scheme in ("rtsp", "rtmp"))
    _lead(way, url, opened)
    return way


def _why_not(source: SourceConfig, kind: object, url: str) -> str | None:
    scheme = urlsplit(url).scheme.lower()
    if not url:
        return f"a source of type {kind!r} is on this machine: no program can pull its plug"
    if scheme not in PORTS:
        return f"{scheme}:// does not pass through a proxy of ours"
    if kind == "opencv" and scheme == "rtsp":
        return "OpenCV may ask for UDP, which does not pass through a proxy"
    if getattr(source, "transport", "tcp") != "tcp":
        return "its pictures come by UDP, which does not pass through a proxy"
    return None


def _lead(way: Way, url: str, opened: contextlib.ExitStack) -> None:
    """Put a proxy in front of the URL's host, and the proxy's address into the source."""
    parts = urlsplit(url)
    proxy = Proxy(parts.hostname or "", parts.port or PORTS[parts.scheme.lower()])
    opened.callback(proxy.close)
    userinfo, at, _ = parts.netloc.rpartition("@")
    netloc = f"{userinfo}{at}127.0.0.1:{proxy.port}"
    way.proxy, way.source = proxy, {**way.source, "url": urlunsplit(parts._replace(netloc=netloc))}


def rewritten(
    document: dict[str, Any], broker_url: str, protocol: str, events: str, ways: Callable[[str], Way], keep: int
) -> dict[str, Any]:
    """The configuration of the agent on the stage: the user's models and cameras, and nothing of theirs is written to.

    `ways`: camera -> how it is reached.
    """
    cameras = {}
    for name, camera in document["cameras"].items():
        kept = {key: value for key, value in camera.items() if key not in LEFT_OUT}
        if ways(name).film and (blind := watched(camera.get("blind"))) is not None:
            kept["blind"] = blind
        cameras[name] = {**kept, "source": ways(name).source}
    return {
        "agent": {"name": NAME},
        "mqtt": {"url": broker_url, "protocol": protocol},
        "sinks": [{"type": "jsonl", "path": "-"}],
        "events": {"path": events, "keep": keep, "no_subscriber": "keep"},
        "models": document["models"],
        "cameras": cameras,
    }


def watched(blind: Any) -> dict[str, Any] | None:
    """`blind:` of a camera whose picture will stand still; None where the user does not want to be told of that."""
    if blind is None or isinstance(blind, dict):
        kept = blind or {}
        return None if kept.get("frozen") in (False, "off") else {**kept, "frozen": STILL}
    return {"frozen": STILL} if blind in (True, "on") else None


NAME = "chaos"
"""Of the agent on the stage."""
STILL = "5s"
"""An agent learns for minutes how long a camera's picture stands still by nature; this one is told."""
