"""What FFmpeg says when a camera cannot be read, in our words."""

from __future__ import annotations

from agent.errors import Refused, SourceError
from agent.secrets import redact

SILENT = "the camera does not answer"
REFUSES = "the camera refuses these credentials: check username and password"


def fault(label: str, error: Exception) -> SourceError:
    """What FFmpeg says, without the URL it likes to repeat."""
    import av

    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return Refused(f"{label}: {REFUSES}")
    if isinstance(error, av.error.ExitError | TimeoutError):
        return SourceError(f"{label}: {SILENT}")
    reason = getattr(error, "strerror", None) or type(error).__name__
    return SourceError(f"{label}: {redact(reason)}")
