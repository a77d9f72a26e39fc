"""What FFmpeg says when a camera cannot be read, in our words."""

from __future__ import annotations

from urllib.parse import urlsplit

from agent.errors import Refused, SourceError
from agent.secrets import redact

SILENT = "the camera does not answer"
UNDECODABLE = "packets come, but no picture can be decoded from them, or no key frame is among them"
REFUSES = "the camera refuses these credentials: check username and password"
REJECTS = "the camera rejects the connection, as it does with a wrong password: check username, password and path"


def fault(label: str, error: Exception, *, silent: bool = False, address: str = "") -> SourceError:
    """What FFmpeg says, without the URL it likes to repeat. `silent`: what it says came after all patience was over.

    `address`: what was to be opened.
    """
    import av

    parts = urlsplit(address)
    # RTMP has no status for it: a server rejects a connection in words, of which FFmpeg makes no error of their own.
    if parts.scheme == "rtmp" and parts.username and isinstance(error, av.error.UnknownError):
        return Refused(f"{label}: {REJECTS}")
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return Refused(f"{label}: {REFUSES}")
    if silent or isinstance(error, av.error.ExitError | TimeoutError):
        return SourceError(f"{label}: {SILENT}")
    reason = getattr(error, "strerror", None) or type(error).__name__
    return SourceError(f"{label}: {redact(reason)}")
