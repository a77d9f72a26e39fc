"""YAML that remembers where everything stood."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from agent.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """YAML 1.2's booleans: in 1.1, which PyYAML speaks, the key `on` of a cascade would be read as true."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # as PyYAML declares it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


@dataclass(frozen=True)
class Located:
    """A parsed document and its nodes."""

    value: Any
    _root: yaml.Node

    def line(self, path: tuple[Any, ...]) -> int:
        """Line, from 1, of the key or item at a path; of the nearest one above it if there is none."""
        node, line = self._root, self._root.start_mark.line
        for part in path:
            below = _below(node, part)
            if below is None:
                break
            line, node = below
        return line + 1

    def real_path(self, location: tuple[Any, ...], *, missing: bool = False) -> tuple[Any, ...]:
        """A pydantic location less the parts that are not in the file (tags of unions, names of validators).

        `missing`: the last part is a key that should be there.
        """
        node: yaml.Node | None = self._root
        real: list[Any] = []
        for index, part in enumerate(location):
            below = _below(node, part) if node is not None else None
            if below is None and not (missing and index == len(location) - 1):
                continue
            real.append(part)
            node = below[1] if below else None
        return tuple(real)


def _below(node: yaml.Node, part: Any) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = node.value[part]
        return item.start_mark.line, item
    return None


def parse(text: str, name: str) -> Located:
    """Parse one YAML mapping. Raises ConfigError, with the line, for anything else and for repeated keys."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                raise ConfigError(f"{name}:1: expected keys such as 'agent:', 'models:' and 'cameras:'")
            _refuse_repeated(node, name, set())
            return Located(loader.construct_document(node), node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(
            f"{name}:{mark.line + 1 if mark else 1}: not YAML: {error.problem or error.context}"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise ConfigError(f"{name}:1: not YAML: {' '.join(str(error).split())}") from None


def _refuse_repeated(node: yaml.Node, name: str, seen: set[int]) -> None:
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{name}:{key.start_mark.line + 1}: a key must be a plain word")
            if key.value in keys:
                raise ConfigError(f"{name}:{key.start_mark.line + 1}: {key.value}: given twice")
            keys.add(key.value)
            _refuse_repeated(value, name, seen)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated(item, name, seen)
