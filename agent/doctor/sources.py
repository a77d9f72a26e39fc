"""The cameras of the configuration: each is opened as the agent would, and looked at for a moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit, urlunsplit

from agent.doctor.findings import Finding, ok, problem
from agent.errors import AgentError, Refused, SourceError
from agent.sources import Intake, SourceConfig
from agent.sources._isolated import as_read

TOPIC = "sources"
_OPEN_S = 5.0
_WATCH_S = 1.5
"""Of a camera: how long it is looked at for its rate, and until its own clock is known (the first report of an RTSP
camera comes after 1.3 s)."""


def look(names: Sequence[str], source: SourceConfig) -> Iterator[Finding]:
    """What the first pictures are like, or why there are none. `names`: of the cameras that share the source."""
    name, shown = names[0], ", ".join(names)
    stop = threading.Event()
    # A camera that sends nothing would otherwise be read until its own timeout, which may be a minute.
    alarm = threading.Timer(_OPEN_S + _WATCH_S, stop.set)
    alarm.daemon = True
    alarm.start()
    try:
        seen = watch(source, stop)
    except SourceError as error:
        yield problem(TOPIC, f"{shown}: {error}", mend(name, source, error))
    except AgentError as error:
        yield problem(TOPIC, f"{shown}: {error}", f"correct it under cameras.{name} in the configuration")
    else:
        yield ok(TOPIC, f"{shown}: {source.label}: {seen}")
    finally:
        stop.set()
        alarm.cancel()


def watch(source: SourceConfig, stop: threading.Event) -> str:
    """`h264 1280x720, 30 pictures a second, clock rtcp, first picture after 0.4 s`. Raises AgentError."""
    intake = Intake()
    began_s = time.monotonic()
    first_s = last_s = 0.0
    count = 0
    with as_read(source).open(stop, intake) as pictures:
        for captured, image in pictures:
            last_s = time.monotonic()
            first_s = first_s or last_s
            count += 1
            size, clock = image.size, captured.clock
            if source.lossless or last_s - first_s >= _WATCH_S:
                break
    if not count and source.may_be_quiet:
        return "opened; there is nothing new in it"
    if not count:
        raise SourceError(f"{source.label}: opened, but no picture came")
    codec = intake.facts.get("codec", "")
    words = [f"{codec} {size[0]}x{size[1]}".strip()]
    if last_s > first_s:
        words.append(f"{(count - 1) / (last_s - first_s):.0f} pictures a second")
    words += [f"clock {clock}", f"first picture after {first_s - began_s:.1f} s"]
    if intake.unreadable:
        words.append(f"{intake.unreadable} damaged ({intake.last_error})")
    return ", ".join(words)


def mend(name: str, source: SourceConfig, error: SourceError) -> str:
    """A line for the configuration, or a command that tells more."""
    if isinstance(error, Refused):
        return f"cameras.{name}.source: {{..., username: ..., password_file: ...}} as the camera knows them"
    parts = urlsplit(source.label)
    if parts.hostname:
        url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        return f"ping -c 3 {parts.hostname}; ffprobe -hide_banner '{url}'"
    path = getattr(source, "path", None)
    if path is not None:
        return f"cameras.{name}.source: a file that is there; ls -l {path}"
    return f"correct cameras.{name}.source in the configuration"
