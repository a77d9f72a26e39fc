"""Passwords and URLs that carry them: read late, shown never."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr, model_validator
from typing_extensions import Self

from agent.errors import ConfigError

_CREDENTIAL = "credential:"
#: user:password@ after ://, up to the last @: a password may hold @, and even /, which is only told from a path by the
#: colon before it that begins no port
_USERINFO = re.compile(r"(?<=://)(?:[^\s/?#]*@|[^\s/:@\[]*:(?!\d+(?:[/\s?]|$))\S*@)")
#: ...?pwd=secret&..., and /user=admin_password=secret_channel=1, as some cameras want it
_PARAMETER = re.compile(
    r"((?:pass(?:word|wd|phrase)?|pwd|token|secret|api_?key)=).*?(?=&|_\w+=|[\s'\"]|$)", re.IGNORECASE
)


class Secret(SecretStr):
    """A password, or `credential:NAME` for one that systemd hands over. Masked wherever it is printed."""

    def resolve(self) -> str:
        """The password itself. Raises ConfigError where a credential is not there."""
        value = self.get_secret_value()
        if not value.startswith(_CREDENTIAL):
            return value
        name = value.removeprefix(_CREDENTIAL)
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if folder is None:
            raise ConfigError(
                f"credential {name!r}: no credentials were handed over (LoadCredential={name}: in the unit)"
            )
        return read_secret(Path(folder) / name)


def read_secret(path: Path) -> str:
    """The content of a password file less the end of its line. Raises ConfigError."""
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}") from None


def redact(text: str) -> str:
    """The text without user names and passwords in its URLs."""
    return _PARAMETER.sub(r"\1***", _USERINFO.sub("***@", text))


def with_credentials(url: str, username: str | None, password: str | None) -> str:
    """The URL with these credentials in it, for libraries that take them only there."""
    if username is None:
        return url
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    userinfo = quote(username, safe="") + (f":{quote(password, safe='')}" if password else "")
    return urlunsplit(parts._replace(netloc=f"{userinfo}@{host}"))


def _not_empty(secret: Secret) -> Secret:
    if secret.get_secret_value() in ("", _CREDENTIAL):
        raise ValueError("is empty")
    return secret


Password = Annotated[Secret, AfterValidator(_not_empty)]


class Credentials(BaseModel):
    """For a Config whose server asks who we are: `class Config(SourceConfig, Credentials)`."""

    model_config = ConfigDict(hide_input_in_errors=True)

    username: str | None = None
    password: Password | None = None
    """The password, or `credential:NAME` for one that systemd hands over."""
    password_file: Path | None = None

    @model_validator(mode="after")
    def _credentials_fit_together(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file exclude each other")
        if self.username is None and (self.password is not None or self.password_file is not None):
            raise ValueError("a password needs a username")
        return self

    def read_password(self) -> str | None:
        """The password as it is now, None if there is none. Raises ConfigError where it cannot be read."""
        if self.password_file is not None:
            return read_secret(self.password_file)
        return self.password.resolve() if self.password is not None else None
