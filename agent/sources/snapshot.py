"""Cameras that give a picture when asked over HTTP: asked again and again."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from threading import Event
from typing import Annotated, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import Request

from pydantic import AfterValidator, Field, model_validator

from agent.durations import Seconds
from agent.errors import Refused, SourceError
from agent.frame import Timestamp
from agent.secrets import redact
from agent.sources import Intake, Pictures, Times
from agent.sources._cv2 import bgr_image
from agent.sources._faults import REFUSES, SILENT
from agent.sources._http import Patience, Stopped, opener, read_body
from agent.sources._patient import GRACE_S, NORMAL_S, Patient
from agent.sources._url import expect_url
from engines.lines import one_line
from engines.picture_files import decoded
from engines.pixels import Image

_MOST_BYTES = 32 << 20
_MOST_FAILURES = 3
_MOST_WAIT_S = 1.0
_SAFE = "%/:=&?~#+!$,;'@()*[]"
"""What stands for itself in a URL. The rest, spaces and umlauts, is quoted as browsers do."""


def _url(url: str) -> str:
    return expect_url(url, ("http", "https"))


class Config(Patient):
    """`{type: snapshot, url: http://10.0.0.7/snap.jpg, every: 1s, username: cam, password: credential:yard}`."""

    type: Literal["snapshot"] = "snapshot"
    url: Annotated[str, AfterValidator(_url)] = Field(repr=False)
    every: Annotated[Seconds, Field(gt=0)] = 1.0
    ca: Path | None = None
    """https: authorities to trust instead of the system's, PEM."""
    verify: bool = True
    """https: whether the camera must prove who it is."""

    @model_validator(mode="after")
    def _tls_fits_together(self) -> Config:
        if self.ca is not None and not self.verify:
            raise ValueError("ca and verify: false exclude each other")
        return self

    @property
    def times(self) -> Times | None:
        """See SourceConfig. That nothing comes between two requests is normal."""
        picture_s = max(self.expect or 0, NORMAL_S, self.every + self.timeout_s + GRACE_S / 4)
        return Times(self.timeout_s + GRACE_S, self.timeout_s + GRACE_S, picture_s)

    @property
    def label(self) -> str:
        """The URL without credentials."""
        return redact(self.url)

    @contextmanager
    def open(self, stop: Event, intake: Intake) -> Iterator[Pictures]:
        """See SourceConfig. There is no connection between requests."""
        yield _Camera(self, stop, intake).pictures(stop)


class _Camera:
    """Asks one camera."""

    def __init__(self, config: Config, stop: Event, intake: Intake) -> None:
        self._config, self._intake = config, intake
        parts = urlsplit(config.url)
        host = parts.netloc.rpartition("@")[2]
        path, query = quote(parts.path, _SAFE), quote(parts.query, _SAFE)
        self._address = urlunsplit(parts._replace(netloc=host, path=path, query=query, fragment=""))
        login = None
        if config.username is not None:
            login = (config.username, config.read_password() or "")
        elif parts.username is not None:
            login = (unquote(parts.username), unquote(parts.password or ""))
        self._patience = Patience(stop, config.timeout_s, intake.alive)
        self._opener = opener(self._patience, f"{parts.scheme}://{host}/", login, lambda: _trust(config))
        intake.facts["rate"] = f"{1 / config.every:g}"

    def pictures(self, stop: Event) -> Pictures:
        """A picture each `every` seconds, until `stop`. What is no image is skipped, up to twice in a row."""
        failures, due = 0, time.monotonic()
        while not stop.is_set():
            try:
                asked = self._ask()
            except Stopped:
                return
            if asked is None:
                failures += 1
                if failures >= _MOST_FAILURES:
                    raise SourceError(f"{self._intake.last_error}, {failures} times in a row")
            else:
                failures = 0
                yield asked
            due = max(due + self._config.every, time.monotonic())
            while (left_s := due - time.monotonic()) > 0 and not stop.wait(min(left_s, _MOST_WAIT_S)):
                self._intake.alive()

    def _ask(self) -> tuple[Timestamp, Image] | None:
        """One picture, and when its first byte came. None: the answer is no picture. Raises SourceError, Stopped."""
        label = self._config.label
        self._patience.begin()
        request = Request(self._address, headers={"User-Agent": "sightwire"})  # noqa: S310 - http or https, see Config
        try:
            with self._opener.open(request) as response:
                first_ns = time.monotonic_ns()
                kind = response.headers.get_content_type()
                data = read_body(response, self._patience, _MOST_BYTES)
        except HTTPError as error:
            error.close()
            raise _refusal(label, error) from None
        except (OSError, HTTPException, ValueError) as error:
            raise SourceError(f"{label}: {_fault(error)}") from None
        plane = decoded(data)
        if plane is None:
            self._intake.skip(f"{label}: answers {one_line(redact(kind))} of {len(data)} bytes, which is no image")
            return None
        self._intake.facts["codec"] = one_line(kind.rpartition("/")[2])
        image = bgr_image(plane, self._intake)
        wall_ns, now_ns = time.time_ns(), time.monotonic_ns()
        return Timestamp(wall_ns - (now_ns - first_ns), first_ns, "receive", wall_ns), image


def _trust(config: Config) -> ssl.SSLContext:
    try:
        trust = ssl.create_default_context(cafile=config.ca)
    except (OSError, ssl.SSLError) as error:
        raise SourceError(f"{config.label}: ca {config.ca} cannot be read: {error.strerror or error}") from None
    if not config.verify:
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    return trust


def _refusal(label: str, error: HTTPError) -> SourceError:
    if error.code in (401, 403):
        return Refused(f"{label}: {REFUSES}")
    return SourceError(f"{label}: the camera answers {error.code} {one_line(redact(str(error.reason)))}".rstrip())


def _fault(error: Exception) -> str:
    """What is wrong, in a few words; never what was sent."""
    if isinstance(error, URLError):
        return _fault(error.reason) if isinstance(error.reason, Exception) else one_line(redact(str(error.reason)))
    if isinstance(error, TimeoutError):
        return SILENT
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the camera cannot prove who it is: {error.verify_message} (ca: FILE, or verify: false)"
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, HTTPException):
        return "the camera breaks its answer off, or speaks no HTTP"
    if isinstance(error, OSError) and error.strerror:
        return one_line(redact(error.strerror))
    return one_line(redact(str(error))) or type(error).__name__
