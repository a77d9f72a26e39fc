"""YAML that remembers where everything stood, and that no file makes larger than it looks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from agent.errors import ConfigError
from engines.lines import one_line, printable

MOST_LETTERS = 250_000
"""Of a file: hundreds of cameras."""
MOST_VALUES = 50_000
"""Likewise, what stands behind an alias counted again each time: a few lines of aliases of aliases are billions."""
MOST_DEPTH = 40
"""Lists in lists; the deepest section needs a dozen."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2's booleans: in 1.1, which PyYAML speaks, the key `on` of a cascade would be read as true."""

    _depth = _values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As PyYAML does, which would go down until Python gives up."""
        self._depth += 1
        self._values += 1
        if self._depth > MOST_DEPTH or self._values > MOST_VALUES:
            what = "nested too deeply" if self._depth > MOST_DEPTH else f"more than {MOST_VALUES} values"
            raise yaml.MarkedYAMLError(problem=what, problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """As PyYAML does, whose readers of dates, numbers and the like raise whatever Python raises, without a line."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, AttributeError, LookupError, TypeError):
            kind = node.tag.rpartition(":")[2]
            raise yaml.MarkedYAMLError(problem=f"a {kind} that is none", problem_mark=node.start_mark) from None

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
    if len(text) > MOST_LETTERS:
        raise ConfigError(f"{name}:1: has {len(text)} letters, which is no configuration: at most {MOST_LETTERS}")
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                raise ConfigError(f"{name}:1: expected keys such as 'agent:', 'models:' and 'cameras:'")
            _looked_through(node, name, {})
            return Located(loader.construct_document(node), node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = _unquoted(error.problem or error.context or "")
        raise ConfigError(f"{name}:{mark.line + 1 if mark else 1}: not YAML: {what}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{name}:{line}: not YAML: the character {error.character:#x} cannot be in it") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{name}:1: not YAML: {one_line(str(error))}") from None


def key_of(text: str) -> str:
    """A key as errors show it: where a space is missing, as in `{password:geheim}`, its value is part of it."""
    key = re.match(r"[\w.-]*", text)
    shown = key[0] if key else ""
    return shown if shown == text else f"{shown}…"


def _unquoted(problem: str) -> str:
    """What PyYAML says, less what it quotes of the file: of a password that begins with `*`, that it is no alias."""
    what = re.sub(r" '(?!<|\\[a-z]')[^']{2,}'|(?<= )\"[^\"]{2,}\"", "", problem)
    if "alias" in what or "tag" in what or "anchor" in what:
        what += " (a value that begins with *, & or ! needs quotes)"
    return printable(what)


def _looked_through(node: yaml.Node, name: str, known: dict[int, int]) -> int:
    """How many values a node stands for, aliases followed. Raises ConfigError for repeated keys and too many values.

    `known`: of nodes that have been looked through; 0: of those that this one is in.
    """
    if (values := known.get(id(node))) is not None:  # an alias
        if not values:
            raise ConfigError(f"{name}:{node.start_mark.line + 1}: not YAML: an alias of what it is in")
        return values
    known[id(node)], values = 0, 1
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{name}:{key.start_mark.line + 1}: a key must be a plain word")
            if key.value in keys:
                raise ConfigError(f"{name}:{key.start_mark.line + 1}: {key_of(key.value)}: given twice")
            keys.add(key.value)
            values += _looked_through(value, name, known)
    elif isinstance(node, yaml.SequenceNode):
        values += sum(_looked_through(item, name, known) for item in node.value)
    if values > MOST_VALUES:
        raise ConfigError(
            f"{name}:{node.start_mark.line + 1}: more than {MOST_VALUES} values (what an alias stands for counts again)"
        )
    known[id(node)] = values
    return values
