"""Plans and their passports: what is found again, what is not used any more, and what is noted."""

from __future__ import annotations

import errno
import os
import resource
import threading
from pathlib import Path
from typing import Any

import pytest

from engines.cuda.driver import Facts
from engines.errors import BackendError
from engines.trt.errors import NotKept, NotNow
from engines.trt.kernel import NONE
from engines.trt.memory import available, check_room, required
from engines.trt.order import Order
from engines.trt.passport import Passport
from engines.trt.store import PlanStore
from tests.support.plans import saved, some_passport, with_made

ORIN = Facts("Orin", (8, 7), 8 << 30, integrated=True, driver="12.6")
OTHERS: dict[str, Any] = {
    "model": "b" * 64,
    "form": 2,
    "flavour": "tensorrt_rtx",
    "version": "10.13.0",
    "compute_capability": "8.9",
    "device": "Thor",
    "precision": "fp32",
    "floats": "f32",
    "size": (320, 300),
    "batches": (1, 4, 8),
    "hardware_compatible": True,
    "version_compatible": True,
    "workspace_mb": 256,
}


@pytest.fixture
def store(tmp_path: Path) -> PlanStore:
    return PlanStore(tmp_path / "model.int8.onnx")


def order(**fields: Any) -> Order:
    given = {"precision": "int8", "floats": "f16", "size": (300, 300), "batches": (1, 8, 8), **fields}
    return Order(Path("model.onnx"), "a" * 64, **given)


# Passports


def test_a_passport_has_a_field_here_for_each_that_is_compared() -> None:
    assert OTHERS.keys() == Passport.model_fields.keys() - {"made"}


@pytest.mark.parametrize("field", OTHERS)
def test_whatever_is_compared_changes_the_key(field: str) -> None:
    assert some_passport(**{field: OTHERS[field]}).key != some_passport().key


def test_how_it_was_made_does_not_change_the_key() -> None:
    passport = some_passport()
    assert with_made(passport, driver="13.0", seconds=600, latency_ms=1.5).key == passport.key


def test_a_plan_is_one_device_s_unless_it_is_made_for_many() -> None:
    plain = Passport.of(order(), "tensorrt", "10.3.0", ORIN)
    assert (plain.device, plain.compute_capability) == ("Orin", "8.7")
    many = Passport.of(order(hardware_compatible=True), "tensorrt", "10.3.0", ORIN)
    assert (many.device, many.compute_capability) == (None, "8.0 and later")


def test_a_plan_for_later_versions_is_found_by_later_versions() -> None:
    keys = {
        Passport.of(order(version_compatible=True), "tensorrt", version, ORIN).key for version in ("10.3.0", "10.13.3")
    }
    assert len(keys) == 1


def test_a_plan_that_was_made_elsewhere_is_the_one_that_its_gpu_looks_for() -> None:
    there = Facts("NVIDIA GeForce RTX 3060", (8, 6), 12 << 30, integrated=False, driver="13.0")
    made = Passport.of(order(target=(8, 6)), "tensorrt_rtx", "1.7.1", None)
    assert made.key == Passport.of(order(), "tensorrt_rtx", "1.7.1", there).key


def test_an_order_for_one_gpu_and_for_many_has_no_passport() -> None:
    """Its failure would stand for that of the plan for many."""
    with pytest.raises(BackendError, match="not both"):
        Passport.of(order(target=(8, 6), hardware_compatible=True), "tensorrt_rtx", "1.7.1", ORIN)


def test_without_a_gpu_an_order_has_to_name_one() -> None:
    with pytest.raises(BackendError, match=r"no GPU here .* --target"):
        Passport.of(order(), "tensorrt_rtx", "1.7.1", None)


# What is kept


def test_what_was_saved_is_found(store: PlanStore) -> None:
    passport = saved(store, some_passport())
    plan = store.find(passport)
    assert plan is not None
    assert (plan.data, plan.cubin) == (b"a plan", b"a cubin")
    assert plan.passport.key == passport.key
    assert plan.reference is not None
    assert plan.reference.limit == 0.3
    assert plan.reference.outputs["scores"].shape == (2, 3, 16, 16)
    assert plan.path == store.folder / f"model.int8-{passport.key}.plan"


@pytest.mark.parametrize("field", OTHERS)
def test_a_plan_for_something_else_is_not_found_and_stays(store: PlanStore, field: str) -> None:
    passport = saved(store, some_passport())
    assert store.find(some_passport(**{field: OTHERS[field]})) is None
    assert store.find(passport) is not None


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def altered(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


@pytest.mark.parametrize("spoil", [cut, altered, lambda _: b""])
@pytest.mark.parametrize("suffix", [".plan", ".json"])
def test_a_plan_that_is_not_as_it_was_written_goes_away_and_is_named(
    store: PlanStore, suffix: str, spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    passport = saved(store, some_passport())
    path = store.path(passport, suffix)
    path.write_bytes(spoil(path.read_bytes()))
    assert store.find(passport) is None
    assert [str(store.path(passport)) in record.message for record in caplog.records] == [True]
    assert not list(store.folder.glob("model*"))
    caplog.clear()
    assert store.find(passport) is None
    assert not caplog.records, "what is gone is not spoken of again"


def test_a_plan_under_another_s_passport_is_not_used(store: PlanStore) -> None:
    mine, other = saved(store, some_passport()), saved(store, some_passport(device="Thor"), b"another plan")
    for suffix in (".plan", ".json"):
        store.path(mine, suffix).write_bytes(store.path(other, suffix).read_bytes())
    assert store.find(mine) is None
    assert store.find(other) is not None


def test_a_passport_without_its_plan_is_not_a_plan(store: PlanStore) -> None:
    passport = saved(store, some_passport())
    store.path(passport).unlink()
    assert store.find(passport) is None


@pytest.mark.parametrize(("suffix", "part"), [(".cubin", "cubin"), (".reference.npz", "reference")])
def test_a_plan_can_do_without_what_lies_beside_it(store: PlanStore, suffix: str, part: str) -> None:
    passport = saved(store, some_passport())
    store.path(passport, suffix).write_bytes(b"something else")
    plan = store.find(passport)
    assert plan is not None
    assert getattr(plan, part) is None


def test_a_kernel_of_an_earlier_version_is_not_used(store: PlanStore, monkeypatch: pytest.MonkeyPatch) -> None:
    passport = saved(store, some_passport())
    monkeypatch.setattr("engines.trt.store.source_version", lambda: "another")
    plan = store.find(passport)
    assert plan is not None
    assert plan.cubin is None


def test_a_kernel_that_is_compiled_later_is_kept_with_the_plan(store: PlanStore) -> None:
    gone = (f"{NONE}: no compiler", "TensorRT is slow")
    plan = store.save(with_made(some_passport(), warnings=gone), b"a plan", None, None)
    told = store.keep_kernel(plan, b"a cubin")
    found = store.find(some_passport())
    assert found is not None
    assert (found.data, found.cubin, told.cubin) == (b"a plan", b"a cubin", b"a cubin")
    assert found.made == told.made
    assert found.made.warnings == ("TensorRT is slow",)


def test_a_kernel_is_not_put_beside_another_plan(store: PlanStore) -> None:
    plan = store.save(with_made(some_passport()), b"a plan", None, None)
    store.save(with_made(some_passport()), b"made meanwhile", None, None)
    assert store.keep_kernel(plan, b"a cubin").cubin == b"a cubin"
    found = store.find(some_passport())
    assert found is not None
    assert (found.data, found.cubin) == (b"made meanwhile", None)


def test_the_newest_plans_of_a_file_stay_and_those_of_other_files_do(store: PlanStore) -> None:
    other = PlanStore(store.model.with_name("model.onnx"))
    first = saved(other, some_passport())
    passports = [saved(store, some_passport(workspace_mb=n + 1)) for n in range(8)]
    for age, passport in enumerate(passports):
        os.utime(store.path(passport, ".json"), (age, age))
    newest = saved(store, some_passport())
    there = [store.find(passport) is not None for passport in (*passports, newest)]
    assert there == [False, *[True] * 8]
    assert len(list(store.folder.glob("model.int8-*.cubin"))) == 8
    assert other.find(first) is not None


def test_what_a_killed_writer_left_is_swept_up(store: PlanStore) -> None:
    saved(store, some_passport())
    (store.folder / "model.int8-0123456789abcdef.plan.4711.partial").write_bytes(b"half a pl")
    saved(store, some_passport())
    assert not list(store.folder.glob("*.partial"))


def test_readers_never_see_half_of_what_writers_write(store: PlanStore, caplog: pytest.LogCaptureFixture) -> None:
    passport = some_passport()
    plans = [bytes([n]) * 100_000 for n in range(4)]

    def write(data: bytes) -> None:
        for _ in range(10):
            saved(store, passport, data)

    saved(store, passport, plans[0])
    writers = [threading.Thread(target=write, args=(data,)) for data in plans]
    for writer in writers:
        writer.start()
    found = []
    while any(writer.is_alive() for writer in writers):
        plan = store.find(passport)
        found.append(plan is not None and plan.data in plans)
    assert all(found)
    assert found
    assert not caplog.records


def test_a_folder_that_cannot_be_written_to_is_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / ".tensorrt").write_text("a file where the folder should be")
    store = PlanStore(tmp_path / "model.onnx")
    with pytest.raises(BackendError, match=r"\.tensorrt: plans cannot be kept here .*make it writable.*--out"):
        saved(store, some_passport())
    with pytest.raises(BackendError, match="cannot be kept"), store.making(lambda: False, lambda: None):
        pass
    assert store.find(some_passport()) is None
    store.fail(some_passport(), "no")
    assert store.failed(some_passport()) is None


def test_a_disk_that_fills_up_is_not_filled_with_half_a_plan(store: PlanStore) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(NotKept, match="plans cannot be kept here"):
            saved(store, some_passport(), b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(store.folder.glob("model*"))
    assert store.find(some_passport()) is None


def test_a_file_system_without_locks_is_said(store: PlanStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("engines.trt.store.fcntl.flock", flock)
    with pytest.raises(NotKept, match="No locks available"), store.making(lambda: False, lambda: None):
        pass


# What failed


def test_a_failure_is_remembered_while_nothing_changes(store: PlanStore) -> None:
    store.fail(some_passport(), "no such operator", "12.6")
    assert "no such operator (tried 20" in str(store.failed(some_passport(), "12.6"))
    assert store.failed(some_passport(version="10.4.0"), "12.6") is None
    assert store.failed(some_passport(), "13.0") is None


def test_a_plan_that_was_made_after_all_is_no_failure(store: PlanStore) -> None:
    store.fail(some_passport(), "no")
    saved(store, some_passport())
    assert store.failed(some_passport()) is None


def test_a_failure_takes_the_plan_away(store: PlanStore) -> None:
    passport = saved(store, some_passport())
    store.fail(passport, "computes something else")
    assert store.find(passport) is None


@pytest.mark.parametrize("content", ["", "null", "[]", '{"reason": 1, "when": "", "driver": ""}', "[" * 5000])
def test_a_failure_that_cannot_be_read_is_none(store: PlanStore, content: str) -> None:
    store.fail(some_passport(), "no")
    store.path(some_passport(), ".failed.json").write_text(content)
    assert store.failed(some_passport()) is None


def test_who_forgets_has_neither_plan_nor_failure(store: PlanStore) -> None:
    store.fail(saved(store, some_passport()), "no")
    store.forget(some_passport())
    assert store.failed(some_passport()) is None
    assert not list(store.folder.glob("model*"))


def test_a_discarded_plan_is_named_and_made_anew(store: PlanStore, caplog: pytest.LogCaptureFixture) -> None:
    passport = saved(store, some_passport())
    store.discard(passport, "does not load")
    assert f"{store.path(passport)}: does not load" in caplog.text
    assert store.find(passport) is None
    assert store.failed(passport) is None


# Timing caches


def test_timing_caches_are_one_version_s_on_one_kind_of_gpu(store: PlanStore) -> None:
    store.keep_timing_cache(some_passport(), b"times")
    assert store.timing_cache(some_passport(precision="fp32", batches=(1, 1, 1))) == b"times"
    for field in ("flavour", "version", "compute_capability"):
        assert store.timing_cache(some_passport(**{field: OTHERS[field]})) == b""


@pytest.mark.parametrize("spoil", [cut, altered, lambda _: b""])
def test_a_timing_cache_that_is_not_as_it_was_written_is_none(
    store: PlanStore, spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store.keep_timing_cache(some_passport(), b"times")
    (path,) = store.folder.glob("*.timing")
    path.write_bytes(spoil(path.read_bytes()))
    assert store.timing_cache(some_passport()) == b""
    assert not path.exists()
    assert str(path) in caplog.text


# Making, one at a time


def test_one_process_makes_plans_at_a_time(store: PlanStore) -> None:
    told: list[bool] = []
    with store.making(lambda: False, lambda: None) as ours:
        assert ours
        with PlanStore(store.model).making(lambda: bool(told), lambda: told.append(True)) as theirs:
            assert not theirs, "it was stopped while it waited"
    with store.making(lambda: False, lambda: None) as ours:
        assert ours
    assert told == [True]


# Memory


def machine(folder: Path, free_mb: int, groups: str = "", **files: str) -> tuple[Path, Path]:
    """What /proc and /sys/fs/cgroup say."""
    (folder / "proc" / "self").mkdir(parents=True)
    (folder / "proc" / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable:  {free_mb * 1024} kB\n")
    (folder / "proc" / "self" / "cgroup").write_text(groups)
    for name, content in files.items():
        path = folder / "groups" / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder / "proc", folder / "groups"


MB = 1 << 20


def test_memory_is_what_the_machine_has_where_nothing_limits_us(tmp_path: Path) -> None:
    assert available(*machine(tmp_path, 3000, "0::/user.slice\n")) == 3000 * MB


def test_memory_is_what_the_tightest_group_leaves(tmp_path: Path) -> None:
    """A service with MemoryMax, in a slice with another."""
    files = {
        "a__memory_DOT_max": f"{2000 * MB}\n",
        "a__memory_DOT_current": f"{1500 * MB}\n",
        "a__memory_DOT_stat": f"anon 5\ninactive_file {100 * MB}\n",
        "a__b__memory_DOT_max": "max\n",
        "a__b__memory_DOT_current": f"{1500 * MB}\n",
        "a__b__memory_DOT_stat": "anon 5\n",
    }
    assert available(*machine(tmp_path, 3000, "0::/a/b\n", **files)) == 600 * MB


def test_memory_of_old_groups_is_understood(tmp_path: Path) -> None:
    files = {
        "memory__a__memory_DOT_limit_in_bytes": f"{1000 * MB}\n",
        "memory__a__memory_DOT_usage_in_bytes": f"{300 * MB}\n",
        "memory__a__memory_DOT_stat": f"total_inactive_file {100 * MB}\n",
    }
    assert available(*machine(tmp_path, 3000, "3:cpu:/a\n4:memory:/a\n", **files)) == 800 * MB


def test_this_machine_has_memory() -> None:
    assert available() > 0


def test_too_little_memory_is_said_with_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x" * MB)
    ordered = Order(path, "a" * 64, "int8", "f16", (300, 300), (1, 8, 8))
    needed = required(ordered, 0, integrated=False)
    check_room(ordered, integrated=False, free=needed)
    with pytest.raises(NotNow, match=r"model\.onnx: .* 100 MB are missing"):
        check_room(ordered, integrated=False, free=needed - 100 * MB + 1)


def test_an_integrated_gpu_takes_its_memory_from_the_same(tmp_path: Path) -> None:
    ordered = order()
    assert required(ordered, 4000 * MB, integrated=True) > required(ordered, 4000 * MB, integrated=False)
    more = order(workspace_mb=2000)
    assert required(more, 4000 * MB, integrated=True) > required(ordered, 4000 * MB, integrated=True)
