"""JSON Schema (draft 2020-12) of payloads."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, TypeAdapter

from agent.schema.topics import PAYLOADS

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, Schema]:
    """Name -> schema of each payload, complete in itself."""
    return {name: {"$schema": DIALECT, "title": f"sightwire.{name}/1", **schema_of(name)} for name in PAYLOADS}


def schema_of(name: str) -> Schema:
    """The schema of one payload, what it refers to in `$defs`."""
    kind = PAYLOADS[name]
    schema = TypeAdapter(kind).json_schema()
    shapes = schema.get("$defs", {})
    for model in dict.fromkeys(_models(kind)):
        shape = shapes.get(model.__name__, schema)
        _describe(shape, model)
        if name != "command" and "schema" in shape["properties"]:  # who asks may leave it out
            shape["required"] = ["schema", *shape.get("required", ())]
    tidied: Schema = _tidy(schema)
    return tidied


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    """The models that a type is made of."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
        for field in kind.model_fields.values():
            yield from _models(field.annotation)
    for part in getattr(kind, "__args__", ()):
        yield from _models(part)


def _describe(shape: Schema, model: type[BaseModel]) -> None:
    """Say of each field what the text under it says; where a field refers to a model, that one describes itself."""
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            for name, text in _texts(base):
                field = model.model_fields[name]
                said = shape["properties"][field.alias or name]
                if "$ref" not in said:
                    said["description"] = text


def _texts(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """(field, the text under it) of a class, bases not included."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    for field, text in pairwise(tree.body if isinstance(tree, ast.ClassDef) else ()):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                yield name, inspect.cleandoc(said).replace("\n", " ")


def _tidy(schema: Any) -> Any:
    """Without what says nothing: titles made of names, and defaults of null; tuples as arrays of so many items.

    (`prefixItems` is unknown to the draft that AsyncAPI builds on.)
    """
    if isinstance(schema, list):
        return [_tidy(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    tidied = {key: value if key == "const" else _tidy(value) for key, value in schema.items() if key not in _NAMED}
    for key in _NAMED & schema.keys():
        tidied[key] = {name: _tidy(value) for name, value in schema[key].items()}
    if isinstance(tidied.get("title"), str):
        del tidied["title"]
    if "default" in tidied and tidied["default"] is None:
        del tidied["default"]
    if "prefixItems" in tidied:
        first, *_ = tidied.pop("prefixItems")
        tidied["items"] = first
    if isinstance(tidied.get("description"), str):
        tidied["description"] = inspect.cleandoc(tidied["description"]).replace("\n", " ").replace("  ", " ")
    return tidied


_NAMED = {"properties", "$defs"}
"""Keys whose values are mappings of the users' own names."""
