"""Where models live: one folder each, named after the model, complete or not there at all."""

from __future__ import annotations

import difflib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.card import CARD_FILE, Card, read_card
from engines.errors import CardError

_PARTIAL = ".partial-"


def default_root() -> Path:
    """`$SIGHTWIRE_MODELS`; as a service the `models` of its state directory; else the user's XDG data folder."""
    if chosen := os.environ.get("SIGHTWIRE_MODELS"):
        return Path(chosen)
    if state := os.environ.get("STATE_DIRECTORY"):
        return Path(state.split(":")[0]) / "models"
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "sightwire" / "models"


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


class ModelStore:
    """The model folders under `root`, which need not exist yet."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Names of the models that are here, sorted."""
        return sorted(path.parent.name for path in self.root.glob(f"[!.]*/{CARD_FILE}"))

    def find(self, name_or_path: str) -> tuple[Card, Path]:
        """Card and folder of a model, given its name, its folder or its card.

        Raises CardError that names the nearest known model and the command that gets it.
        """
        path = Path(name_or_path)
        if path.name != name_or_path or path.suffix in (".yaml", ".yml"):
            return read_card(path), path if path.is_dir() else path.parent
        folder = self.root / name_or_path
        if (folder / CARD_FILE).is_file():
            return read_card(folder), folder
        raise CardError(self._absent(name_or_path))

    def _absent(self, name: str) -> str:
        from engines import catalogue  # brings onnx along, which a running agent does without

        if name in catalogue.names():
            return f"model {name!r} is not in {self.root}; get it with 'sightwire models pull {name}'"
        known = sorted({*catalogue.names(), *self.names()})
        near = difflib.get_close_matches(name, known, n=1)
        if not near:
            return f"there is no model {name!r}; known: {', '.join(known)}, or a path to a card"
        here = near[0] in self.names()
        hint = "" if here else f" ('sightwire models pull {near[0]}' gets it)"
        return f"there is no model {name!r}, did you mean {near[0]!r}?{hint}"

    @contextmanager
    def install(self, name: str) -> Iterator[Path]:
        """Yield an empty folder that becomes the model's folder if the block ends well, and vanishes if not.

        Waits while another process installs; sweeps up what a killed one left.
        Raises CardError where a folder of that name has files, but is no model.
        """
        final = self.root / name
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for stale in self.root.glob(f"{_PARTIAL}*"):
                shutil.rmtree(stale, ignore_errors=True)
            if final.exists() and not (final / CARD_FILE).is_file() and not _is_empty(final):
                raise CardError(f"{final}: is there already, and is no model (it has no {CARD_FILE}); move it away")
            staging = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self.root))
            try:
                (staging / "new").mkdir()
                yield staging / "new"
                if final.exists():
                    final.rename(staging / "old")
                (staging / "new").rename(final)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
