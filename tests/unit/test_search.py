"""The parts of a search that need no network: its ladder, its choice, its journal."""

from __future__ import annotations

import errno
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.errors import CalibrationError
from calibration.journal import Journal, alone, key_of
from calibration.search.choice import AIM, choose, non_increasing, worthwhile
from calibration.search.ladder import order, rungs

NAMES = st.text("abcdefgh", min_size=1, max_size=3)
OPERATIONS = st.dictionaries(NAMES, st.tuples(st.floats(-10, 120), st.integers(0, 10**9)), min_size=1, max_size=40)
LOSSES = st.lists(st.integers(-40, 40).map(lambda steps: steps / 8), min_size=1, max_size=7)

# -- ladder


@given(OPERATIONS)
def test_every_rung_keeps_what_the_one_before_keeps_and_more(operations: dict[str, tuple[float, int]]) -> None:
    macs = {name: cost for name, (_, cost) in operations.items()}
    ordered = order({name: db for name, (db, _) in operations.items()}, macs)
    steps = list(rungs(ordered, macs))
    assert sorted(ordered) == sorted(operations)
    assert steps[0] == ()
    assert all(set(less) < set(more) for less, more in itertools.pairwise(steps))
    assert all(sum(macs[name] for name in kept) <= 0.85 * sum(macs.values()) for kept in steps)
    assert len(steps) <= 13


@given(OPERATIONS, st.randoms())
def test_the_order_is_that_of_harm_whatever_order_it_is_asked_in(
    operations: dict[str, tuple[float, int]], random: Any
) -> None:
    turned = list(operations)
    random.shuffle(turned)
    macs = {name: cost for name, (_, cost) in operations.items()}
    first = order({name: operations[name][0] for name in operations}, macs)
    assert first == order({name: operations[name][0] for name in turned}, macs)


def test_what_costs_most_accuracy_for_its_arithmetic_comes_first() -> None:
    """Of equal noise the cheaper one, of equal cost the noisier one."""
    assert order({"dear": 20, "cheap": 20, "quiet": 60}, {"dear": 900, "cheap": 50, "quiet": 50}) == [
        "cheap", "dear", "quiet",
    ]  # fmt: skip


def test_a_network_of_one_operation_has_one_rung() -> None:
    assert list(rungs(["only"], {"only": 7})) == [()]


# -- choice


@given(LOSSES)
def test_the_fitted_losses_are_the_nearest_that_never_rise(losses: list[float]) -> None:
    """Against every way to cut them into groups of one level each, which the best one is among."""
    fitted = non_increasing(losses)
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(fitted))

    def error(values: Sequence[float]) -> float:
        return sum((a - b) ** 2 for a, b in zip(values, losses, strict=True))

    best = min(map(error, _never_rising(losses)))
    assert error(fitted) == pytest.approx(best, abs=1e-9)


def _never_rising(losses: Sequence[float]) -> list[list[float]]:
    found = []
    for cuts in itertools.product((False, True), repeat=len(losses) - 1):
        edges = [0, *(place for place, cut in enumerate(cuts, 1) if cut), len(losses)]
        groups = [losses[start:end] for start, end in itertools.pairwise(edges)]
        levels = [float(np.mean(group)) for group in groups for _ in group]
        if all(a >= b for a, b in itertools.pairwise(levels)):
            found.append(levels)
    return found


@given(LOSSES, st.floats(0, 5))
def test_whatever_is_chosen_is_inside_the_budget_and_nothing_inside_means_no_choice(
    losses: list[float], budget: float
) -> None:
    chosen = choose(losses, budget)
    if chosen is None:
        assert not any(
            loss <= budget and fit <= budget for loss, fit in zip(losses, non_increasing(losses), strict=True)
        )
    else:
        assert losses[chosen] <= budget


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        ([0.1, 0.0, 0.0], 0),
        ([5.0, 0.9, 0.2], 2),  # inside a third of the budget, though the one before is inside the whole
        ([5.0, 0.9, 0.8], 1),  # nothing is inside a third
        ([0.0, 3.0, 3.0], None),  # luck: more in float cannot lose more
        ([5.0, 4.0], None),
        ([], None),
    ],
)
def test_the_first_is_chosen_that_is_inside_not_by_chance(losses: list[float], chosen: int | None) -> None:
    assert AIM < 0.8
    assert choose(losses, 1.0) == chosen


# -- journal


def test_what_is_known_is_not_worked_out_twice_nor_after_a_restart(tmp_path: Path) -> None:
    asked: list[int] = []

    def work() -> list[float]:
        asked.append(1)
        return [0.1, float("inf")]

    journal = Journal(tmp_path / "new" / "run")
    assert journal.resumed == 0
    assert [journal.answer("key", work) for _ in range(2)] == [[0.1, float("inf")]] * 2
    again = Journal(tmp_path / "new" / "run")
    assert again.resumed == 1
    assert again.answer("key", work) == [0.1, float("inf")]
    assert len(asked) == 1


@pytest.mark.parametrize("left", ['["c', '["c", 3]', "\x00\xff", "[1, 2]\n", "7\n", '["c", 3, 4]\n', "{}\n"])
def test_a_journal_that_was_cut_short_goes_on_after_its_last_whole_line(tmp_path: Path, left: str) -> None:
    journal = Journal(tmp_path)
    journal.answer("a", lambda: 1)
    journal.answer("b", lambda: 2)
    path = tmp_path / "journal.jsonl"
    with path.open("ab") as file:
        file.write(left.encode("latin-1"))
    again = Journal(tmp_path)
    assert again.resumed == 2
    assert again.answer("c", lambda: 5) == 5
    assert [json.loads(line) for line in path.read_text().splitlines()] == [["a", 1], ["b", 2], ["c", 5]]


def test_work_that_fails_leaves_no_answer(tmp_path: Path) -> None:
    def fail() -> None:
        raise CalibrationError("no")

    with pytest.raises(CalibrationError, match="no"):
        Journal(tmp_path).answer("a", fail)
    assert Journal(tmp_path).answer("a", lambda: 1) == 1


def test_a_full_disk_is_an_error_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(CalibrationError, match=r"journal.jsonl: cannot be written \(No space left on device\): make"):
        journal.answer("a", lambda: 1)


def test_a_folder_that_can_be_none_is_an_error_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CalibrationError, match="cannot keep the run's journal there"):
        Journal(tmp_path / "file")
    with pytest.raises(CalibrationError, match="cannot keep a run's work there"), alone(tmp_path / "file"):
        pass


def test_two_runs_do_not_work_in_one_folder(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(CalibrationError, match="another run is at work there"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


def test_keys_tell_apart_what_differs() -> None:
    assert len({key_of("a", "b"), key_of("ab"), key_of(["a", "b"]), key_of("a", None), key_of("a", 1.5)}) == 5
    assert key_of("a", ("b",)) == key_of("a", ["b"])


def test_what_halves_the_noise_for_next_to_nothing_is_taken() -> None:
    """One step after the other; neither a dear step nor one that gains little."""
    yes = [True] * 4
    assert worthwhile(0, [6.5, 12.1, 15.2, 16.0], [0.0, 0.001, 0.004, 0.005], yes) == 2
    assert worthwhile(0, [6.5, 12.1], [0.0, 0.05], yes) == 0
    assert worthwhile(1, [6.5, 12.1, 13.0], [0.0, 0.001, 0.002], yes) == 1
    assert worthwhile(0, [6.5, 12.1], [0.0, 0.001], yes) == 1
    assert worthwhile(0, [6.5, 12.1], [0.0, 0.001], [True, False]) == 0
