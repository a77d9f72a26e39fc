"""TensorRT as it is installed: `tensorrt` (Jetson, desktop, data centre) or `tensorrt_rtx` (RTX desktops).

Importing either makes no Runtime: that of a lean installation without a driver ends the process (`engines.cuda.probe`
comes first). Nothing here needs a GPU.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, field
from importlib.metadata import distributions
from importlib.util import find_spec
from typing import Any, Literal, get_args

from engines.errors import BackendError, first_line

Name = Literal["tensorrt", "tensorrt_rtx"]


@dataclass(frozen=True)
class Flavour:
    """One of the two, loaded."""

    name: Name
    trt: Any = field(repr=False)
    """Its namespace: what every part of `engines.trt` takes as a parameter."""
    version: str

    def __str__(self) -> str:
        """`tensorrt 10.3.0`."""
        return f"{self.name} {self.version}"


def find(name: Name | None = None) -> tuple[Name, ...]:
    """The flavours that are installed, of those that would do: `tensorrt` first. Nothing is imported.

    Raises BackendError that says what to do where there are none.
    """
    found = tuple(flavour for flavour in (get_args(Name) if name is None else (name,)) if _is_there(flavour))
    if not found:
        raise BackendError(
            f"{name or 'TensorRT'} is not installed for {sys.executable}{_instead(name)}; "
            "`sightwire doctor` says how to install it"
        )
    return found


def load(name: Name | None = None) -> Flavour:
    """Import the flavour of that name; without a name `tensorrt`, and `tensorrt_rtx` where that does not load.

    Raises BackendError that says what is installed, why it does not load, and what to do.
    """
    failed = []
    for candidate in find(name):
        try:
            trt = importlib.import_module(candidate)
            return Flavour(candidate, trt, str(trt.__version__))
        except Exception as error:  # noqa: BLE001  # its libraries' loaders raise ImportError, OSError and their own
            failed.append(f"{candidate} does not load: {first_line(error, 300)}")
    raise BackendError(f"{'; '.join(failed)}{_packages()}; `sightwire doctor` says what is missing")


def check_builds(flavour: Flavour) -> None:
    """Raise BackendError for one that runs plans and makes none."""
    if not hasattr(flavour.trt, "Builder"):
        raise BackendError(
            f"{flavour} runs plans and builds none (a lean or dispatch runtime): install the whole of TensorRT, or "
            "build the plan on a machine like this one (sightwire build)"
        )


def _is_there(name: str) -> bool:
    if name in sys.modules:
        return sys.modules[name] is not None
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _instead(name: Name | None) -> str:
    others = [other for other in get_args(Name) if name and other != name and _is_there(other)]
    return f" ({others[0]} is)" if others else ""


def _packages() -> str:
    """Packages of TensorRT that pip knows; a Jetson's come from apt and have no such names."""
    found = {f"{d.name} {d.version}" for d in distributions() if (d.name or "").lower().startswith("tensorrt")}
    return f" (installed: {', '.join(sorted(found))})" if found else ""
