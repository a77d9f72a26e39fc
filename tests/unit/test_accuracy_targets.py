"""`scripts/accuracy` says of each target whether it is met, and its exit status says it of all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from calibration.measures import Comparison
from calibration.proof import Speed
from tests.prove.accuracy import (
    MET,
    MISSED,
    NOT_MEASURED,
    TARGETS,
    Figures,
    Line,
    Settings,
    exit_status,
    lines,
    report,
    verdict,
)

GOOD = Figures(
    Comparison("AP .50:.95", 30.0, 29.5, 0.5, (-0.4, 1.1), 80, {}, 80),
    Speed(fp32_ms=10.0, int8_ms=5.0, bf16_ms=7.0, int8_bf16_ms=6.0, device="a processor"),
    "percentile 99.99",
    kept_float=3,
    operations=60,
    refused=False,
)


def changed(loss: float | None = None, **speed: float | None) -> Figures:
    compared = GOOD.compared if loss is None else replace(GOOD.compared, loss=loss)
    return replace(GOOD, compared=compared, speed=GOOD.speed.model_copy(update=speed))


@pytest.mark.parametrize("model", TARGETS)
def test_what_reaches_every_figure_is_met(model: str) -> None:
    """At the limits too: half a point, and twice the speed."""
    assert all(check.met for check in verdict(TARGETS[model], GOOD))


@pytest.mark.parametrize(
    ("model", "figures"),
    [
        ("person-ssdlite", changed(loss=0.51)),
        ("yolox-nano", changed(loss=0.81)),
        ("efficientnet-lite0", changed(int8_ms=5.1)),
        ("nanodet-m", changed(int8_ms=7.5)),
        ("nanodet-m", changed(int8_bf16_ms=7.01)),
        ("yolox-nano", changed(int8_bf16_ms=7.0)),
        ("person-ssdlite", replace(GOOD, refused=True)),
    ],
)
def test_what_misses_one_figure_is_missed_by_that_alone(model: str, figures: Figures) -> None:
    """By however little."""
    assert [check.met for check in verdict(TARGETS[model], figures)].count(False) == 1


def test_without_bfloat16_in_the_processor_nothing_is_asked_of_it() -> None:
    """It cannot be measured there, and is no failure."""
    assert len(verdict(TARGETS["yolox-nano"], changed(bf16_ms=None, int8_bf16_ms=None))) == 2


def test_the_exit_status_tells_missed_from_not_measured() -> None:
    """One that is missed weighs more than one that was not measured."""
    met, missed = verdict(TARGETS["nanodet-m"], GOOD), verdict(TARGETS["nanodet-m"], changed(loss=9.0))
    assert exit_status(met, complete=True) == MET
    assert exit_status(met, complete=False) == exit_status([], complete=True) == NOT_MEASURED
    assert exit_status([*met, *missed], complete=False) == MISSED


def test_data_without_labels_gives_rows_that_say_so(tmp_path: Path) -> None:
    """One for each model, and no model is fetched for it."""
    settings = Settings(tmp_path, "i420", "auto", budget=None, samples=None, quick=False)
    found = list(lines(list(TARGETS), tmp_path, None, settings))
    assert [line.model for line in found] == list(TARGETS)
    assert report(found).count("| not measured: ") == len(TARGETS)
    assert str(tmp_path) in report(found)


def test_the_report_has_every_figure_of_both_directions() -> None:
    """A line of the table each, and the targets in words."""
    text = report([Line("nanodet-m", "a", "b", GOOD), Line("nanodet-m", "b", "a", changed(loss=1.25))])
    assert "| nanodet-m | a | b (80) | 30.00 | 29.50 | 0.50 (-0.40 to 1.10); 0.5 | 10.00 / 5.00 | 2.00; 1.35 |" in text
    assert "nanodet-m, b -> a: MISSED: loses 1.25 points" in text
