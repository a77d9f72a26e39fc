"""What a test does about a program that is not installed: skip at home, fail where everything must run."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip the test because `what` is not installed; fail it where the environment variable CI is set."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed, and CI must run everything", pytrace=False)
    pytest.skip(f"{what} is not installed")
