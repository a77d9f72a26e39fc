"""`calibrate` as a user meets it: an INT8 model with its proof, or a refusal, and nothing in between."""

from __future__ import annotations

import csv
import hashlib
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calibration.journal import Journal
from calibration.pictures import from_folder
from calibration.proof import Proof
from engines.backends.openvino import Config
from engines.card import read_card
from engines.graph import load, serialise
from engines.model import open_model
from engines.pixels import Picture
from engines.qdq import Table, apply, lint
from engines.store import ModelStore
from tests.support.calibrated import (
    KEPT,
    PICTURES,
    SHORT,
    Call,
    Run,
    calibrated_store,
    calibrating,
    is_a_line,
    untouched,
)
from tests.support.clips import Clip
from tests.support.measured import made_pictures
from tests.support.truths import boxes_seen, classes_seen


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_pictures(tmp_path_factory.mktemp("pictures") / "seen", PICTURES)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    return calibrated_store(tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="module")
def classes(original: ModelStore, pictures: Path) -> Path:
    """A CSV of the classes that FP32 tells, so that it is always right."""
    path = pictures.parent / "classes.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("file", "label"), *classes_seen(original, "good", pictures).items()])
    return path


@pytest.fixture(scope="module")
def boxes(original: ModelStore, pictures: Path) -> Path:
    """A COCO json of the objects that FP32 finds."""
    path = pictures.parent / "boxes.json"
    path.write_text(json.dumps(boxes_seen(original, "finds", pictures)), encoding="utf-8")
    return path


@pytest.fixture
def run(tmp_path: Path, pictures: Path) -> Call:
    return calibrating(tmp_path, pictures)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Run:
    """A whole search, of a model that INT8 does not hurt."""
    return calibrating(tmp_path_factory.mktemp("good"), pictures)("good")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Run:
    """A short search, from scratch."""
    return calibrating(tmp_path_factory.mktemp("plain"), pictures)("good", *SHORT, "--as", "bgr")


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Run:
    """Of a model that every INT8 form destroys."""
    return calibrating(tmp_path_factory.mktemp("broken"), pictures)("broken", *SHORT)


# -- a model that passes


def test_a_good_model_is_installed_with_its_proof(good: Run) -> None:
    assert (good.status, good.err) == (0, "")
    assert "Inside the budget" in good.out
    folder = good.folder("good")
    assert f"installed {folder / 'card.yaml'}; the proof: {folder / 'report.html'}" in good.out
    proof = good.proof("good")
    card = read_card(folder)
    assert proof.measured.inside
    assert proof.measured.loss <= proof.measured.budget == 3.0
    assert proof.fp32_sha256 == card.files["fp32"].sha256
    for name, told in (("model.int8.onnx", proof.int8_sha256), ("table.json", proof.table_sha256)):
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == told
    assert proof.int8_sha256 == card.files["int8"].sha256
    assert not good.cache.joinpath("sightwire", "calibration", "good").exists()


def test_the_report_shows_the_proof_that_is_in_the_card(good: Run) -> None:
    page = (good.folder("good") / "report.html").read_text(encoding="utf-8")
    proof = good.proof("good")
    start = page.index("sightwire.proof/1")
    assert proof.int8_sha256 in page
    assert json.dumps(proof.measured.metric)[1:-1] in page
    text = page[page.rindex("{", 0, start) :]
    told, _ = json.JSONDecoder().raw_decode(text.replace("&#34;", '"'))
    assert Proof.model_validate(told) == proof


def test_held_out_pictures_are_not_those_that_calibrate(good: Run, pictures: Path) -> None:
    data = good.proof("good").data
    assert data.found == PICTURES == data.duplicates + data.calibration.pictures + data.held_out.pictures
    assert data.calibration.hash != data.held_out.hash
    assert (data.source, data.way, data.labelled) == (str(pictures), "i420", False)


def test_the_trade_off_has_one_choice_and_all_methods(good: Run) -> None:
    points = good.proof("good").trade_off
    measured = [point for point in points if point.loss is not None]
    assert sum(point.chosen for point in points) == 1
    assert measured[0].kept_float == ()
    assert {point.method.split(" ")[0] for point in points} >= {"min-max", "percentile", "entropy"}
    assert [point.float_macs for point in measured] == sorted(point.float_macs for point in measured)


def test_the_table_makes_the_int8_file_again_without_pictures(good: Run) -> None:
    folder = good.folder("good")
    table = Table.parse((folder / "table.json").read_bytes(), "table.json")
    fp32 = load(folder / "fp32.onnx")
    int8 = apply(fp32, table)
    lint(int8)
    assert serialise(int8) == (folder / "model.int8.onnx").read_bytes()
    assert table.share((folder / "fp32.onnx").stat().st_size) <= 0.01


def test_the_agent_takes_the_model_at_its_proof(good: Run, pictures: Path) -> None:
    card, folder = good.store.find("good")
    assert not card.files["int8"].unproven
    model = open_model(card, folder, "int8", Config(threads=1))
    picture = Picture(from_folder(pictures, "i420")[0].read())
    ticket = model.engine.submit(model.engine.prepare([picture], geometries := [model.geometry(picture.image, None)]))
    assert len(model.read(ticket.result(), geometries)) == 1
    ticket.release()
    model.close()


# -- the same each time


def test_an_interrupted_search_goes_on_and_ends_with_the_same_bytes(
    run: Call, plain: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interrupted one and the uninterrupted one are also two runs from scratch."""
    answer = Journal.answer
    worked: list[str] = []

    def counted(journal: Journal, key: str, work: Callable[[], Any], stop_at: int | None = None) -> Any:
        def told() -> Any:
            worked.append(key)
            if len(worked) == stop_at:
                signal.raise_signal(signal.SIGINT)
            return work()

        return answer(journal, key, told)

    monkeypatch.setattr(Journal, "answer", lambda *asked: counted(*asked, stop_at=9))
    ignored_perhaps = signal.signal(signal.SIGINT, signal.default_int_handler)  # as in the background of a script
    try:
        stopped = run("good", *SHORT, "--as", "bgr")
    finally:
        signal.signal(signal.SIGINT, ignored_perhaps)
    assert is_a_line(stopped, 130)
    assert "interrupted" in stopped.err
    assert untouched(stopped.folder("good"))
    before = worked[:-1]
    monkeypatch.setattr(Journal, "answer", counted)
    ended = run("good", *SHORT, "--as", "bgr")
    assert (ended.status, ended.err) == (0, "")
    assert len(before) == 8
    assert not set(before) & set(worked[9:])
    assert ended.bytes("good") == plain.bytes("good")


def test_operations_that_are_asked_for_stay_in_float(plain: Run) -> None:
    proof = plain.proof("good")
    layers = {layer.name: layer for layer in proof.layers}
    assert {layers[name].precision for name in KEPT} == {"float"}
    assert layers["deep"].reason == "as asked"
    assert layers["large"].precision == "int8"
    assert proof.data.way == "bgr"


def test_labels_judge_a_classifier(run: Call, classes: Path, tmp_path: Path) -> None:
    """And another folder gets the model, with the one in the store as it was."""
    found = run("good", *SHORT, "--labels", classes, "--out", tmp_path / "elsewhere" / "mine", "--budget", "20")
    assert (found.status, found.err) == (0, "")
    assert untouched(found.folder("good"))
    card, _ = found.store.find(str(tmp_path / "elsewhere" / "mine"))
    assert card.files["int8"].quantisation is not None
    proof = Proof.model_validate(card.files["int8"].quantisation.proof)
    assert (proof.measured.metric, proof.measured.fp32, proof.data.labelled) == ("top-1", 100, True)
    assert proof.measured.budget == 20


@pytest.mark.parametrize("labelled", [True, False])
def test_a_detector_is_judged_by_average_precision(run: Call, boxes: Path, labelled: bool) -> None:
    found = run("finds", *SHORT, "--budget", "8", *(["--labels", boxes] if labelled else []))
    assert (found.status, found.err) == (0, "")
    proof = found.proof("finds")
    assert proof.measured.metric == "AP .50:.95" + " against FP32's own detections" * (not labelled)
    assert proof.data.labelled is labelled
    assert proof.measured.loss <= 8


def test_a_video_calibrates(run: Call) -> None:
    clip = Clip(size=(320, 240), frames=150, fps=5).path()
    found = run("good", *SHORT, "--video", clip, "--samples", "90", given=False)
    assert (found.status, found.err) == (0, "")
    data = found.proof("good").data
    assert (data.source, data.found) == (str(clip), 150)
    assert data.duplicates > 0
    assert data.calibration.pictures + data.held_out.pictures == 90


# -- a model that INT8 destroys


def test_the_gate_refuses_a_model_that_int8_destroys(broken: Run) -> None:
    assert is_a_line(broken)
    assert "broken: no INT8 form of it keeps the budget of 3 points; it is hurt most by large (INT8 in it" in broken.err
    assert "Nothing was installed; the report: " in broken.err
    assert "Outside the budget" in broken.out
    assert untouched(broken.folder("broken"))
    report = Path(broken.err.strip().rpartition("the report: ")[2])
    page = report.read_text(encoding="utf-8")
    assert "Outside the budget" in page
    assert "large" in page


def test_it_refuses_it_by_labels_too(run: Call, original: ModelStore, pictures: Path, tmp_path: Path) -> None:
    labels = tmp_path / "folders"
    for name, label in classes_seen(original, "broken", pictures).items():
        (labels / label).mkdir(parents=True, exist_ok=True)
        (labels / label / name).symlink_to(pictures / name)
    found = run("broken", *SHORT, "--images", labels, "--labels", labels, given=False)
    assert is_a_line(found)
    assert "keeps the budget of 0.5 points" in found.err
    assert untouched(found.folder("broken"))


def test_a_refusal_leaves_an_older_int8_as_it_was(run: Call, good: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shown by a writer that halves the scales: whatever breaks INT8, what is measured is what would be installed."""

    def halved(fp32: Any, table: Table) -> Any:
        return apply(fp32, table.model_copy(update={"scales": {name: s / 64 for name, s in table.scales.items()}}))

    before = {path.name: path.read_bytes() for path in good.folder("good").iterdir() if path.is_file()}
    folder = run("nobody").store.root / "good"
    for name, content in before.items():
        (folder / name).write_bytes(content)
    monkeypatch.setattr("calibration.search.auto.apply", halved)
    found = run("good", *SHORT, "--budget", "0")
    assert is_a_line(found)
    assert "keeps the budget of 0 points" in found.err
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
