"""Names of the ways to find ranges, as people write them."""

from __future__ import annotations

import difflib

from calibration.errors import CalibrationError
from calibration.ranges import METHODS
from calibration.search.auto import AUTO


def checked(name: str) -> str:
    """The method that is called so. Raises CalibrationError that names the nearest one."""
    if name in (AUTO, *METHODS):
        return name
    known = [AUTO, *METHODS]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    raise CalibrationError(f"--method {name}: there is no such method; {hint}")
