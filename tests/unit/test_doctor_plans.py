"""What `sightwire doctor` says of TensorRT's plans beside the models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.doctor import plans, room
from agent.doctor.findings import Finding, ok
from engines.store import ModelStore
from engines.trt.passport import Made, Passport
from engines.trt.store import PlanStore, now
from tests.support.agents import fake_store

ORIN = {"cuda": "12.6", "devices": [{"name": "Orin", "compute": "8.7", "memory_gib": 7.4}]}
NONE = {"absent": "libcuda.so.1: cannot open"}
TRT = {"tensorrt": {"version": "10.3.0", "targets": []}}


def passport(store: ModelStore, model: str = "classes", made: dict[str, Any] | None = None, **other: Any) -> Passport:
    card, _ = store.find(model)
    about: dict[str, Any] = {
        "model": card.files["fp32"].sha256, "flavour": "tensorrt", "version": "10.3.0", "compute_capability": "8.7",
        "device": "Orin", "precision": "fp32", "floats": "f16", "size": (32, 32), "batches": (1, 8, 8),
    }  # fmt: skip
    how = {"plan_sha256": "0" * 64, "floats": "f16", "built_at": now(), "seconds": 1.5, "latency_ms": 2.25}
    return Passport.model_validate({**about, **other, "made": Made.model_validate({**how, **(made or {})})})


def beside(store: ModelStore, model: str = "classes") -> PlanStore:
    return PlanStore(store.root / model / "model.onnx")


def keep(store: ModelStore, model: str = "classes", **other: Any) -> Path:
    return beside(store, model).save(passport(store, model, **other), b"a plan", None, None).path


def said(monkeypatch: pytest.MonkeyPatch, store: ModelStore, cuda: Any = ORIN, found: Any = TRT) -> list[Finding]:
    def ask(probe: str) -> Any:
        if isinstance(cuda, Exception):
            raise cuda
        return cuda if probe == "cuda" else found

    monkeypatch.setattr(plans, "ask", ask)
    monkeypatch.setattr(plans, "flavours", lambda: list(found))
    return list(plans.look(store))


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return fake_store(tmp_path)


def test_a_plan_that_fits_is_well_and_models_without_one_are_named(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store)
    fits, rest = said(monkeypatch, store)
    text = "classes@fp32: plan by tensorrt 10.3.0 for Orin (compute capability 8.7), 2.2 ms for 8 pictures"
    assert fits == ok("models", text)
    assert rest.text.startswith("no plan for this GPU yet: boxes;")
    assert (rest.state, rest.mend) == ("note", "sightwire build boxes")


def test_several_models_without_a_plan_have_one_command(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = said(monkeypatch, store)
    assert found.mend == "sightwire build boxes classes"


@pytest.mark.parametrize(
    "other",
    [
        {"compute_capability": "8.6"},
        {"device": "Orin Nano"},
        {"version": "10.13.3"},
        {"flavour": "tensorrt_rtx"},
    ],
)
def test_a_plan_for_another_gpu_or_version_is_told(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]
) -> None:
    keep(store, **other)
    found = said(monkeypatch, store)[0]
    assert found.text.startswith("classes@fp32: plans for other GPUs or versions than here: ")
    assert (found.state, found.mend) == ("note", "sightwire build classes")


def test_a_plan_for_later_versions_fits_them(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(store, version="10", version_compatible=True)
    assert said(monkeypatch, store)[0].state == "ok"


@pytest.mark.parametrize(("capability", "state"), [("8.7", "ok"), ("12.0", "ok"), ("7.5", "note")])
def test_a_hardware_compatible_plan_fits_ampere_and_later(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, capability: str, state: str
) -> None:
    keep(store, compute_capability="8.0 and later", device=None, hardware_compatible=True)
    gpu = {"devices": [{**ORIN["devices"][0], "compute": capability}]}
    assert said(monkeypatch, store, {**ORIN, **gpu})[0].state == state


@pytest.mark.parametrize("harm", ["plan", "passport", "gone"])
def test_a_plan_that_was_altered_is_told_and_left_where_it_is(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    path = keep(store)
    if harm == "gone":
        path.unlink()
    else:
        (path if harm == "plan" else path.with_suffix(".json")).write_bytes(b"cut")
    before = sorted(path.parent.iterdir())
    found = said(monkeypatch, store)[0]
    assert found.text == f"classes@fp32: {path} is cut short or altered; it is made anew"
    assert (found.state, found.mend) == ("note", "sightwire build classes")
    assert sorted(path.parent.iterdir()) == before


def test_a_plan_that_could_not_be_made_says_why(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    beside(store).fail(passport(store), "no operator Frobnicate (node head/7)", driver="12.6")
    beside(store, "boxes").fail(passport(store, "boxes", compute_capability="8.6"), "on another GPU")
    failed, rest = said(monkeypatch, store)
    assert failed.text.startswith("classes@fp32: no plan could be made: no operator Frobnicate (node head/7) (tried 20")
    assert (failed.state, failed.mend) == ("note", "sightwire build classes --again")
    assert rest.text.startswith("no plan for this GPU yet: boxes;")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"passport": 1, "reason": 2, "when": 3}', "[" * 10_000])
def test_notes_of_failures_that_nobody_wrote_are_left_out(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    folder = store.root / "classes/.tensorrt"
    folder.mkdir()
    (folder / f"model-{'0' * 16}.failed.json").write_text(content)
    assert [f.text.partition(":")[0] for f in said(monkeypatch, store)] == ["no plan for this GPU yet"]


@pytest.mark.parametrize(
    "made", [{"unchecked": "there is no GPU"}, {"instead_of": "INT8: no implementation for node 7"}]
)
def test_what_is_not_as_it_was_asked_for_is_a_note(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, made: dict[str, Any]
) -> None:
    keep(store, made=made)
    found = said(monkeypatch, store)[0]
    assert found.state == "note"
    assert next(iter(made.values())) in found.text


def test_plans_of_an_earlier_file_of_that_name_are_left_out(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(store)
    card = store.root / "classes/card.yaml"
    card.write_text(card.read_text().replace(store.find("classes")[0].files["fp32"].sha256, "1" * 64))
    assert said(monkeypatch, store, NONE, {}) == []


@pytest.mark.parametrize("cuda", [NONE, room.ProbeError("crashed (SIGSEGV)")])
def test_without_a_gpu_plans_are_only_named(store: ModelStore, monkeypatch: pytest.MonkeyPatch, cuda: Any) -> None:
    assert said(monkeypatch, store, cuda, {}) == []
    keep(store, flavour="tensorrt_rtx", version="1.7.1.116", compute_capability="8.6", device=None)
    (found,) = said(monkeypatch, store, cuda, {})
    assert found.state == "ok"
    assert found.text.endswith(": any GPU (compute capability 8.6) by tensorrt_rtx 1.7.1.116")
