"""A camera's sample: every candidate has the same chance, and the folder never holds more or less than it should."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.reservoir import Reservoir


@pytest.fixture(autouse=True, scope="module")
def _no_waiting_for_the_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


def opened(folder: Path, limit: int = 5, camera: str = "dock") -> Reservoir:
    reservoir = Reservoir(folder, camera, limit)
    reservoir.open()
    return reservoir


def offer(reservoir: Reservoir, chance: float, content: bytes = b"picture") -> int | None:
    place = reservoir.place(chance)
    if place is None:
        reservoir.pass_over()
    else:
        reservoir.put(place, content, 0)
    return place


def fill(reservoir: Reservoir, count: int, seed: int = 0) -> None:
    drawn = random.Random(seed)
    for number in range(count):
        offer(reservoir, drawn.random(), str(number).encode())
    reservoir.save()


def pictures(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.png"))


def test_every_candidate_is_kept_with_the_same_probability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reservoir, "_write", lambda *_: None)
    drawn, runs, limit, candidates = random.Random(7), 1000, 5, 60
    kept: Counter[int] = Counter()
    for _ in range(runs):
        reservoir, places = Reservoir(tmp_path, "dock", limit), {}
        for number in range(candidates):
            place = offer(reservoir, drawn.random())
            if place is not None:
                places[place] = number
        kept.update(places.values())
    expected = runs * limit / candidates
    chi_squared = sum((kept[number] - expected) ** 2 / expected for number in range(candidates))
    # 59 degrees of freedom, less the variance that drawing without replacement takes away: p = 0.001 is at 98.3
    assert chi_squared < 98.3
    assert min(kept.values()) > 0.7 * expected
    assert sum(kept.values()) == runs * limit


def test_after_a_restart_the_count_goes_on(tmp_path: Path) -> None:
    fill(opened(tmp_path), 1000)
    again = opened(tmp_path)
    assert (again.considered, len(again.kept)) == (1000, 5)
    assert again.place(0.5) is None, "a candidate in the middle of 1001 has no place among five"
    assert again.place(3.5 / 1001) == 4


def test_pictures_can_be_read_by_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        fill(opened(tmp_path / "new" / "folder"), 5)
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "folder").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "new" / "folder").iterdir()} == {0o600}


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"\xff", b"[]", b'{"schema": "x/1", "considered": 7}', b'{"schema": "sightwire.collected/1"}',
     b'{"schema": "sightwire.collected/1", "considered": -1}',
     b'{"schema": "sightwire.collected/1", "considered": 1' + b"0" * 400 + b"}", b"[" * 100_000],
)  # fmt: skip
def test_a_damaged_count_is_reported_and_begins_anew_with_the_pictures_that_are_there(tmp_path, caplog, damage) -> None:
    fill(opened(tmp_path), 1000)
    before = pictures(tmp_path)
    (tmp_path / ".dock.json").write_bytes(damage)
    again = opened(tmp_path)
    assert again.considered == 5
    assert pictures(tmp_path) == before
    assert ".dock.json: damaged; the count of dock's candidates begins anew, its pictures stay" in caplog.text


def test_whoever_empties_the_folder_gets_a_new_sample(tmp_path: Path) -> None:
    fill(opened(tmp_path), 1000)
    for path in tmp_path.glob("*.png"):
        path.unlink()
    assert opened(tmp_path).considered == 0


def test_a_lower_limit_deletes_pictures_drawn_by_lot_and_a_higher_one_leaves_places_free(tmp_path: Path) -> None:
    fill(opened(tmp_path, 50), 40)
    fewer = opened(tmp_path, 10)
    assert sorted(fewer.kept) == list(range(1, 11))
    assert max(int((tmp_path / name).read_bytes()) for name in pictures(tmp_path)) > 9, "not just the oldest"
    more = opened(tmp_path, 20)
    assert (len(more.kept), more.considered, more.place(15.5 / 41)) == (10, 40, 16)


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    others = [
        "dock-1.planes.png",
        "dock-00001.png",
        "dock-2-00001.planes.png",
        "docks-00001.planes.png",
        "dock-00000.planes.png",
    ]
    for name in others:
        (tmp_path / name).write_bytes(b"theirs")
    fill(opened(tmp_path, 2), 100)
    assert all((tmp_path / name).read_bytes() == b"theirs" for name in others)


actions = st.one_of(
    st.tuples(st.just("offer"), st.floats(0, 1, exclude_max=True)),
    st.tuples(st.just("save"), st.just(0)),
    st.tuples(st.just("restart"), st.integers(1, 6)),
    st.tuples(st.just("delete"), st.integers(0, 5)),
    st.tuples(st.just("damage"), st.binary(max_size=4)),
    st.tuples(st.just("killed"), st.just(0)),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(actions, max_size=40))
def test_whatever_happens_to_it_the_folder_holds_at_most_the_limit_and_the_count_at_least_what_is_kept(steps) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, limit = Path(name), 4
        reservoir = opened(folder, limit)
        for action, value in steps:
            if action == "offer":
                offer(reservoir, value)
            elif action == "save":
                reservoir.save()
            elif action == "delete" and (there := pictures(folder)):
                (folder / there[value % len(there)]).unlink()
            elif action == "damage":
                (folder / ".dock.json").write_bytes(value)
            elif action == "killed":
                (folder / ".dock.part").write_bytes(b"half a pict")
            elif action == "restart":
                limit = value
                reservoir = opened(folder, limit)
                assert sorted(reservoir.kept) == [int(name[5:10]) for name in pictures(folder)]
                assert not (folder / ".dock.part").exists()
            assert len(pictures(folder)) <= limit
            assert len(reservoir.kept) <= reservoir.considered
            assert all((folder / name).read_bytes() == b"picture" for name in pictures(folder))


def test_an_agent_that_is_killed_leaves_only_whole_pictures(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from agent.reservoir import Reservoir\n"
        "one = Reservoir(Path(sys.argv[1]), 'dock', 3); one.open()\n"
        "while True:\n"
        "    one.put(one.place(0.0), bytes(2_000_000), 0); one.save(); print(flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        for _ in range(5):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    assert {path.stat().st_size for path in tmp_path.glob("*.png")} == {2_000_000}
    assert json.loads((tmp_path / ".dock.json").read_bytes())["considered"] >= 5
    assert len(opened(tmp_path, 3).kept) == 3
