"""Passwords are read late and shown never."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from agent.errors import ConfigError
from agent.secrets import Credentials, Password, Secret, read_secret, redact, with_credentials


class Account(BaseModel):
    """Something with a password."""

    password: Password


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://cam:geheim@10.0.0.7/s1", "rtsp://***@10.0.0.7/s1"),
        ("rtsp://cam@10.0.0.7/s1", "rtsp://***@10.0.0.7/s1"),
        ("rtsp://cam:geh@eim@10.0.0.7/s1", "rtsp://***@10.0.0.7/s1"),
        ("rtsp://cam:geh/eim@10.0.0.7/s1", "rtsp://***@10.0.0.7/s1"),
        ("rtsp://:geheim@10.0.0.7", "rtsp://***@10.0.0.7"),
        ("open rtsp://a:geheim@h/1 and http://b:geheim@h/2", "open rtsp://***@h/1 and http://***@h/2"),
        ("rtsp://10.0.0.7:554/user=admin_password=geheim_channel=1.sdp",
         "rtsp://10.0.0.7:554/user=admin_password=***_channel=1.sdp"),
        ("http://10.0.0.7/video?user=a&pwd=geheim&n=1", "http://10.0.0.7/video?user=a&pwd=***&n=1"),
        ("'http://10.0.0.7/video?token=geheim': refused", "'http://10.0.0.7/video?token=***': refused"),
    ],
)  # fmt: skip
def test_credentials_in_urls_are_hidden(text: str, shown: str) -> None:
    """Wherever in a URL a camera wants them, and whatever is in them."""
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://10.0.0.7:8554/live/person@door",
        "rtsp://[fe80::1]:8554/a@b",
        "mail a@b.example about it",
        "http://10.0.0.7/pass/1",
    ],
)
def test_what_is_no_credential_stays(text: str) -> None:
    """A path may hold an @, and a port is no password."""
    assert redact(text) == text


@pytest.mark.parametrize("password", ["geheim", "a@b/c:d", "ü %&?#"])
def test_credentials_go_into_a_url_and_out_again(password: str) -> None:
    """They are quoted so that the host stays the host; credentials already there are replaced."""
    url = with_credentials("rtsp://old:one@10.0.0.7:554/s1?x=1", "me@home", password)
    assert url.startswith("rtsp://me%40home:")
    assert redact(url) == "rtsp://***@10.0.0.7:554/s1?x=1"
    assert with_credentials("rtsp://h/s", None, password) == "rtsp://h/s"
    assert with_credentials("rtsp://h/s", "me", None) == "rtsp://me@h/s"


def test_a_secret_is_masked_wherever_it_is_printed() -> None:
    """In repr, str, format, JSON and validation errors."""
    account = Account.model_validate({"password": "geheim"})
    printed = f"{account!r} {account} {account.password} {account.model_dump()} {account.model_dump_json()}"
    assert "geheim" not in printed
    assert account.password.resolve() == "geheim"


@pytest.mark.parametrize("value", ["", "credential:"])
def test_an_empty_password_is_a_mistake(value: str) -> None:
    """Rather than one that silently does not work."""
    with pytest.raises(ValidationError, match="is empty"):
        Account.model_validate({"password": value})


def test_a_credential_of_systemd_is_read_when_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the folder that systemd names, less the end of the line."""
    secret = Secret("credential:dock")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigError, match=r"LoadCredential=dock"):
        secret.resolve()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(ConfigError, match="cannot be read"):
        secret.resolve()
    (tmp_path / "dock").write_text("geheim\n")
    assert secret.resolve() == "geheim"


def test_a_password_file_that_is_no_text_is_named_without_its_content(tmp_path: Path) -> None:
    """The error says which file and why."""
    path = tmp_path / "password"
    path.write_bytes(b"geheim\xff")
    with pytest.raises(ConfigError, match=f"{path}: cannot be read: not UTF-8 text") as caught:
        read_secret(path)
    assert "geheim" not in str(caught.value)


def test_credentials_are_read_when_they_are_used(tmp_path: Path) -> None:
    """So that a changed password file needs no restart."""
    path = tmp_path / "password"
    filed = Credentials(username="me", password_file=path)
    with pytest.raises(ConfigError, match="cannot be read"):
        filed.read_password()
    path.write_text("geheim\n")
    assert filed.read_password() == "geheim"
    assert Credentials.model_validate({"username": "me", "password": "geheim"}).read_password() == "geheim"
    assert Credentials(username="me").read_password() is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"username": "me", "password": "geheim", "password_file": "x"}, "exclude each other"),
        ({"password": "geheim"}, "a password needs a username"),
        ({"password_file": "geheim"}, "a password needs a username"),
    ],
)
def test_credentials_that_contradict_each_other_are_refused(settings: dict[str, str], words: str) -> None:
    """Without showing what may be a password."""
    with pytest.raises(ValidationError, match=words) as caught:
        Credentials.model_validate(settings)
    assert "geheim" not in str(caught.value)
