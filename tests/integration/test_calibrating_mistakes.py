"""What `calibrate` answers to bad input: one line, an exit status, and the model as it was."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.journal import alone
from engines.card import read_card, sha256_of, write_card
from engines.graph import load
from engines.qdq import apply
from tests.support.calibrated import PICTURES, SHORT, Call, calibrating, is_a_line, untouched
from tests.support.measured import LABELS, made_pictures
from tests.support.tables import unmeasured_table

EVERYTHING_ELSE = ("--keep", "large", "--keep", "pool", "--keep", "out")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_pictures(tmp_path_factory.mktemp("pictures") / "seen", PICTURES)


@pytest.fixture
def run(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(tmp_path)
    return calibrating(tmp_path, pictures)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The disk is full, as far as a file of more bytes goes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# -- what is asked


@pytest.mark.parametrize(
    ("model", "arguments", "expected"),
    [
        ("goood", (), "there is no model 'goood', did you mean 'good'?"),
        ("person-ssdlite", (), "get it with 'sightwire models pull person-ssdlite'"),
        ("no/card.yaml", (), "no/card.yaml"),
        ("good", ("--method", "entropi"), "--method entropi: there is no such method; did you mean 'entropy'?"),
        ("good", ("--method", "?"), "there is no such method; known: auto, "),
        ("good", ("--keep", "depe"), "--keep depe: the model has no such operation that INT8 could do; did you"),
        ("good", ("--keep", "deep", "--keep", "deep.relu"), "--keep deep.relu: the model has no such operation"),
        ("good", ("--keep", "?"), "; it has 'stem', 'deep', 'both', 'wide', 'large', …"),
        ("good", (*SHORT, *EVERYTHING_ELSE), "--keep names all 7 operations that INT8 could do"),
        ("good", ("--video", "a.mp4"), "one of: --images DIR, --video FILE, --camera URL"),
        ("good", ("--camera", "rtsp://a", "--video", "a.mp4"), "one of: --images DIR, --video FILE, --camera URL"),
        ("good", ("--labels", "no.csv"), "no.csv"),
        ("good", ("--samples", "20"), "too few different pictures: "),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_in_one_line(run: Call, model: str, arguments: tuple[str, ...], expected: str) -> None:
    found = run(model, *arguments)
    assert is_a_line(found), found.err
    assert expected in found.err
    assert found.out == ""
    assert untouched(found.folder("good"))


def test_without_pictures_it_says_where_they_may_come_from(run: Call) -> None:
    found = run("good", given=False)
    assert is_a_line(found)
    assert "give pictures, one of: --images DIR, --video FILE, --camera URL" in found.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--images", "nowhere"), "nowhere"),
        (("--images", "empty"), "empty: has no pictures"),
        (("--video", "nowhere.mp4"), "nowhere.mp4: cannot be opened: No such file or directory"),
        (("--video", "text.mp4"), "text.mp4"),
        (("--video", "empty"), "empty"),
        (("--camera", "rtsp://user:secret@127.0.0.1:1/live"), "127.0.0.1:1"),
        (("--camera", "what"), "what"),
    ],
)
def test_what_gives_no_pictures_is_named(run: Call, arguments: tuple[str, ...], expected: str) -> None:
    Path("empty").mkdir()
    Path("text.mp4").write_text("no video")
    found = run("good", *arguments, given=False)
    assert is_a_line(found), found.err
    assert expected in found.err
    assert "secret" not in found.err
    assert untouched(found.folder("good"))


# -- pictures


def test_an_unreadable_picture_ends_the_run_by_name(run: Call, tmp_path: Path) -> None:
    made_pictures(tmp_path / "some", 4)
    (tmp_path / "some" / "night.jpg").write_bytes(b"\xff\xd8\xff and nothing more")
    found = run("good", "--images", tmp_path / "some", given=False)
    assert is_a_line(found)
    assert "night.jpg" in found.err


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("black", "black or of a single colour"),
        ("same", "nearly the same as"),
        ("few", "too few different pictures"),
    ],
)
def test_pictures_that_say_nothing_are_refused(run: Call, tmp_path: Path, names: str, expected: str) -> None:
    made = made_pictures(tmp_path / names, 40)
    for index, path in enumerate(sorted(made.iterdir())):
        if names == "black":
            cv2.imwrite(str(path), np.full((80, 96, 3), index % 2, np.uint8))
        if names == "same":
            path.write_bytes((made / "0.png").read_bytes())
    found = run("good", "--images", made, given=False)
    assert is_a_line(found)
    assert expected in found.err
    if names == "few":
        assert "missing; add about " in found.err
    assert untouched(found.folder("good"))


# -- labels


@pytest.mark.parametrize("model", ["good", "finds"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("else.json", '{"a": 1}'),
        ("cut.json", '{"images": ['),
        ("list.json", "[1, 2]"),
        ("other.csv", "file,label\n0.png,zebra\n1.png,horse\n"),
        ("nobody.csv", "file,label\nnobody.png,a\n"),
        ("noise.csv", "\x00\x01\x02"),
        ("empty.json", ""),
    ],
)
def test_wrong_labels_are_refused_before_the_search(run: Call, model: str, name: str, content: str) -> None:
    Path(name).write_text(content, encoding="utf-8")
    found = run(model, "--labels", name)
    assert is_a_line(found), found.err
    assert name in found.err
    assert not list(found.cache.rglob("journal.jsonl"))
    assert untouched(found.folder(model))


def test_labels_of_too_few_pictures_say_how_many_are_missing(run: Call) -> None:
    Path("some.csv").write_text("file,label\n" + "".join(f"{i}.png,{LABELS[0]}\n" for i in range(20)), encoding="utf-8")
    found = run("good", "--labels", "some.csv")
    assert is_a_line(found)
    assert "are held out instead of 32" in found.err
    assert "missing" in found.err


# -- models


def test_a_model_that_is_quantised_already_is_refused(run: Call) -> None:
    folder = run("nobody").folder("good")
    fp32 = load(folder / "fp32.onnx")
    (folder / "fp32.onnx").write_bytes(apply(fp32, unmeasured_table(fp32)).SerializeToString())
    card = read_card(folder)
    entry = card.files["fp32"].model_copy(update={"sha256": sha256_of(folder / "fp32.onnx")})
    write_card(card.model_copy(update={"files": {"fp32": entry}}), folder)
    found = run("good")
    assert is_a_line(found)
    assert "is quantised already (" in found.err
    assert untouched(folder)


def test_an_fp32_file_that_was_altered_is_refused(run: Call) -> None:
    folder = run("nobody").folder("good")
    with (folder / "fp32.onnx").open("ab") as file:
        file.write(b"\x00")
    found = run("good")
    assert is_a_line(found)
    assert "the file is cut short or altered" in found.err


# -- where it goes


def test_a_target_that_is_something_else_is_refused_before_the_search(run: Call) -> None:
    Path("file").write_text("mine")
    Path("full").mkdir()
    Path("full", "notes.txt").write_text("mine")
    store = run("nobody").store
    for out, expected in (
        ("file", "is there already, and is no model"),
        ("full", "is there already, and is no model"),
        ("file/below", "is no folder that you may write to"),
        (store.root / "broken", "is the folder of another model, broken; name another one"),
    ):
        found = run("good", "--out", out)
        assert is_a_line(found), out
        assert expected in found.err, out
        assert not list(found.cache.rglob("journal.jsonl"))
    assert Path("file").read_text() == Path("full", "notes.txt").read_text() == "mine"
    assert untouched(store.root / "broken")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (20_000, "observed.npz: cannot be written (File too large)"),
        (70_000, "candidate: cannot be written (File too large): make room there"),
        (250_000, "good: cannot be written (File too large); what was there is as it was"),
    ],
)
def test_a_full_disk_leaves_the_model_as_it_was(run: Call, size: int, expected: str) -> None:
    with files_of_at_most(size):
        found = run("good", *SHORT)
    assert is_a_line(found), found.err
    assert expected in found.err
    assert untouched(found.folder("good"))


def test_a_cache_that_cannot_be_written_is_named(run: Call, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    found = run("good")
    assert is_a_line(found)
    assert "cannot keep a run's work there" in found.err


def test_a_second_run_of_a_model_waits_for_nobody(run: Call) -> None:
    with alone(run("nobody").cache / "sightwire" / "calibration" / "good"):
        found = run("good")
    assert is_a_line(found)
    assert "another run is at work there; wait until it has ended" in found.err


# -- packages


@pytest.mark.parametrize(
    ("package", "model", "command"),
    [
        ("onnxruntime", "good", "pip install 'sightwire["),
        ("jinja2", "good", "pip install 'sightwire[calibrate]'"),
        ("pycocotools.cocoeval", "finds", "pip install 'sightwire[calibrate]'"),
    ],
)
def test_a_missing_package_is_said_before_the_search(
    run: Call, monkeypatch: pytest.MonkeyPatch, package: str, model: str, command: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    found = run(model)
    assert is_a_line(found), found.err
    assert command in found.err
    assert not list(found.cache.rglob("observed.npz"))


def test_boxes_are_no_labels_of_a_classifier(run: Call) -> None:
    image = {"id": 0, "file_name": "0.png", "width": 96, "height": 80}
    content = {"images": [image], "categories": [{"id": 0, "name": "a"}], "annotations": []}
    Path("boxes.json").write_text(json.dumps(content), encoding="utf-8")
    found = run("good", "--labels", "boxes.json")
    assert is_a_line(found)
    assert "boxes.json" in found.err
