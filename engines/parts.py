"""How parts are found: the modules of a package, and entry points of other distributions.

A part is a module with a class `Config` (pydantic) whose field `type` is a Literal: its names in the configuration.
Adding a part is adding one such file, or an entry point that names such a class.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from typing import Any, cast, get_args

from pydantic import BaseModel


@cache
def _installed() -> Any:  # EntryPoints; Python 3.10 has another class for it
    """Read once: it looks at every distribution of the environment."""
    return entry_points()


@cache
def find_parts(package: str, group: str) -> dict[str, type[BaseModel]]:
    """Type name -> config class, of every built-in part of `package` and every entry point of `group`.

    Raises ImportError naming the entry point that does not load, ValueError where two parts claim one name.
    """
    found: dict[str, type[BaseModel]] = {}
    classes = []
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if module.name.startswith("_"):
            continue
        config = getattr(importlib.import_module(f"{package}.{module.name}"), "Config", None)
        if config is not None:
            classes.append((f"{package}.{module.name}", config))
    for entry in _installed().select(group=group):
        try:
            classes.append((entry.value, entry.load()))
        except Exception as error:
            raise ImportError(f"entry point {entry.value} of group {group} does not load: {error}") from error
    for where, config in classes:
        for name in get_args(config.model_fields["type"].annotation):
            if name in found:
                raise ValueError(f"{where}: type {name!r} is taken by {found[name].__module__}")
            found[name] = config
    return found


def find_part(package: str, group: str, name: object) -> type[BaseModel] | None:
    """Config class of one part, None if there is none of that name. Raises as `find_parts`.

    A built-in part that has its module's name is found without the others being imported: an agent starts sooner.
    """
    if not isinstance(name, str):
        return None
    if name.isidentifier() and not name.startswith("_"):
        with contextlib.suppress(ModuleNotFoundError):
            config = getattr(importlib.import_module(f"{package}.{name}"), "Config", None)
            if config is not None and name in get_args(config.model_fields["type"].annotation):
                return cast(type[BaseModel], config)
    return find_parts(package, group).get(name)
