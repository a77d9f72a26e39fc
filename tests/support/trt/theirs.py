"""What a source asks of TensorRT: checked against the bindings of one version."""

from __future__ import annotations

import ast

from tests.support.trt import signatures
from tests.support.trt.reading import Reading
from tests.support.trt.source import Scope
from tests.support.trt.values import (
    NOTHING,
    PLAIN,
    UNKNOWN,
    Callable,
    Class,
    Many,
    Object,
    Values,
)


class Theirs:
    """Asks the bindings for members and calls; complains where they have no such."""

    def __init__(self, reading: Reading, scope: Scope) -> None:
        self.reading, self.scope, self.api = reading, scope, reading.api

    def complain(self, node: ast.AST, what: str) -> None:
        """Note it, once."""
        self.reading.problems[f"{self.scope.path}:{getattr(node, 'lineno', 0)}: {what}"] = None

    def _member(self, node: ast.AST, kind: str, name: str, *, bound: bool = True) -> Values:
        if name in ("__name__", "__members__", "__class__", "__doc__", "name", "value") and self.api.is_enum(kind):
            return frozenset({Many(frozenset({Object(kind)}))}) if name == "__members__" else PLAIN
        self.reading.used.add(f"{kind}.{name}")
        member = self.api.member(kind, name)
        if member is None:
            self.complain(node, f"{kind} has no {name}")
            return UNKNOWN
        match member["kind"]:
            case "class":
                return frozenset({Class(member["name"])})
            case "method":
                return frozenset({Callable(kind, name, bound=bound and not member["static"])})
        return self.reading.object_of(member["type"]) if bound or member["kind"] == "constant" else UNKNOWN

    def _set(self, node: ast.Attribute, owner: str, values: Values) -> None:
        member = self.api.member(owner, node.attr)
        self.reading.used.add(f"{owner}.{node.attr}")
        if member is None:
            self.complain(node, f"{owner} has no {node.attr}")
        elif not member.get("set"):
            self.complain(node, f"{owner}.{node.attr} cannot be set")
        else:
            self._typed(node, f"{owner}.{node.attr}", member["type"], values)

    def _theirs(
        self,
        node: ast.Call,
        function: Callable,
        positional: list[Values],
        named: dict[str, Values],
        *,
        all_known: bool,
    ) -> Values:
        """A call of TensorRT's: some overload must take it, where all of its arguments are known."""
        what = ".".join(filter(None, (function.owner, function.name))).removesuffix(".__init__")
        self.reading.used.add(what)
        overloads = self.api.overloads(function.owner, function.name)
        wrong, mistyped, found = [], [], NOTHING
        for overload in overloads:
            found |= self.reading.object_of(overload.returns)
            if not all_known:
                continue
            bound = signatures.bind(overload, len(positional), list(named), bound=function.bound)
            if isinstance(bound, str):
                wrong.append(bound)
                continue
            given: dict[int | str, Values] = dict(enumerate(positional))
            given.update(named)
            strange = [s for at, p in bound.items() if (s := self._strange(p.type, given[at]))]
            if not strange:
                return self.reading.object_of(overload.returns)
            mistyped += strange
        if mistyped or (wrong and len(wrong) == len(overloads)):
            self.complain(node, f"{what} {(mistyped or wrong)[0]}")
        return found or UNKNOWN

    def _returned(self, owner: str, name: str) -> Values:
        found = NOTHING
        for overload in self.api.overloads(owner, name):
            found |= self.reading.object_of(overload.returns)
        return found or UNKNOWN

    def _strange(self, type_: str, values: Values) -> str | None:
        """Why an argument that is TensorRT's is not what the signature wants; None: it is, or nobody knows."""
        wanted = self.api.named(type_)
        given = {v for v in values if isinstance(v, Object)}
        if wanted is None:
            # An enumeration is an integer where one is wanted; nothing else of TensorRT's is a plain value.
            plain = type_.rpartition(".")[2] in ("int", "SupportsInt", "SupportsIndex", "str", "bool", "float")
            wrong = {v.kind for v in given if plain and not (self.api.is_enum(v.kind) and "int" in type_.lower())}
        else:
            # Flags are passed as integers, shapes as tuples: pybind11 makes one into the other.
            wrong = {v.kind for v in given if not self.api.is_a(v.kind, wanted)}
        return f"wants {type_}, is given {', '.join(sorted(wrong))}" if wrong else None

    def _typed(self, node: ast.AST, what: str, type_: str, values: Values) -> None:
        if strange := self._strange(type_, values):
            self.complain(node, f"{what} {strange}")
