"""Whatever a server does, a download ends as the file or as one line, after a bounded number of requests."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engines import download as module
from engines.download import Wanted, download
from engines.errors import FetchError
from engines.partial import Partial
from tests.support import web
from tests.support.web import Site, web_server

DATA = bytes(range(256)) * 300
ANSWERS = st.one_of(
    st.integers(0, len(DATA)).map(web.cut),
    st.integers(0, len(DATA)).map(lambda after: web.cut(after, Server="old")),
    st.sampled_from([200, 204, 206, 304, 404, 416, 429, 503, 599]).map(web.status),
    st.sampled_from(['"one"', '"two"', "W/weak", ""]).map(web.tagged),
    st.text("bytes 0123456789-/*", max_size=20).map(web.ranged),
    st.sampled_from([web.whole, web.no_ranges, web.chunked, web.unannounced, web.endless, web.another_range]),
)


@pytest.fixture(scope="module")
def site():
    with web_server() as site:
        yield site


@given(st.lists(ANSWERS, max_size=6), st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_server(site: Site, monkeypatch: pytest.MonkeyPatch, answers: list[web.Answer], known: bool) -> None:
    """Size known or not; what is kept between calls never spoils a later one."""
    monkeypatch.setattr(module, "_BACKOFF_S", 0)
    monkeypatch.setenv("no_proxy", "*")
    site.files["/file"] = DATA
    site.answers["/file"] = answers
    site.requests.clear()
    wanted = Wanted(f"{site.url}/file", len(DATA) if known else None, hashlib.sha256(DATA).hexdigest())
    with tempfile.TemporaryDirectory() as folder:
        partial = Partial(Path(folder) / "partial")
        said = []
        for _ in range(8):
            try:
                download(wanted, partial, [].append)
                break
            except FetchError as error:
                said.append(str(error))
        assert not any("\n" in line for line in said)
        assert partial.path.read_bytes() == DATA
    assert len(site.requests) <= 8 * 3 * 2
