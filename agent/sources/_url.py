"""The address of a camera: what is right about it before anybody calls."""

from __future__ import annotations

from urllib.parse import urlsplit


def expect_url(url: str, schemes: tuple[str, ...]) -> str:
    """The URL, if it has a host and one of the schemes; none given: any, and no host needed (`udp://@:1234`).

    Raises ValueError.
    """
    try:
        parts = urlsplit(url)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        port_is_right = False
    if (
        not port_is_right
        or not parts.scheme
        or not parts.netloc
        or (schemes and not (parts.hostname and parts.scheme in schemes))
    ):
        which = f" with one of the schemes {', '.join(schemes)}" if schemes else ""
        raise ValueError(f"expected SCHEME://HOST[:PORT]/PATH{which}")
    return url
