"""What the sources that go to a camera over a network share: credentials, and where they may be shown (nowhere)."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ConfigDict, model_validator
from typing_extensions import Self

from agent.secrets import Secret, read_secret, with_credentials
from agent.sources import SourceConfig


def expect_url(url: str, schemes: tuple[str, ...]) -> str:
    """The URL, if it has a host and one of the schemes; none given: any. Raises ValueError."""
    try:
        parts = urlsplit(url)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        port_is_right = False
    if not port_is_right or not parts.scheme or not parts.hostname or (schemes and parts.scheme not in schemes):
        which = f" with one of the schemes {', '.join(schemes)}" if schemes else ""
        raise ValueError(f"expected SCHEME://HOST[:PORT]/PATH{which}")
    return url


class LoginConfig(SourceConfig):
    """Base of a config that has a username and a password."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    username: str | None = None
    password: Secret | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _login_fits_together(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file exclude each other")
        if self.username is None and (self.password is not None or self.password_file is not None):
            raise ValueError("a password needs a username")
        return self

    def resolved_password(self) -> str | None:
        """The password itself, read now. Raises ConfigError where its file or credential is not there."""
        if self.password_file is not None:
            return read_secret(self.password_file)
        return None if self.password is None else self.password.resolve()

    def address(self, url: str) -> str:
        """The URL with the credentials in it, for libraries that take them only there."""
        return with_credentials(url, self.username, self.resolved_password())
