"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.clips import HD
from tests.support.publishing import opened  # noqa: F401  # a fixture
from tests.support.rtsp import RtspServer


@pytest.fixture(params=["tcp", "udp"])
def transport(request: pytest.FixtureRequest) -> str:
    """How RTP comes, for cameras that are read both ways."""
    return request.param


@pytest.fixture(scope="module")
def hd() -> Iterator[RtspServer]:
    """The camera that latency is stated for."""
    with RtspServer(HD) as server:
        yield server
