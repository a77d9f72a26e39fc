"""compute-sanitizer found and read: by a script that says what the program of the CUDA toolkit says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prove.gpu_check import report, sanitizer

CLEAN = {"memcheck": "ERROR SUMMARY: 0 errors", "initcheck": "ERROR SUMMARY: 0 errors",
         "racecheck": "RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)",
         "synccheck": "ERROR SUMMARY: 0 errors"}  # fmt: skip


def program(folder: Path, summaries: dict[str, str], status: int = 0, first: str = "", err: str = "") -> str:
    """A stand-in for compute-sanitizer that runs nothing: the summary of the tool that it is asked for."""
    cases = "\n".join(f"  --tool={tool}) echo '========= {said}' ;;" for tool, said in summaries.items())
    path = folder / "compute-sanitizer"
    path.write_text(f"#!/bin/sh\n{first}\ncase $1 in\n{cases}\nesac\necho '{err}' >&2\nexit {status}\n")
    path.chmod(0o755)
    return str(path)


def test_it_is_found_where_a_shell_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = program(tmp_path, CLEAN)
    assert sanitizer.find() == found


def test_every_tool_runs_the_kernels_on_the_device_that_was_asked_for(tmp_path: Path) -> None:
    found = sanitizer.watch(program(tmp_path, CLEAN, first=f'echo "$@" >>{tmp_path}/asked'), 3, 30)
    assert found == dict.fromkeys(sanitizer.TOOLS, 0)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split()[0] for line in asked] == [f"--tool={tool}" for tool in sanitizer.TOOLS]
    assert all(line.endswith("-m tests.prove.gpu_check.part numbers --device=3") for line in asked)
    assert report._sanitized(found) == ("memcheck 0, initcheck 0, racecheck 0, synccheck 0", "met")


def test_what_it_counts_is_told_even_where_the_kernels_end_badly(tmp_path: Path) -> None:
    race = {"racecheck": "RACECHECK SUMMARY: 2 hazards displayed (1 error, 1 warning)"}
    wrong = {**CLEAN, **race, "memcheck": "ERROR SUMMARY: 17 errors"}
    found = sanitizer.watch(program(tmp_path, wrong, status=1, err="CUDA error 719"), 0, 30)
    assert (found["memcheck"], found["racecheck"]) == (17, 2)
    assert report._sanitized(found)[1] == "missed"


@pytest.mark.parametrize("err", ["CUDA error 719", ""])
def test_kernels_that_did_not_run_are_no_success(tmp_path: Path, err: str) -> None:
    """A summary of no errors says nothing of what did not come to its end, and no summary says less."""
    for summaries in (CLEAN, {}):
        found = sanitizer.watch(program(tmp_path, summaries, status=1, err=err), 0, 30)
        assert all(str(said).startswith("exit status 1: ") for said in found.values()), found
        assert report._sanitized(found)[1] == "missed"


def test_one_that_hangs_or_does_not_start_is_told_and_no_success(tmp_path: Path) -> None:
    hanging = sanitizer.watch(program(tmp_path, CLEAN, first="exec sleep 60"), 0, 0.05)
    assert set(hanging.values()) == {"took more than 0 s"}
    (tmp_path / "compute-sanitizer").write_bytes(b"not a program")
    assert "cannot be started" in str(sanitizer.watch(str(tmp_path / "compute-sanitizer"), 0, 1)["memcheck"])
