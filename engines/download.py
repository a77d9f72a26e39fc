"""Downloads one file over HTTP(S): goes on where an earlier try stopped, through proxies, never more than asked for.

A range is asked for with If-Range and the strong ETag or the date (RFC 9110, 13.1.5), so that a file that changed
meanwhile comes whole; whatever a server says, the sha256 decides.
"""

from __future__ import annotations

import errno
import http.client
import random
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from engines.card import sha256_of
from engines.errors import FetchError
from engines.partial import Partial

_BLOCK = 1 << 16
_TIMEOUT_S = 30.0
"""For each wait on a server, not for the whole of a download."""
_TRIES = 3
"""In a row that bring nothing new: a line that drops every minute still gets there."""
_BACKOFF_S = 1.0
"""Before the second try; doubled for each further one, with jitter."""
_PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Answers of a server that is busy rather than right."""
_LIMIT = 1 << 30
"""Bytes of a file whose size is not known."""
_BY_HAND = "a file fetched elsewhere can be given with --from FILE"
Heard = Callable[[int], None]


@dataclass(frozen=True)
class Wanted:
    """A file that is known before it comes."""

    url: str
    size: int | None
    """Bytes; None: not known."""
    sha256: str


class _Passing(Exception):
    """A try failed in a way that another may not."""


def download(wanted: Wanted, partial: Partial, heard: Heard, proxy: str | None = None) -> None:
    """Make `partial` the whole wanted file, its sha256 checked; what is there already is not fetched again.

    `heard` is told how many bytes are there. `proxy`: its URL; None: those of the environment (http_proxy,
    https_proxy, no_proxy). Raises FetchError in one line; what has come by then stays, unless it is wrong.
    """
    opener = _opener(proxy)
    if "@" in urllib.parse.urlsplit(wanted.url).netloc:
        raise FetchError(f"{shown(wanted.url)}: a user and password in a URL are not sent; {_BY_HAND}")
    failures, furthest, doubted = 0, partial.length, False
    while True:
        resumed = partial.length > 0
        try:
            with _translated(wanted, partial):
                _ask(opener, wanted, partial, heard)
                found = sha256_of(partial.path)
            if found == wanted.sha256:
                partial.complete()
                return
            partial.empty()
            if doubted or not resumed:
                raise FetchError(
                    f"{shown(wanted.url)}: sha256 is {found}, the catalogue says {wanted.sha256}: "
                    "altered, or another version; nothing was opened or kept"
                )
            doubted = True  # two halves that do not fit: once more from the start
        except _Passing as error:
            done = partial.length
            failures = 1 if done >= furthest + _BLOCK else failures + 1
            furthest = max(done, furthest)
            if failures >= _TRIES:
                kept = f"{done:,} bytes are kept, the next pull goes on from there; " if done else ""
                raise FetchError(f"{shown(wanted.url)}: {error}, {_TRIES} times; {kept}{_BY_HAND}") from None
            time.sleep(_BACKOFF_S * 2 ** (failures - 1) * random.uniform(0.75, 1.25))


def shown(url: str) -> str:
    """Return the URL as it may be printed: without credentials, query and fragment."""
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _ask(opener: urllib.request.OpenerDirector, wanted: Wanted, partial: Partial, heard: Heard) -> None:
    """Ask once, for what is missing."""
    version = partial.version(wanted.url)
    if partial.length != wanted.size and (version is None or partial.length > (wanted.size or _LIMIT)):
        partial.empty()  # nobody knows which version of the file it is, or not this file
    done = partial.length
    heard(done)
    if done == wanted.size:
        return
    if shutil.disk_usage(partial.path.parent).free < (wanted.size or 0) - done:
        raise OSError(errno.ENOSPC, "no space left")
    request = urllib.request.Request(wanted.url, headers={"Accept-Encoding": "identity"})  # noqa: S310  # http(s) only
    if done and version is not None:
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", version)
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            _receive(answer, wanted, partial, *_extent(answer, wanted, partial), heard)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not done:
            raise
        error.close()
        partial.empty()
        raise _Passing("the server has less than came before") from None


def _extent(answer: Any, wanted: Wanted, partial: Partial) -> tuple[int, int | None]:
    """Return where in the file an answer's bytes begin, and the whole file's size if anybody knows it."""
    if answer.status == http.client.PARTIAL_CONTENT:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if span is None or int(span[1]) != partial.length:
            partial.empty()
            raise _Passing("the server answered with another range than was asked for")
        start, size = partial.length, span[2]
    else:
        start, size = 0, answer.headers.get("Content-Length", "*")
    total = int(size) if size.isdecimal() else wanted.size
    if wanted.size not in (None, total):
        partial.empty()
        raise FetchError(
            f"{shown(wanted.url)}: the server's file has {total} bytes, the catalogue says {wanted.size}: "
            "another version, or a page instead of it"
        )
    return start, total


def _receive(answer: Any, wanted: Wanted, partial: Partial, done: int, total: int | None, heard: Heard) -> None:
    """Write an answer's bytes behind the first `done` that are there."""
    tag = answer.headers.get("ETag", "")
    partial.note(wanted.url, tag if tag.startswith('"') else answer.headers.get("Last-Modified"))
    limit = _LIMIT if total is None else total
    with partial.path.open("r+b" if done else "wb") as file:
        file.seek(done)
        while block := answer.read(_BLOCK):
            done += len(block)
            if done > limit:
                break
            file.write(block)
            heard(done)
    if done > limit:
        partial.empty()
        raise FetchError(f"{shown(wanted.url)}: more than {limit} bytes: another file")
    if total is not None and done < total:
        raise _Passing(f"cut short at {done:,} of {total:,} bytes")


@contextmanager
def _translated(wanted: Wanted, partial: Partial) -> Iterator[None]:
    """Turn what libraries raise into one line, or into a try that is worth another."""
    where = shown(wanted.url)
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        said = f"the server says {error.code} {http.client.responses.get(error.code, '')}".rstrip()
        raise _Passing(said) if error.code in _PASSING else FetchError(f"{where}: {said}; {_BY_HAND}") from None
    except urllib.error.URLError as error:
        raise _reason(error.reason, where) from None
    except http.client.InvalidURL:
        raise FetchError(f"{where}: not a URL that can be asked for; {_BY_HAND}") from None
    except http.client.HTTPException as error:
        raise _Passing(f"cut short ({type(error).__name__})") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            partial.empty()  # a full disk harms more than a second download
            raise FetchError(f"{where}: no space left in {partial.path.parent}; make room and pull again") from None
        raise _reason(error, where) from None


def _reason(error: object, where: str) -> Exception:
    """Return what to raise for a reason that the network gave."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return FetchError(
            f"{where}: its certificate is not trusted ({error.verify_message}); where a proxy opens TLS, "
            "name the file of its CA in SSL_CERT_FILE"
        )
    if isinstance(error, TimeoutError):
        return _Passing(f"no answer for {_TIMEOUT_S:.0f} s")
    if isinstance(error, ConnectionRefusedError):
        return FetchError(f"{where}: connection refused; {_BY_HAND}")
    if isinstance(error, socket.gaierror):
        return FetchError(f"{where}: its host, or the proxy's, is not known ({error.strerror}); {_BY_HAND}")
    if isinstance(error, (ConnectionError, ssl.SSLError)):
        return _Passing(error.strerror or type(error).__name__)
    reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return FetchError(f"{where}: {reason}; {_BY_HAND}")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows to http and https only, and never from https back to http."""

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302  # Python 3.10 lacks it

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme != "https" and (scheme != "http" or req.type == "https"):
            raise urllib.error.URLError(f"redirected from {req.type} to {scheme or 'nowhere'}, which is not followed")
        onward = super().redirect_request(req, fp, 307 if code == 308 else code, msg, headers, newurl)
        if onward is not None:
            onward.remove_header("Proxy-authorization")  # the new host may be one that needs no proxy
        return onward


def _opener(proxy: str | None) -> urllib.request.OpenerDirector:
    """Return an opener of http and https and nothing else: no files, no ftp. Raises FetchError for a bad proxy."""
    if proxy is not None and not re.match("http://[^/]", proxy):
        raise FetchError(f"{shown(proxy)}: not the URL of a proxy; expected http://HOST:PORT")
    opener = urllib.request.OpenerDirector()
    opener.addheaders = [("User-Agent", "sightwire")]
    handlers = (
        urllib.request.ProxyHandler(None if proxy is None else {"http": proxy, "https": proxy}),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _SafeRedirects(),
    )
    for handler in handlers:
        opener.add_handler(handler)
    return opener
