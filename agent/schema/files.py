"""The schemas as files."""

from __future__ import annotations

import functools
import json
from typing import Any

import yaml

from agent.schema.asyncapi import document
from agent.schema.json_schema import schemas

ASYNCAPI = "asyncapi.yaml"


@functools.cache
def files() -> dict[str, str]:
    """Name of the file -> its text."""
    return {
        **{f"{name}.json": as_json(schema) for name, schema in schemas().items()},
        ASYNCAPI: as_yaml(document()),
    }


def as_json(value: Any) -> str:
    """Indented, with a newline at the end."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def as_yaml(value: Any) -> str:
    """In the order in which it was made; paragraphs as such, and what is used twice written twice."""
    text: str = yaml.dump(value, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)
    return text


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # none at all
        return True


_Plain.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)
