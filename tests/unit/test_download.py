"""Downloads against a real server that misbehaves: what comes is the file, or one line that says why not."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from engines import download as module
from engines.download import Wanted, download, shown
from engines.errors import FetchError
from engines.partial import Partial, reserve
from tests.support import web
from tests.support.broker import Certificates
from tests.support.patience import PATIENCE_S
from tests.support.web import Site, forward_proxy, web_server

DATA = bytes(range(256)) * 1200
"""More than four blocks."""
HALF = 150_000


@pytest.fixture(autouse=True)
def _alone_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxies of the machine, no long pauses."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(module, "_BACKOFF_S", 0.001)


@pytest.fixture
def site() -> Iterator[Site]:
    with web_server() as site:
        site.files["/file"] = DATA
        yield site


@pytest.fixture
def partial(tmp_path: Path) -> Partial:
    return Partial(tmp_path / "partial")


def wanted(site: Site, path: str = "/file", data: bytes = DATA) -> Wanted:
    return Wanted(site.url + path, len(data), hashlib.sha256(data).hexdigest())


def fetch(file: Wanted, partial: Partial, proxy: str | None = None) -> list[int]:
    """Download, check what came, and return the progress that was heard."""
    heard: list[int] = []
    download(file, partial, heard.append, proxy)
    assert hashlib.sha256(partial.path.read_bytes()).hexdigest() == file.sha256
    assert [path.name for path in partial.path.parent.iterdir()] == ["partial"]
    return heard


def refused(file: Wanted, partial: Partial, proxy: str | None = None) -> str:
    """The one line of a download that fails."""
    with pytest.raises(FetchError) as caught:
        download(file, partial, [].append, proxy)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def interrupted(file: Wanted, partial: Partial, proxy: str | None = None) -> int:
    """Ctrl-C in the middle of a download; the bytes that stay."""

    def interrupt(done: int) -> None:
        if done >= HALF:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(file, partial, interrupt, proxy)
    assert HALF <= partial.length < len(DATA)
    return partial.length


def test_a_good_server(site: Site, partial: Partial) -> None:
    """One request; progress reaches the end."""
    assert fetch(wanted(site), partial)[-1] == len(DATA)
    assert site.ranges() == [None]


def test_goes_on_where_the_line_was_cut(site: Site, partial: Partial) -> None:
    """Within a call: only the rest is asked for, and only of the same version."""
    site.answers["/file"] = [web.cut(HALF)]
    fetch(wanted(site), partial)
    assert site.ranges() == [None, f"bytes={HALF}-"]
    assert site.requests[1][1]["If-Range"] == '"one"'


def test_goes_on_where_an_earlier_call_was_interrupted(site: Site, partial: Partial) -> None:
    """Ctrl-C leaves what has come, another call fetches the rest."""
    kept = interrupted(wanted(site), partial)
    assert fetch(wanted(site), partial)[0] == kept
    assert site.ranges() == [None, f"bytes={kept}-"]


def test_a_line_that_drops_often_gets_there(site: Site, partial: Partial) -> None:
    """Tries are counted from the last one that brought something."""
    step = len(DATA) // 4

    def some(request: web.Handler, body: bytes) -> None:
        start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        request.begin(206, len(body) - start, ETag='"one"', Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}")
        request.wfile.write(body[start : start + step])

    site.answers["/file"] = [web.cut(step), some, some, some]
    fetch(wanted(site), partial)
    assert site.ranges() == [None, *(f"bytes={n * step}-" for n in (1, 2, 3))]


def test_a_line_that_always_drops_ends(site: Site, partial: Partial) -> None:
    """Three tries; what has come is kept, and the message says so."""
    site.answers["/file"] = [web.cut(HALF), *[web.status(503)] * 3]
    said = refused(wanted(site), partial)
    assert "503 Service Unavailable, 3 times; 150,000 bytes are kept" in said
    assert partial.length == HALF
    assert fetch(wanted(site), partial)[0] == HALF


def test_a_url_with_a_password_is_refused_without_showing_it(partial: Partial) -> None:
    """The library would take them for a part of the host's name."""
    said = refused(Wanted("http://me:secret@127.0.0.1:1/file", None, "0" * 64), partial)
    assert said.startswith("http://127.0.0.1:1/file: a user and password in a URL are not sent")
    assert "secret" not in said


def test_what_is_no_url_is_asked_for_once(partial: Partial) -> None:
    """A second try would say the same."""
    assert "not a URL that can be asked for" in refused(Wanted("http://127.0.0.1:one/file", None, "0" * 64), partial)


def test_a_server_without_ranges_starts_over(site: Site, partial: Partial) -> None:
    """It answers with the whole file, which is taken as such."""
    site.answers["/file"] = [web.cut(HALF), web.no_ranges]
    fetch(wanted(site), partial)


def test_a_server_without_ranges_that_always_drops_ends(site: Site, partial: Partial) -> None:
    """Coming to the same place again is no progress."""
    site.answers["/file"] = [web.cut(HALF, Server="old")] * 5
    assert "cut short at 150,000 of 307,200 bytes, 3 times" in refused(wanted(site), partial)
    assert site.ranges() == [None] * 3


@pytest.mark.parametrize("headers", [{"ETag": 'W/"weak"'}, {"Server": "old"}])
def test_an_unknown_version_is_not_resumed(site: Site, partial: Partial, headers: dict[str, str]) -> None:
    """Without a strong tag or a date nobody knows of what the rest would be."""
    site.answers["/file"] = [web.cut(HALF, **headers)]
    fetch(wanted(site), partial)
    assert site.ranges() == [None, None]


def test_a_date_is_a_version(site: Site, partial: Partial) -> None:
    """Where there is no tag."""
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    site.answers["/file"] = [web.cut(HALF, Last_Modified=date), web.tagged(date)]
    fetch(wanted(site), partial)
    assert site.requests[1][1]["If-Range"] == date


def test_a_file_that_changed_meanwhile_comes_whole(site: Site, partial: Partial) -> None:
    """If-Range does not match, so the server sends all of it."""
    site.files["/file"] = bytes(len(DATA))
    kept = interrupted(wanted(site), partial)
    site.files["/file"] = DATA
    site.answers["/file"] = [web.tagged('"two"')]
    fetch(wanted(site), partial)
    assert site.ranges() == [None, f"bytes={kept}-"]


def test_halves_that_do_not_fit_are_fetched_again(site: Site, partial: Partial) -> None:
    """A server that lies about versions costs a second download, not a wrong file; wrong for ever is said."""
    site.files["/file"] = bytes(len(DATA))
    kept = interrupted(wanted(site), partial)
    site.files["/file"] = DATA
    fetch(wanted(site), partial)
    assert site.ranges() == [None, f"bytes={kept}-", None]


def test_a_server_with_less_than_before(site: Site, partial: Partial) -> None:
    """416: from the start."""
    site.answers["/file"] = [web.cut(HALF), web.status(416)]
    fetch(wanted(site), partial)
    assert site.ranges() == [None, f"bytes={HALF}-", None]


def test_another_range_than_asked_for(site: Site, partial: Partial) -> None:
    """From the start."""
    site.answers["/file"] = [web.cut(HALF), web.another_range]
    fetch(wanted(site), partial)
    assert site.ranges() == [None, f"bytes={HALF}-", None]


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(site: Site, partial: Partial, code: int) -> None:
    """Twice; the third time counts."""
    site.answers["/file"] = [web.status(code)] * 2
    fetch(wanted(site), partial)
    assert len(site.requests) == 3


@pytest.mark.parametrize("code", [401, 403, 404, 410, 501])
def test_a_server_that_says_no_is_believed(site: Site, partial: Partial, code: int) -> None:
    """One request, and the way to do without."""
    site.answers["/file"] = [web.status(code)] * 3
    assert f"/file: the server says {code} " in (said := refused(wanted(site), partial))
    assert "--from FILE" in said
    assert len(site.requests) == 1


def test_a_silent_server(site: Site, partial: Partial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given up after the time-out, three times."""
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.05)
    site.answers["/file"] = [web.silence] * 3
    assert "no answer for" in refused(wanted(site), partial)


@pytest.mark.parametrize("answer", [web.chunked, web.unannounced])
def test_no_length_announced(site: Site, partial: Partial, answer: web.Answer) -> None:
    """The sha256 and the catalogue's size are enough."""
    site.answers["/file"] = [answer]
    fetch(wanted(site), partial)


def test_a_size_that_nobody_knows(site: Site, partial: Partial, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server says of it serves to resume; without that there is a limit."""
    unknown = Wanted(f"{site.url}/file", None, hashlib.sha256(DATA).hexdigest())
    site.answers["/file"] = [web.cut(HALF)]
    fetch(unknown, partial)
    assert site.ranges() == [None, f"bytes={HALF}-"]
    partial.remove()
    site.answers["/file"] = [web.unannounced]
    fetch(unknown, partial)
    partial.remove()
    monkeypatch.setattr(module, "_LIMIT", HALF)
    site.answers["/file"] = [web.endless]
    assert "more than 150000 bytes" in refused(unknown, partial)


def test_never_more_than_asked_for(site: Site, partial: Partial) -> None:
    """A file that does not end is stopped at its size; one that says it is larger is not begun."""
    site.answers["/file"] = [web.endless]
    assert "more than 307200 bytes" in refused(wanted(site), partial)
    site.files["/file"] = DATA + b"more"
    assert "has 307204 bytes, the catalogue says 307200" in refused(wanted(site), partial)
    assert partial.length == 0


def test_wrong_bytes(site: Site, partial: Partial) -> None:
    """Both sums are named and nothing is kept."""
    site.files["/file"] = bytes(len(DATA))
    said = refused(wanted(site), partial)
    assert hashlib.sha256(DATA).hexdigest() in said
    assert "nothing was opened or kept" in said
    assert partial.length == 0


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_follows_redirects_to_another_host_with_its_range(site: Site, partial: Partial, code: int) -> None:
    """As release downloads do."""
    with web_server() as other:
        site.answers["/file"] = [web.redirect(f"{other.url}/real?signature=secret", code)] * 2
        other.files["/real?signature=secret"] = DATA
        other.answers["/real?signature=secret"] = [web.cut(HALF)]
        fetch(wanted(site), partial)
        assert other.ranges() == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize("to", ["ftp://127.0.0.1/file", "file:///etc/hostname", "http:"])
def test_does_not_follow_to_other_schemes(site: Site, partial: Partial, to: str) -> None:
    """Not to files of this machine, nor anywhere strange."""
    site.answers["/file"] = [web.redirect(to)] * 12
    assert "/file: " in refused(wanted(site), partial)
    assert partial.length == 0


def test_redirects_without_end(site: Site, partial: Partial) -> None:
    """One line."""
    site.answers["/file"] = [web.redirect(f"{site.url}/file")] * 20
    assert "the server says 302" in refused(wanted(site), partial)


def test_nobody_listens(partial: Partial) -> None:
    """Said at once, with the way to do without."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        said = refused(Wanted(f"http://127.0.0.1:{nobody.getsockname()[1]}/file", 1, "0" * 64), partial)
    assert "connection refused; a file fetched elsewhere can be given with --from FILE" in said


def test_an_unknown_host(partial: Partial) -> None:
    """Said at once."""
    assert "is not known" in refused(Wanted("http://nowhere.invalid/file", 1, "0" * 64), partial)


def test_a_full_disk(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before, where it can be known, and when it happens; what has come makes room again."""
    partial = Partial(tmp_path / "partial")
    partial.path.symlink_to("/dev/full")
    assert f"no space left in {tmp_path}" in refused(wanted(site), partial)
    monkeypatch.setattr(module.shutil, "disk_usage", Mock(return_value=Mock(free=9)))
    asked = len(site.requests)
    assert "no space left" in refused(wanted(site), Partial(tmp_path / "other"))
    assert len(site.requests) == asked


def test_nothing_secret_is_shown() -> None:
    """Neither credentials nor signatures."""
    assert shown("https://user:pass@host:8443/a/b?token=x#y") == "https://host:8443/a/b"


class TestTls:
    """HTTPS with an authority made for the test."""

    @pytest.fixture
    def certificates(self, tmp_path_factory: pytest.TempPathFactory) -> Certificates:
        return Certificates.make(tmp_path_factory.mktemp("tls"))

    @pytest.fixture
    def secure(self, certificates: Certificates) -> Iterator[Site]:
        with web_server((certificates.server, certificates.server_key)) as site:
            site.files["/file"] = DATA
            yield site

    @pytest.fixture
    def _trusted(self, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))

    def test_an_unknown_authority(self, secure: Site, partial: Partial) -> None:
        """The variable that makes it known is named."""
        said = refused(wanted(secure), partial)
        assert "its certificate is not trusted" in said
        assert "SSL_CERT_FILE" in said

    @pytest.mark.usefixtures("_trusted")
    def test_an_authority_of_the_users_own(self, secure: Site, partial: Partial) -> None:
        """SSL_CERT_FILE."""
        fetch(wanted(secure), partial)

    @pytest.mark.usefixtures("_trusted")
    def test_never_back_to_http(self, secure: Site, site: Site, partial: Partial) -> None:
        """A redirect that gives up the encryption is not followed."""
        secure.answers["/file"] = [web.redirect(f"{site.url}/file")]
        assert "redirected from https to http, which is not followed" in refused(wanted(secure), partial)
        assert site.requests == []

    @pytest.mark.usefixtures("_trusted")
    def test_through_a_proxy(self, secure: Site, partial: Partial) -> None:
        """By CONNECT, with credentials that the server does not see."""
        with forward_proxy() as proxy:
            fetch(wanted(secure), partial, f"http://user:pass@{proxy.address}")
            assert proxy.requests == [f"CONNECT {secure.url.removeprefix('https://')}"]
            assert proxy.credentials[0] is not None
        assert "Proxy-Authorization" not in {name.title() for name in secure.requests[0][1]}


class TestProxy:
    """Plain HTTP through a proxy."""

    def test_of_the_environment(self, site: Site, partial: Partial, monkeypatch: pytest.MonkeyPatch) -> None:
        """http_proxy, unless no_proxy excepts the host."""
        with forward_proxy() as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            fetch(wanted(site), partial)
            assert proxy.requests == [f"GET {site.url}/file"]
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            partial.remove()
            fetch(wanted(site), partial)
            assert len(proxy.requests) == 1

    def test_of_the_caller(self, site: Site, partial: Partial, monkeypatch: pytest.MonkeyPatch) -> None:
        """Goes before the environment's; a range goes through as well."""
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        with forward_proxy() as proxy:
            kept = interrupted(wanted(site), partial, proxy.url)
            fetch(wanted(site), partial, proxy.url)
            assert len(proxy.requests) == 2
        assert site.ranges() == [None, f"bytes={kept}-"]

    def test_that_wants_a_password(self, site: Site, partial: Partial) -> None:
        """Its answer is shown, the password is not."""
        with forward_proxy() as proxy:
            proxy.refuses = True
            said = refused(wanted(site), partial, f"http://user:hunter2@{proxy.address}")
        assert "407 Proxy Authentication Required" in said
        assert "hunter2" not in said

    @pytest.mark.parametrize("proxy", ["socks5://user:hunter2@host:1080", "host:3128", "http://"])
    def test_of_another_kind(self, site: Site, partial: Partial, proxy: str) -> None:
        """Says what is expected."""
        said = refused(wanted(site), partial, proxy)
        assert "expected http://HOST:PORT" in said
        assert "hunter2" not in said


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    """A second one is told that it waits, and finds nothing of the first one's file."""
    waits, done = threading.Event(), threading.Event()

    def second() -> None:
        with reserve(tmp_path, "a" * 64, waits.set) as partial:
            assert partial.length == 0
            done.set()

    thread = threading.Thread(target=second)
    with reserve(tmp_path, "a" * 64) as partial:
        thread.start()
        assert waits.wait(PATIENCE_S)
        partial.path.write_bytes(b"all of it")
        assert not done.is_set()
    thread.join(PATIENCE_S)
    assert done.is_set()
    assert list(tmp_path.iterdir()) == []


def fail(folder: Path, error: BaseException) -> Partial:
    """A block that ends with `error` after three bytes have come."""
    with reserve(folder, "a" * 64) as partial:
        partial.path.write_bytes(b"som")
        raise error


@pytest.mark.parametrize(("error", "kept"), [(FetchError("cut"), 1), (KeyboardInterrupt(), 1), (ValueError("bad"), 0)])
def test_what_is_kept(tmp_path: Path, error: BaseException, kept: int) -> None:
    """A download that failed or was interrupted, for a week; anything else goes."""
    with pytest.raises(type(error)):
        fail(tmp_path, error)
    assert len(list(tmp_path.iterdir())) == kept
    for path in tmp_path.iterdir():
        os.utime(path, (time.time() - 8 * 86400,) * 2)
    with reserve(tmp_path, "b" * 64) as other:
        assert list(tmp_path.iterdir()) == [other.path]
