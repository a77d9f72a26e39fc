"""What several dialects need: topics, times and JSON as others write them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from pydantic_core import to_json

Prefix = Annotated[str, Field(pattern=r"^[^+#/\s\x00]+(/[^+#/\s\x00]+)*$")]
"""First part of every topic; may contain `/`."""

TEXT = "text/plain"


def level(name: str) -> str:
    """A name as one level of a topic: labels may have spaces, but no wildcard and no slash."""
    return re.sub(r"[+#/\x00]", "_", name)


def json_bytes(value: Any) -> bytes:
    """UTF-8 JSON, compact; what is no number in JSON (NaN) is null."""
    return to_json(value, inf_nan_mode="null")


def stamp(rfc3339: str) -> tuple[int, int]:
    """Seconds and nanoseconds since 1970 of a time as `agent.messages.rfc3339` writes it."""
    moment = datetime.fromisoformat(f"{rfc3339[:19]}+00:00")  # Python 3.10 knows no Z
    return int(moment.timestamp()), int(rfc3339[20:-1].ljust(9, "0")[:9])


def seconds(rfc3339: str) -> float:
    """Seconds since 1970, to the microsecond."""
    whole, nanoseconds = stamp(rfc3339)
    return round(whole + nanoseconds / 1e9, 6)
