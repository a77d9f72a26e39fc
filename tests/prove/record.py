"""Writes what was measured into `docs/measurements.md`: one section a proof, replaced by each run of it."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "measurements.md"


def machine() -> str:
    """What this ran on, and with which versions."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    flags = Path("/proc/cpuinfo").read_text()
    vnni = "with VNNI" if "avx512_vnni" in flags or "avx_vnni" in flags else "without VNNI"
    processor = f"{model}, {len(os.sched_getaffinity(0))} cores{f', {vnni}' if platform.machine() == 'x86_64' else ''}"
    names = ("openvino", "onnxruntime", "av", "opencv-python-headless", "numpy", "paho-mqtt")
    return f"{processor}; Python {platform.python_version()}, {', '.join(filter(None, map(_installed, names)))}"


def _installed(package: str) -> str | None:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:  # not every proof needs every package
        return None


def section(name: str, title: str, command: str, body: str) -> None:
    """Replace (or append) the section between the marks of `name`."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    text = f"{begin}## {title}\n\n`{command}`, {today}, {machine()}.\n\n{body.rstrip()}\n{end}"
    document = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else "# Measurements\n\n"
    if begin in document:
        before, _, rest = document.partition(begin)
        document = before + text + rest.partition(end)[2]
    else:
        document = document.rstrip("\n") + "\n\n" + text
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(document, encoding="utf-8")


def table(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)]) + "\n"
