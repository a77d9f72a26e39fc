"""What pybind11 writes of a function, read: `set_shape(self: a.b.T, min: Dims, flags: int = 0) -> bool`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["either", "position", "keyword", "rest", "rest of keywords"]
OPENING, CLOSING = "([{<", ")]}>"


@dataclass(frozen=True)
class Parameter:
    """One of a signature."""

    name: str
    type: str
    """As it stands there; "" unknown."""
    optional: bool
    kind: Kind


@dataclass(frozen=True)
class Signature:
    """One overload."""

    parameters: tuple[Parameter, ...]
    returns: str


def split(text: str, at: str = ",") -> list[str]:
    """Cut at each separator that stands in no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for before, character in zip(" " + text, text, strict=False):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in OPENING:
            depth += 1
        elif character in CLOSING and before + character != "->":
            depth -= 1
        if character == at and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def read(text: str) -> Signature:
    """Of one line. Raises ValueError for anything else."""
    found = re.match(r"[\w<>]+\((.*)\)(?: -> (.*))?$", text)
    if not found:
        raise ValueError(f"no signature: {text}")
    parameters: list[Parameter] = []
    kind: Kind = "either"
    for part in split(found[1]):
        if part == "/":
            parameters = [Parameter(p.name, p.type, p.optional, "position") for p in parameters]
            continue
        if part.startswith("*"):
            name = part.lstrip("*").partition(":")[0]
            if part.startswith("**"):
                parameters.append(Parameter(name, "", True, "rest of keywords"))
            elif name:
                parameters.append(Parameter(name, "", True, "rest"))
            kind = "keyword"
            continue
        declared, *default = split(part, "=")
        name, _, type_ = declared.partition(":")
        # Parameters that the bindings gave no name are written arg0, arg1, ..., and take no keyword.
        own = "position" if re.fullmatch(r"arg\d+", name) else kind
        parameters.append(Parameter(name.strip(), type_.strip(), bool(default), own))
    return Signature(tuple(parameters), (found[2] or "").strip())


def bind(
    signature: Signature, positional: int, keywords: list[str], *, bound: bool
) -> dict[int | str, Parameter] | str:
    """Which parameter each argument goes to (by position, by keyword), or why they do not fit.

    `bound`: the first parameter, self, has been given.
    """
    takes = list(signature.parameters[1:] if bound else signature.parameters)
    by_place = [p for p in takes if p.kind in ("either", "position")]
    rest = next((p for p in takes if p.kind == "rest"), None)
    others = next((p for p in takes if p.kind == "rest of keywords"), None)
    if positional > len(by_place) and not rest:
        return f"takes {len(by_place)} positional arguments, {positional} are given"
    found: dict[int | str, Parameter] = {}
    for place in range(positional):
        found[place] = by_place[place] if place < len(by_place) else rest or by_place[-1]
    given = {p.name for p in by_place[:positional]}
    by_name = {p.name: p for p in takes if p.kind in ("either", "keyword")}
    for name in keywords:
        if name in given:
            return f"is given {name} twice"
        if name not in by_name and not others:
            return f"takes no {name}: {', '.join(by_name) or 'no keywords'}"
        found[name] = by_name.get(name) or others or takes[0]
        given.add(name)
    absent = [p.name for p in takes if not p.optional and p.name not in given]
    return f"lacks {', '.join(absent)}" if absent else found
