"""What sources behind a network have in common: credentials, and how long to wait for what."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.durations import Seconds
from agent.errors import ConfigError
from agent.secrets import Credentials
from agent.sources import SourceConfig, Times

NORMAL_S = 4.5
"""No picture for so long is a loss, unless `expect` or `timeout_s` says more: found within five seconds."""
KEY_FRAME_S = 30.0
"""A stream that we join may bring no picture for so long; encoders that save bits send a key frame each ten, twenty."""
GRACE_S = 2.0
"""What a busy machine may add to the times that libraries are given, before their caller is said to be stuck."""


class Patient(SourceConfig, Credentials):
    """Base of a network camera's config."""

    timeout_s: float = Field(default=3.0, gt=0, le=60)
    """A camera that does not answer, or is silent, for so long is given up, and connected to again."""
    expect: Annotated[Seconds, Field(gt=0, le=86_400)] | None = None
    """The longest time without a picture that is normal, where that is more than a few seconds."""

    @property
    def silence_s(self) -> float:
        """After so long without data the source gives up by itself."""
        return max(self.timeout_s, self.expect or 0)

    @property
    def times(self) -> Times | None:
        """See SourceConfig."""
        picture_s = max(self.silence_s, NORMAL_S if self.expect is None else 0)
        # FFmpeg has its time twice, to connect and to see what there is; who is not told why asks it once more.
        return Times(3 * self.timeout_s + GRACE_S, self.silence_s + GRACE_S, picture_s)

    def credentials(self) -> str | None:
        """See SourceConfig."""
        try:
            return self.read_password()
        except ConfigError:
            return None
