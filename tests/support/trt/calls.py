"""Which calls of TensorRT a source makes under one version, and which of them that version does not take.

The sources are read as a whole and not run: `trt` is the namespace wherever a name or attribute is so called, and the
bindings' signatures say what comes out of it; from there values are followed through assignments, attributes,
parameters and results until nothing new is found. What a version's features (`engines.trt.features`) rule out is not
read for that version. So a call that only some versions have is a mistake, unless it stands behind a feature.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from tests.support.trt.api import Api
from tests.support.trt.reading import Reading
from tests.support.trt.source import Source
from tests.support.trt.statements import Body, Definition


@dataclass(frozen=True)
class Found:
    """What was found under one version."""

    problems: tuple[str, ...]
    """`file:line: what is wrong`, each once."""
    used: frozenset[str]
    """`IExecutionContext.execute_async_v3`: every name of TensorRT's that is asked for."""
    reached: frozenset[str]
    """Functions that this version comes to."""


def calls(source: Source, api: Api) -> Found:
    """Read the sources for one version, until nothing new is found."""
    reading = Reading(source, api)
    for reading.settled in (False, True):
        reading.changed = True
        while reading.changed:
            _read_once(reading)
    functions = {s.key for s in source.functions()}
    return Found(tuple(reading.problems), frozenset(reading.used), frozenset(reading.reached & functions))


def _read_once(reading: Reading) -> None:
    """Everything that is come to; whether there was something new stands in the reading."""
    reading.changed = False
    reading.problems.clear()
    for key, scope in reading.source.scopes.items():
        if not reading.is_reached(scope):
            continue
        if key not in reading.reached:
            reading.reached.add(key)
            reading.changed = True
        if isinstance(scope.node, ast.ClassDef):
            Definition(reading, scope).read()
        else:
            Body(reading, scope).read()
