"""Writes the page where nothing half-written is ever found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from calibration.errors import CalibrationError
from calibration.proof import Proof
from calibration.report.compared import Compared
from calibration.report.page import page_of, render
from calibration.report.side_by_side import SideBySide


def write_report(proof: Proof, comparisons: Sequence[SideBySide], out: Path) -> None:
    """Write the page of a conversion; `comparisons`, worst first, are its pictures.

    The same proof and pictures give the same bytes. Raises CalibrationError if it cannot be written; a page that was
    there before then stays as it was.
    """
    _write(render(page_of(proof, comparisons)), out)


def write_comparison(compared: Compared, comparisons: Sequence[SideBySide], out: Path) -> None:
    """Write the page of two models on the same pictures; as `write_report`."""
    _write(render(page_of(compared, comparisons)), out)


def _write(page: str, out: Path) -> None:
    partial = out.with_name(f"{out.name}.partial")
    try:
        partial.write_bytes(page.encode("utf-8"))
        partial.replace(out)
    except OSError as error:
        raise CalibrationError(
            f"{out}: the report cannot be written ({error.strerror}): make room there or name another place"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
