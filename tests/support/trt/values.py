"""What an expression of a source can be, as far as TensorRT is concerned."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unknown:
    """Nobody knows."""


@dataclass(frozen=True)
class Plain:
    """Something, and nothing of TensorRT's."""


@dataclass(frozen=True)
class Scalar:
    """A number or a text that TensorRT gives: not None."""


@dataclass(frozen=True)
class Empty:
    """A collection that was written as one of nothing."""


@dataclass(frozen=True)
class Constant:
    """None, true or false."""

    value: bool | None


@dataclass(frozen=True)
class Namespace:
    """`tensorrt` itself."""


@dataclass(frozen=True)
class Class:
    """A class of TensorRT's, not an object of it."""

    name: str


@dataclass(frozen=True)
class Object:
    """An object of that class of TensorRT's; a member, where it is an enumeration."""

    kind: str


@dataclass(frozen=True)
class Callable:
    """A method of TensorRT's, bound to an object or not, or (owner None) a function."""

    owner: str | None
    name: str
    bound: bool


@dataclass(frozen=True)
class OwnClass:
    """A class of the sources that are read."""

    key: str


@dataclass(frozen=True)
class OwnObject:
    """An object of such a class."""

    key: str


@dataclass(frozen=True)
class OwnFunction:
    """A function of the sources that are read; with its first argument given, or not."""

    key: str
    bound: bool


@dataclass(frozen=True)
class Many:
    """A collection, or the values of a mapping, of these."""

    elements: frozenset[Value]


@dataclass(frozen=True)
class Row:
    """A tuple of known length."""

    elements: tuple[frozenset[Value], ...]


Value = (
    Unknown
    | Plain
    | Scalar
    | Empty
    | Constant
    | Namespace
    | Class
    | Object
    | Callable
    | OwnClass
    | OwnObject
    | OwnFunction
    | Many
    | Row
)
Values = frozenset[Value]
"""What it can be."""

NOTHING: Values = frozenset()
UNKNOWN: Values = frozenset({Unknown()})
PLAIN: Values = frozenset({Plain()})


def constant(value: bool | None) -> Values:
    """That one and nothing else."""
    return frozenset({Constant(value)})


def elements(values: Values) -> Values:
    """What going through it gives."""
    found: set[Value] = set()
    for value in values:
        if isinstance(value, Many):
            found |= value.elements
        elif isinstance(value, Row):
            found.update(*value.elements)
        elif isinstance(value, Empty):
            continue
        elif isinstance(value, Plain | Scalar):
            found.add(value)
        else:
            found.add(Unknown())
    return frozenset(found)
