"""Run with one version's bindings on the path: prints what is in their namespace, as JSON.

A class is {"bases", "members"}; a member is {"kind": method | property | constant | class, ...}. Methods and
functions carry "signatures": the first lines of their docstrings, where pybind11 writes each overload. Constants
carry the "type" they are of, properties the type that reading gives ("" unknown) and whether they can be "set".
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from collections.abc import Mapping
from typing import Any

NAMESPACES = ("tensorrt_bindings", "tensorrt_rtx_bindings")


def signatures(function: Any) -> list[str]:
    """`name(self: T, ...) -> R` of each overload; [] where nobody knows."""
    document = getattr(function, "__doc__", None) or ""
    first, *rest = document.splitlines() or [""]
    if rest and rest[0].startswith("Overloaded function"):
        return [found[1] for line in rest if (found := re.match(r"\d+\. (\w+\(.*)", line))]
    if re.match(r"\w+\(.*\)( -> .*)?$", first):
        return [first]
    if not callable(function):
        return []
    try:
        return [f"{function.__name__}{inspect.signature(function)}"]
    except (TypeError, ValueError):
        return []


def member(owner: type, name: str) -> dict[str, Any]:
    """What `owner.name` is."""
    found = inspect.getattr_static(owner, name)
    value = getattr(owner, name)
    if isinstance(found, property):
        (said,) = signatures(found.fget) or [""]
        return {"kind": "property", "type": said.partition(" -> ")[2], "set": found.fset is not None}
    if inspect.isclass(value):
        return {"kind": "class", "name": value.__qualname__}
    if callable(value):
        return {"kind": "method", "static": isinstance(found, staticmethod), "signatures": signatures(value)}
    return {"kind": "constant", "type": type(value).__qualname__}


def classes(namespace: Any) -> dict[str, Any]:
    """Every class by its dotted name, nested ones too."""
    found: dict[str, Any] = {}

    def see(dotted: str, kind: type) -> None:
        names = [n for n in dir(kind) if (n not in dir(object) or n == "__init__") and "pybind11" not in n]
        members = {n: member(kind, n) for n in names}
        found[dotted] = {"bases": [b.__qualname__ for b in kind.__mro__[1:-1]], "members": members}
        for n, m in members.items():
            if m["kind"] == "class" and m["name"] == f"{dotted}.{n}":
                see(m["name"], getattr(kind, n))

    for name in dir(namespace):
        if inspect.isclass(value := getattr(namespace, name)) and "tensorrt" in value.__module__:
            see(name, value)
    return found


def others(namespace: Any) -> dict[str, Any]:
    """Everything of the namespace that is no class."""
    values = {n: getattr(namespace, n) for n in dir(namespace) if not inspect.isclass(getattr(namespace, n))}
    return {
        name: {"kind": "function", "signatures": signatures(value)}
        if callable(value)
        else {"kind": "constant", "type": type(value).__qualname__}
        for name, value in values.items()
    }


def features(namespace: Any) -> dict[str, Any]:
    """What sightwire makes of it, by feature: whether it is true, whether it is None, its class; values of mappings."""
    from engines.trt.features import Features

    seen = Features.of(namespace)
    static = {n: inspect.getattr_static(seen, n) for n in dir(seen) if not n.startswith("_")}
    names = [n for n, value in static.items() if not inspect.isroutine(value) and not isinstance(value, classmethod)]
    found: dict[str, Any] = {}
    for name in names:
        value = getattr(seen, name)
        found[name] = {"true": bool(value), "none": value is None, "type": type(value).__qualname__}
        if isinstance(value, Mapping):
            found[name]["values"] = sorted({type(v).__qualname__ for v in value.values()})
    return found


def main() -> None:
    """The first of the two namespaces that is there."""
    for name in NAMESPACES:
        try:
            namespace = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            continue
        said = {"version": namespace.__version__, "classes": classes(namespace), "others": others(namespace)}
        json.dump({**said, "features": features(namespace)}, sys.stdout)
        return
    sys.exit("no bindings are on the path")


if __name__ == "__main__":
    main()
