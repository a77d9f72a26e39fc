"""What is harmed, or means harm, is refused in a line: no traceback, no crash, no hang, little memory.

With 10,000 of each: `scripts/prove fuzz`.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from tests.support.hostile.configs import HEAVY, SECRET, THOUGHT_OF, Configs
from tests.support.hostile.feeding import Fed, feed
from tests.support.process import sightwire


def judged(fed: Fed, many: int) -> None:
    assert fed.wrong == {}, next(iter(fed.wrong.values()))
    assert fed.count == many


def test_configurations_are_accepted_or_refused_with_the_line_of_each_mistake(tmp_path: Path) -> None:
    """None of them shows the password that was in it."""
    light = len(THOUGHT_OF) - HEAVY
    judged(feed("configs", tmp_path, 0, light), light)
    fed = feed("configs", tmp_path, len(THOUGHT_OF), 60)
    judged(fed, 60)
    assert fed.outcomes["accepted"] >= 2
    assert fed.outcomes["refused"] >= 20


def test_pictures_and_streams_are_read_or_given_up(tmp_path: Path) -> None:
    """Photos, MJPEG and H.264, in files and over HTTP."""
    fed = feed("pictures", tmp_path, 0, 150)
    judged(fed, 150)
    for outcome in ("photo read", "photo refused", "file read", "file refused", "network given up", "opencv-file read"):
        assert fed.outcomes[outcome], fed.outcomes


def test_models_and_cards_run_or_are_refused(tmp_path: Path) -> None:
    """Files of every length in steps of a kilobyte among them."""
    fed = feed("models", tmp_path, 0, 100)
    judged(fed, 100)
    for outcome in ("openvino refused", "import refused", "onnxruntime refused", "int8 refused", "card refused"):
        assert fed.outcomes[outcome], fed.outcomes


@pytest.mark.parametrize("first", [1, len(THOUGHT_OF)], ids=["zeros", "chance"])
def test_the_command_says_what_is_wrong_and_nothing_else(tmp_path: Path, first: int) -> None:
    path = tmp_path / "site.yaml"
    configs = Configs(tmp_path)
    path.write_bytes(next(made for made in map(configs.make, count(first)) if configs.feed(made) == "refused"))
    status, out, err = sightwire("check", path)
    assert (status, out) == (78, "")
    assert err.startswith(f"sightwire: {path}:")
    assert "Traceback" not in err
    assert SECRET not in err


def test_an_input_that_crashes_or_hangs_its_reader_is_named_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a run without findings says something."""
    monkeypatch.setattr("tests.support.hostile.feeding.START_S", 20.0)
    fed = feed("traps", tmp_path, 0, 6, keep=tmp_path / "kept")
    assert fed.outcomes == {"fine": 2}
    assert {number: what.split(":")[0] for number, what in fed.wrong.items()} == {
        1: "killed by SIGSEGV",
        2: "hangs",
        3: "150 MB for a moment, at most 100 are right (fine)",
        4: "Traceback (most recent call last)",
    }
    assert (tmp_path / "kept" / "traps-1").read_bytes() == b"1"
