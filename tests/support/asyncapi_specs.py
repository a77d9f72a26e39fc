"""The official JSON Schema of AsyncAPI documents: npm has the AsyncAPI initiative's own package of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from typing import Any

import pytest

from agent.schema.asyncapi import document
from tests.support.cache import cache
from tests.support.needs import missing

PACKAGE = "@asyncapi/specs@6.11.1"
SHA256 = "01af8744dc33c0c7eb2e908f6a955319ee58b70ecadc9387d1aeb16c0cd28928"


def official_schema(version: str) -> dict[str, Any]:
    """Of that version of AsyncAPI, kept between runs. Skips where there is no npm, or no registry; fails in CI."""
    with cache() as folder:
        kept = folder / "asyncapi" / "asyncapi-specs-6.11.1.tgz"
        if not kept.exists():
            _fetch(kept.parent)
        assert hashlib.sha256(kept.read_bytes()).hexdigest() == SHA256
        with tarfile.open(kept) as package:
            schema = package.extractfile(f"package/schemas/{version}-without-$id.json")
            assert schema is not None
            return json.load(schema)


def _fetch(folder) -> None:
    npm = shutil.which("npm")
    if npm is None:
        missing("npm")
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [npm, "pack", PACKAGE, "--pack-destination", str(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    if done.returncode:
        said = f"npm pack {PACKAGE}: {done.stderr.strip()[-300:]}"
        if os.environ.get("CI"):
            pytest.fail(said)
        pytest.skip(said)


def user_properties(message: str) -> set[str]:
    """Those that our own document tells of."""
    return set(document()["components"]["messages"][message]["headers"]["properties"])
