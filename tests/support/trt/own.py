"""Classes and functions of the sources themselves: what their attributes, arguments and annotations are."""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from collections.abc import Iterable

from tests.support.trt.source import Scope
from tests.support.trt.theirs import Theirs
from tests.support.trt.values import (
    NOTHING,
    PLAIN,
    UNKNOWN,
    Class,
    Many,
    Object,
    OwnClass,
    OwnFunction,
    OwnObject,
    Values,
)


class Own(Theirs, ABC):
    """Follows values through what the sources define."""

    @abstractmethod
    def value(self, node: ast.AST) -> Values:
        """What an expression can be; everything in it is read."""

    def bases(self, key: str) -> Iterable[OwnClass | Class]:
        """What a class of the sources derives from, nearest first."""
        scope = self.reading.source.scopes[key]
        assert isinstance(scope.node, ast.ClassDef)
        for base in scope.node.bases:
            for value in type(self)(self.reading, scope).value(base):
                if isinstance(value, Class):
                    yield value
                elif isinstance(value, OwnClass) and value.key != key:
                    yield value
                    yield from self.bases(value.key)

    def _own(self, node: ast.AST, key: str, name: str, *, bound: bool) -> Values:
        """An attribute of a class of the sources, or of an object of it."""
        scope = self.reading.source.scopes[key]
        if scope.name == "Features" and bound and name in self.api.features:
            return self.reading.feature(name)
        found = self.reading.names.get((key, name), NOTHING)
        if inner := scope.inner.get(name):
            if isinstance(inner.node, ast.ClassDef):
                return found | {OwnClass(inner.key)}
            if inner.is_("property", "cached_property"):
                return found | self.reading.results[inner.key]
            static = inner.is_("staticmethod")
            return found | {OwnFunction(inner.key, bound=not static and (bound or inner.is_("classmethod")))}
        if found:
            return found
        for base in self.bases(key):
            if isinstance(base, Class):
                if self.api.member(base.name, name):
                    return self._member(node, base.name, name, bound=bound)
            elif got := self._own(node, base.key, name, bound=bound):
                return got - UNKNOWN or UNKNOWN
        return self.reading.unknown

    def _super(self) -> Values:
        inside: Scope | None = self.scope
        while inside is not None and not isinstance(inside.node, ast.ClassDef):
            inside = inside.parent
        if inside is None:
            return UNKNOWN
        for base in self.bases(inside.key):
            return frozenset({Object(base.name) if isinstance(base, Class) else OwnObject(base.key)})
        return PLAIN

    def _give(
        self, scope: Scope, positional: list[Values], named: dict[str, Values], *, bound: bool
    ) -> dict[str, Values]:
        """Arguments become what the parameters of a function of the sources can be; returns them by name."""
        if not isinstance(scope.node, ast.FunctionDef | ast.AsyncFunctionDef):
            return {}
        arguments = scope.node.args
        places = [a.arg for a in (*arguments.posonlyargs, *arguments.args)][1 if bound else 0 :]
        known = {*places, *(a.arg for a in arguments.kwonlyargs)}
        given = {**dict(zip(places, positional, strict=False)), **{n: v for n, v in named.items() if n in known}}
        for name, values in given.items():
            self.reading.learn(scope.key, name, values)
        return given

    def _make(self, key: str, positional: list[Values], named: dict[str, Values]) -> None:
        """An object of a class of the sources: by its `__init__`, or a dataclass by its fields in order."""
        scope = self.reading.source.scopes[key]
        if making := scope.inner.get("__init__"):
            self._give(making, positional, named, bound=True)
            return
        assert isinstance(scope.node, ast.ClassDef)
        fields = [
            s.target.id for s in scope.node.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)
        ]
        for name, values in [*zip(fields, positional, strict=False), *named.items()]:
            if name in fields:
                self.reading.learn(key, name, values)

    def annotated(self, annotation: ast.expr | None) -> Values:
        """What an annotation says: a class of the sources, something plain, or, with Any, nothing."""
        if annotation is None:
            return NOTHING
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            annotation = ast.parse(annotation.value, mode="eval").body
        names = {n.id for n in ast.walk(annotation) if isinstance(n, ast.Name)}
        own = [s for n in names if (s := self.reading.source.find(self.scope, n)) and isinstance(s.node, ast.ClassDef)]
        if not own:
            return NOTHING if "Any" in names else PLAIN
        objects: Values = frozenset(OwnObject(s.key) for s in own)
        collected = isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) not in ("Optional", "type")
        return frozenset({Many(objects)}) if collected else objects
