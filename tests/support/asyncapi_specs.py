"""The official JSON Schema of AsyncAPI 3.0 documents, as the AsyncAPI initiative publishes it.

`asyncapi-3.0.0.json.gz` is `schemas/3.0.0-without-$id.json` of its npm package @asyncapi/specs 6.11.1, unchanged.
Copyright 2016-2025 AsyncAPI Initiative, Apache License 2.0.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

from agent.schema.asyncapi import document

FILE = Path(__file__).with_name("asyncapi-3.0.0.json.gz")
SHA256 = "abe96881dbfaad495ccbb6bd8d3fb43ca18a13b9d7564849ccb66f39d5e5b20f"


def official_schema() -> dict[str, Any]:
    """As a plain value, once it is sure that nobody has changed it."""
    text = gzip.decompress(FILE.read_bytes())
    assert hashlib.sha256(text).hexdigest() == SHA256
    return json.loads(text)


def user_properties(message: str) -> set[str]:
    """Those that our own document tells of."""
    return set(document()["components"]["messages"][message]["headers"]["properties"])
