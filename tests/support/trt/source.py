"""The sources that are read for calls: their functions and classes by name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(eq=False)
class Scope:
    """A module, a class or a function: what it defines, and what it stands in."""

    key: str
    """`engines/trt/log.py:Log.log`."""
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    parent: Scope | None
    inner: dict[str, Scope] = field(default_factory=dict)

    @cached_property
    def elsewhere(self) -> frozenset[str]:
        """Names that it assigns to and that are around it."""
        nodes = own_nodes(self.node)
        return frozenset(name for n in nodes if isinstance(n, ast.Nonlocal | ast.Global) for name in n.names)

    @cached_property
    def stored(self) -> frozenset[str]:
        """Names that it gives a value to, beside those of its parameters."""
        nodes = own_nodes(self.node)
        return frozenset(n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))

    @property
    def path(self) -> str:
        """The file."""
        return self.key.partition(":")[0]

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition(":")[2].rpartition(".")[2]

    def is_method(self) -> bool:
        """A function that stands in a class."""
        return self.parent is not None and isinstance(self.parent.node, ast.ClassDef)

    def is_(self, *decorators: str) -> bool:
        """Whether one of these stands above it."""
        over = getattr(self.node, "decorator_list", [])
        return any(ast.unparse(d).partition("(")[0].rpartition(".")[2] in decorators for d in over)


class Source:
    """Some files, parsed once."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.scopes: dict[str, Scope] = {}
        self.by_name: dict[str, list[Scope]] = defaultdict(list)
        """Functions and classes by their bare names, wherever they are."""
        for path, text in texts.items():
            self._add(Scope(path, ast.parse(text, path), None))
        self.referred: dict[str, set[str]] = defaultdict(set)
        """Which scopes (innermost function, or module) speak of a name."""
        for key, scope in self.scopes.items():
            for node in own_nodes(scope.node):
                if isinstance(node, ast.Name | ast.Attribute):
                    self.referred[node.id if isinstance(node, ast.Name) else node.attr].add(key)

    @classmethod
    def of(cls, root: Path, *patterns: str) -> Source:
        """Those files under a folder."""
        paths = sorted({path for pattern in patterns for path in root.glob(pattern)})
        return cls({str(p.relative_to(root)): p.read_text(encoding="utf-8") for p in paths})

    def _add(self, scope: Scope) -> None:
        self.scopes[scope.key] = scope
        for node in own_nodes(scope.node):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                dot = ":" if scope.parent is None else "."
                inner = Scope(f"{scope.key}{dot}{node.name}", node, scope)
                scope.inner[node.name] = inner
                self.by_name[node.name].append(inner)
                self._add(inner)

    def functions(self) -> Iterator[Scope]:
        """All of them, methods too."""
        return (s for s in self.scopes.values() if isinstance(s.node, ast.FunctionDef | ast.AsyncFunctionDef))

    def find(self, scope: Scope | None, name: str) -> Scope | None:
        """What that name means there: in it, around it, or, imported, the only one so called in any file."""
        inside = scope
        while inside is not None:
            # The names of a class are not seen from its methods.
            if name in inside.inner and (inside is scope or not isinstance(inside.node, ast.ClassDef)):
                return inside.inner[name]
            inside = inside.parent
        top = [s for s in self.by_name.get(name, ()) if s.parent is not None and s.parent.parent is None]
        return top[0] if len(top) == 1 else None


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Everything in it but what stands in functions and classes of its own, which are given themselves."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from own_nodes(child)
