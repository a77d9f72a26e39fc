"""What a configuration needs beside itself: models and credentials, and where they come from."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.config import Settings, load
from agent.errors import ConfigError
from agent.installing import layout
from agent.installing.errors import InstallError
from agent.installing.steps import own
from agent.models import find_cards
from agent.yaml_lines import parse
from engines import catalogue
from engines.card import CARD_FILE
from engines.errors import CardError, EngineError
from engines.store import ModelStore, default_root

_CREDENTIAL = "credential:"


@dataclass
class Copied:
    """A model in the service's store, from another one. It is the service's own: compiled forms come beside it."""

    name: str
    source: Path
    replace: bool = False
    _aside: Path | None = field(default=None, init=False)

    @property
    def _target(self) -> Path:
        return layout.MODELS / self.name

    @property
    def says(self) -> str:
        """See Step."""
        return f"model {self._target} from {self.source}"

    def shows(self) -> Iterator[str]:
        """See Step."""
        yield f"cp -r {self.source} {self._target}"

    def is_done(self) -> bool:
        """See Step."""
        here = self._target / CARD_FILE
        if not here.is_file():
            return False
        return not self.replace or here.read_bytes() == (self.source / CARD_FILE).read_bytes()

    def do(self) -> None:
        """See Step."""
        if self._target.exists():
            self._aside = self._target.with_name(f".before-{self.name}")
            shutil.rmtree(self._aside, ignore_errors=True)
            self._target.rename(self._aside)
        try:
            with ModelStore(layout.MODELS).install(self.name) as folder:
                shutil.copytree(self.source, folder, dirs_exist_ok=True)
                _give_away(folder)
        except EngineError as error:
            raise InstallError(str(error)) from None
        except shutil.Error as error:
            raise InstallError(f"{self.source}: {error}") from None

    def undo(self) -> None:
        """See Step."""
        shutil.rmtree(self._target, ignore_errors=True)
        if self._aside:
            self._aside.rename(self._target)


@dataclass
class Pulled:
    """A model of the catalogue that nobody has here, got into the service's store."""

    name: str

    @property
    def says(self) -> str:
        """See Step."""
        return f"model {layout.MODELS / self.name} from the catalogue"

    def shows(self) -> Iterator[str]:
        """See Step."""
        yield f"SIGHTWIRE_MODELS={layout.MODELS} sightwire models pull {self.name}"

    def is_done(self) -> bool:
        """See Step."""
        return (layout.MODELS / self.name / CARD_FILE).is_file()

    def do(self) -> None:
        """See Step."""
        from engines.pull import pull

        try:
            _, folder = pull(self.name, ModelStore(layout.MODELS))
        except EngineError as error:
            raise InstallError(str(error)) from None
        _give_away(folder)

    def undo(self) -> None:
        """See Step."""
        shutil.rmtree(layout.MODELS / self.name, ignore_errors=True)


def read(path: Path) -> Settings:
    """The configuration, right as far as it can be said without models. Raises InstallError."""
    try:
        return load(path)
    except ConfigError as error:
        raise InstallError(str(error)) from None


def models(settings: Settings, stores: list[Path], *, replace: bool) -> list[Copied | Pulled]:
    """How each model that it names by its name comes to the service. Raises InstallError for one that nobody has."""
    steps: list[Copied | Pulled] = []
    for name in sorted({section.model for section in settings.models.values()}):
        if _is_path(name):
            continue  # stays where it is; whether the service can read it there, its trial tells
        kept = (layout.MODELS / name / CARD_FILE).is_file()
        sources = [store / name for store in stores if (store / name / CARD_FILE).is_file()]
        if sources:
            steps.append(Copied(name, sources[0], replace))
        elif kept:
            continue
        elif name in catalogue.names():
            steps.append(Pulled(name))
        else:
            _absent(name, stores)
    return steps


def agrees(settings: Settings, stores: list[Path]) -> None:
    """The models fit their uses, as far as they are here already. Raises InstallError."""
    for store in map(ModelStore, stores):
        if all(_is_path(section.model) or section.model in store.names() for section in settings.models.values()):
            try:
                find_cards(settings, store)
            except ConfigError as error:
                raise InstallError(str(error)) from None
            return


def user_stores(chosen: Path | None) -> list[Path]:
    """Where models may be found: the folder that is given, or the stores of who called sudo and of this user."""
    if chosen is not None:
        return [chosen]
    caller = os.environ.get("SUDO_UID", "")
    if caller.isdigit() and "SIGHTWIRE_MODELS" not in os.environ:
        return [Path(pwd.getpwuid(int(caller)).pw_dir, ".local", "share", "sightwire", "models"), default_root()]
    return [default_root()]


def credentials(path: Path) -> list[str]:
    """Names of the credentials that a configuration asks systemd for."""
    return sorted(set(_named(parse(path.read_text(encoding="utf-8"), str(path)).value)))


def _named(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value.startswith(_CREDENTIAL):
            yield value.removeprefix(_CREDENTIAL)
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _named(inner)


def _is_path(model: str) -> bool:
    return "/" in model or Path(model).suffix in (".yaml", ".yml")


def _absent(name: str, stores: list[Path]) -> None:
    try:
        ModelStore(stores[0]).find(name)
    except CardError as error:
        raise InstallError(str(error)) from None


def _give_away(folder: Path) -> None:
    """To the service, whatever rights the files had where they came from."""
    for path in (folder, *folder.rglob("*")):
        own(path, f"{layout.ACCOUNT}:{layout.ACCOUNT}")
        path.chmod(0o755 if path.is_dir() else 0o644)
