"""What is known of the sources under one version, so far."""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass, field

from tests.support.trt import signatures
from tests.support.trt.api import Api
from tests.support.trt.source import Scope, Source
from tests.support.trt.values import NOTHING, PLAIN, UNKNOWN, Many, Object, Row, Scalar, Values, constant


@dataclass
class Reading:
    """Sources under one version; everything that is known only ever grows."""

    source: Source
    api: Api
    names: dict[tuple[str, str], Values] = field(default_factory=lambda: defaultdict(frozenset))
    """(key of a scope, variable or attribute) -> what it can be."""
    results: dict[str, Values] = field(default_factory=lambda: defaultdict(frozenset))
    """Key of a function -> what it returns."""
    reached: set[str] = field(default_factory=set)
    spoken: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Name of a function -> keys of the scopes that speak of it where they are come to."""
    problems: dict[str, None] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    changed: bool = True
    settled: bool = False
    """All that could be followed has been: what has no value yet is unknown."""
    passed: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Key of a function -> parameters that it returns as they came."""

    def is_reached(self, scope: Scope) -> bool:
        """Spoken of in what is reached; what nobody here speaks of is called from elsewhere, or by TensorRT."""
        if scope.parent is None or scope.key in self.reached:
            return True
        if scope.parent.key not in self.reached:
            return False
        if isinstance(scope.node, ast.ClassDef) or scope.name.startswith("__"):
            return True
        return self.is_called_from_elsewhere(scope) or bool(self.spoken[scope.name] - {scope.key})

    def speak(self, name: str, scope: str) -> None:
        """A function may be meant."""
        if name in self.source.by_name and scope not in self.spoken[name]:
            self.spoken[name].add(scope)
            self.changed = True

    @property
    def unknown(self) -> Values:
        """What is known of something that has no value yet."""
        return UNKNOWN if self.settled else NOTHING

    def is_called_from_elsewhere(self, scope: Scope) -> bool:
        """Nobody in the sources speaks of it."""
        return not self.source.referred[scope.name] - {scope.key}

    def learn(self, scope: str, name: str, values: Values) -> None:
        """That it can be these, too."""
        if not values <= self.names[scope, name]:
            self.names[scope, name] |= values
            self.changed = True

    def returns(self, scope: str, values: Values) -> None:
        """That the function can return these, too."""
        if not values <= self.results[scope]:
            self.results[scope] |= values
            self.changed = True

    def object_of(self, type_: str) -> Values:
        """What an object of a type, as a signature writes it, is."""
        head, _, inside = type_.partition("[")
        if inside and head.rpartition(".")[2].lower() in ("list", "sequence", "iterable", "set", "collection"):
            return frozenset({Many(self.object_of(inside[:-1]))})
        if inside and head.rpartition(".")[2].lower() == "tuple":
            return frozenset({Row(tuple(self.object_of(part) for part in signatures.split(inside[:-1])))})
        if type_.rpartition(".")[2] in ("int", "float", "bool", "str"):
            return frozenset({Scalar()})
        if found := self.api.named(type_):
            return frozenset({Object(found)})
        return PLAIN if type_ else UNKNOWN

    def feature(self, name: str) -> Values:
        """A field or property of `Features` under this version."""
        found = self.api.features.get(name)
        if found is None:
            return UNKNOWN
        if found["none"]:
            return constant(None)
        if found["type"] == "bool":
            return constant(found["true"])
        if "values" in found:
            return frozenset({Many(frozenset(Object(v) for v in found["values"] if v in self.api.classes))})
        return self.object_of(found["type"])
