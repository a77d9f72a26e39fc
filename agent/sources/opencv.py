"""What OpenCV reads: USB and other V4L2 cameras, files, numbered pictures, URLs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from agent.errors import SourceError
from agent.secrets import redact, with_credentials
from agent.sources import Intake, Pictures, Times, images
from agent.sources._cv2_recording import Recording
from agent.sources._cv2_stream import Stream
from agent.sources._patient import Patient
from agent.sources._recording import Pace
from agent.sources._shorthand import NUMBERED, glob_of
from agent.sources._url import expect_url
from agent.sources._v4l2 import VideoDevice, cameras, describe, find
from agent.sources._webcam import Webcam

_RATE = 25.0
DRIVER_S = 15.0
_KINDS = ("device", "path", "url")
_ONLY_WITH = {
    ("device",): {"pixel_format", "width", "height"},
    ("device", "path"): {"rate"},
    ("path",): {"pace", "loop"},
    ("url",): {"username", "password", "password_file", "expect"},
}

_Number = Annotated[int, Field(ge=0, strict=True)]
_Text = Annotated[str, Field(min_length=1)]


def _device(value: int | str) -> int | str:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _any_url(url: str) -> str:
    return expect_url(url, ())


class Config(Patient):
    """`{type: opencv, device: HD Pro Webcam, pixel_format: MJPG, width: 1280, height: 720, rate: 30}`."""

    type: Literal["opencv"] = "opencv"
    device: Annotated[_Number | _Text, AfterValidator(_device)] | None = None
    """0, /dev/video0, a path in /dev/v4l/by-id, (a part of) the camera's name, or its port such as usb-1-4."""
    path: Path | None = None
    """A video file, or numbered pictures: shot_%04d.png."""
    url: Annotated[str, AfterValidator(_any_url)] | None = Field(default=None, repr=False)
    pixel_format: str | None = Field(default=None, pattern="^[A-Za-z0-9 ]{1,4}$")
    width: int | None = Field(default=None, gt=0, le=16384)
    height: int | None = Field(default=None, gt=0, le=16384)
    rate: float | None = Field(default=None, gt=0, le=1000)
    """Of a device: what to ask for; of numbered pictures, and files that do not say: how many a second (25)."""
    pace: Pace = "lossless"
    loop: bool = False
    """Start again at the end; time goes on."""
    _seen: list[VideoDevice] = PrivateAttr(default_factory=list)
    """The camera that the number stood for when it was first opened."""

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        given = [name for name in _KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(_KINDS)}")
        for kinds, names in _ONLY_WITH.items():
            if given[0] not in kinds and (wrong := self.model_fields_set & names):
                raise ValueError(f"{', '.join(sorted(wrong))}: only with {' or '.join(kinds)}")
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height go together")
        return self

    @property
    def lossless(self) -> bool:
        """See SourceConfig."""
        return self.path is not None and self.pace == "lossless"

    @property
    def times(self) -> Times | None:
        """See SourceConfig."""
        normal = super().times
        if self.path is not None or normal is None:
            return None
        # Drivers take their time: one that was plugged in a moment ago, one that sets itself up anew.
        return normal if self.url is not None else normal._replace(open_s=DRIVER_S, step_s=DRIVER_S)

    @property
    def label(self) -> str:
        """Device, path, or the URL without credentials."""
        if self.url is not None:
            return redact(self.url)
        return f"/dev/video{self.device}" if isinstance(self.device, int) else str(self.device or self.path)

    @contextmanager
    def open(self, stop: Event, intake: Intake) -> Iterator[Pictures]:
        """See SourceConfig. A read of a URL that waits is given up after `silence_s`."""
        if self.path is not None and NUMBERED.search(self.path.name):
            with self._numbered(self.path).open(stop, intake) as pictures:
                yield pictures
            return
        reader: Webcam | Recording | Stream
        if self.device is not None:
            reader = self._webcam(self.device, intake)
        elif self.path is not None:
            reader = Recording(self.path, self.rate or _RATE, intake, pace=self.pace, loop=self.loop)
        else:
            reader = Stream(
                with_credentials(str(self.url), self.username, self.read_password()),
                self.label,
                (self.timeout_s, self.silence_s),
                intake,
            )
        try:
            yield reader.pictures(stop)
        finally:
            reader.close()

    def _numbered(self, path: Path) -> images.Config:
        """OpenCV's own reader of numbered pictures stops at the first gap, and at the first that is damaged."""
        pattern = glob_of(path.name)
        if not any(path.parent.glob(pattern)):
            raise SourceError(f"{self.label}: no such pictures")
        return images.Config(path=path.parent, pattern=pattern, pace=self.pace, rate=self.rate or _RATE, loop=self.loop)

    def _webcam(self, device: int | str, intake: Intake) -> Webcam:
        path = find(device, self._seen[0] if self._seen else None)
        known = describe(path, cameras())
        if known is not None:
            intake.facts["device"] = str(known)
            self._seen[:] = self._seen or [known]
        wish = (self.pixel_format, self.width, self.height, self.rate)
        return Webcam(path, self.label, wish, self.timeout_s, intake)
