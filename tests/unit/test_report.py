"""The report: what stands on the page, whatever is missing, hostile or too much."""

from __future__ import annotations

import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.errors import CalibrationError, MissingExtra
from calibration.proof import Data, Layer, Measured, Point, Proof, Set, Speed, Worst
from calibration.report import Compared, Side, SideBySide, write_comparison, write_report
from calibration.report.matching import matches
from calibration.report.page import _template
from calibration.report.side_by_side import jpeg, show
from calibration.report.svg import ticks
from calibration.report.verdict import Scores, culprits, verdict
from calibration.truth import Boxes
from engines.pixels import Image
from engines.results import Classification, Detections
from tests.support.pictures import image_from, smooth_bgr

HOSTILE = "</text></svg><script>alert(1)</script><img src=x onerror=alert(2)>'\"&{{ 7*7 }}"
VOID = {"br", "img", "input", "link", "meta", "wbr"}
ALWAYS = ["verdict", "data", "provenance", "json"]


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, texts, and whether elements nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.words.append(data)

    def handle_decl(self, decl: str) -> None:
        assert decl == "DOCTYPE html"

    @property
    def text(self) -> str:
        """All words, spaces made single."""
        return " ".join(" ".join(self.words).split())

    @property
    def sections(self) -> list[str]:
        """Their ids, in order."""
        return [str(found["id"]) for tag, found in self.elements if tag == "section"]

    def all(self, tag: str, class_: str | None = None) -> list[dict[str, str | None]]:
        """Attributes of elements of that kind."""
        return [
            found
            for name, found in self.elements
            if name == tag and (not class_ or class_ in (found.get("class") or "").split())
        ]


def layer(index: int, **changes: Any) -> Layer:
    known: dict[str, Any] = {
        "name": f"/body/{index}/Conv", "operator": "Conv", "precision": "int8", "macs": 1000 + index,
        "signal_to_noise_db": 30.0 - index % 7, "alone_db": 40.0 - index % 11,
    }  # fmt: skip
    return Layer(**(known | changes))


def proof(**changes: Any) -> Proof:
    """A proof of everything, inside its budget."""
    float_layer = layer(2, precision="float", reason="alone it loses 1.9 points", depthwise=True)
    known: dict[str, Any] = {
        "model": "people", "fp32_sha256": "a" * 64, "int8_sha256": "b" * 64, "table_sha256": "c" * 64,
        "method": "percentile 99.99 + bias correction",
        "data": Data(
            source="photos/", way="bgr", found=140, duplicates=7, calibration=Set(pictures=60, hash="d" * 64),
            held_out=Set(pictures=73, hash="e" * 64), labelled=True,
        ),
        "measured": measured(),
        "layers": (layer(0), layer(1), float_layer, layer(3)),
        "trade_off": (
            Point(method="min-max", kept_float=(), float_macs=0, output_db=12.5, loss=3.25, interval=(2.0, 4.0)),
            Point(method="percentile 99.99 + bias correction", kept_float=("/body/2/Conv",), float_macs=1002,
                  output_db=25.0, loss=0.4, interval=(-0.1, 0.9), chosen=True),
            Point(method="entropy", kept_float=("/body/2/Conv", "/body/3/Conv"), float_macs=2005, output_db=26.0),
        ),
        "speed": Speed(fp32_ms=10.0, int8_ms=4.0, bf16_ms=7.0, int8_bf16_ms=3.5, device="Some CPU, AVX2"),
        "worst": (Worst(picture="yard.jpg", badness=0.75, fp32="person 0.90", int8="nothing"),),
        "versions": {"sightwire": "1.2.3", "onnx": "1.19"},
    }  # fmt: skip
    return Proof(**(known | changes))


def measured(**changes: Any) -> Measured:
    known: dict[str, Any] = {
        "metric": "AP .50:.95", "fp32": 30.0, "int8": 29.6, "loss": 0.4, "interval": (-0.1, 0.9), "pictures": 73,
        "budget": 1.5, "inside": True, "resolved": True,
        "details": {
            "AP .50": {"a": 50.0, "b": 49.25}, "labels": 2,
            "worst classes": [{"label": "dog", "a": 40.0, "b": 31.5, "loss": 8.5, "objects": 12}],
        },
    }  # fmt: skip
    return Measured(**(known | changes))


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int32))


def boxes_pair(name: str = "yard.jpg", labels: tuple[str, str] = ("person", "dog"), **changes: Any) -> SideBySide:
    known: dict[str, Any] = {
        "image": image_from(smooth_bgr(640, 480), "bgr"),
        "a": detections((10, 20, 110, 220, 0.9, 0), (300, 50, 400, 150, 0.6, 1), (0, 0, 5, 5, 0.05, 1)),
        "b": detections((12, 20, 112, 221, 0.8, 0), (500, 300, 600, 400, 0.4, 1)),
        "truth": Boxes(np.array([[10, 20, 110, 220]], np.float32), np.array([0], np.int32), np.array([False]),
                       np.array([20000.0], np.float32)),
    }  # fmt: skip
    return SideBySide(name, labels=labels, **(known | changes))


def classes_pair(**changes: Any) -> SideBySide:
    known: dict[str, Any] = {
        "image": image_from(smooth_bgr(64, 48), "i420"),
        "a": Classification(np.array([1, 0], np.int32), np.array([0.7, 0.3], np.float32)),
        "b": Classification(np.array([0, 1], np.int32), np.array([0.55, 0.45], np.float32)),
        "truth": 1,
    }
    return SideBySide("yard.jpg", labels=["cat", "lynx"], **(known | changes))


def compared(**changes: Any) -> Compared:
    known: dict[str, Any] = {
        "a": Side(name="people@fp32", sha256="a" * 64, engine="openvino, f32", ms=8.0),
        "b": Side(name="people@int8", sha256="b" * 64, engine="openvino, f32", ms=4.0), "source": "photos/",
        "set": Set(pictures=20, hash="d" * 64), "metric": "top-1", "a_points": 80.0, "b_points": 79.0, "loss": 1.0,
        "interval": (0.0, 2.0), "pictures": 20, "device": "Some CPU",
    }  # fmt: skip
    return Compared(**(known | changes))


def written(made: Proof | Compared, pairs: list[SideBySide], folder: Path) -> str:
    out = folder / "report.html"
    write_report(made, pairs, out) if isinstance(made, Proof) else write_comparison(made, pairs, out)
    return out.read_text(encoding="utf-8")


def test_a_page_has_every_section_in_the_order_that_a_worried_engineer_reads(tmp_path: Path) -> None:
    """The verdict first, the JSON last."""
    page = Page(written(proof(), [boxes_pair()], tmp_path))
    order = ["verdict", "speed", "details", "trade-off", "layers", "classes", "pictures", "data", "provenance", "json"]
    assert page.sections == order


def test_the_verdict_is_a_sentence_with_all_figures(tmp_path: Path) -> None:
    """Metric, both values, loss, interval, pictures, budget; and whether the set is large enough."""
    text = Page(written(proof(), [], tmp_path)).text
    assert "Inside the budget" in text
    assert (
        "AP .50:.95: FP32 30.00, INT8 29.60. INT8 loses 0.40 points (95 % interval of the loss −0.10 to 0.90), "
        "measured on 73 held-out pictures. The budget is 1.50 points." in text
    )
    assert "large enough to tell a loss of the budget from chance" in text


def test_the_page_has_the_figures_of_the_proof(tmp_path: Path) -> None:
    """Speed, candidates, layers and their reasons, classes, data, hashes, versions."""
    text = Page(written(proof(), [], tmp_path)).text
    for words in (
        "INT8 is 2.50 times as fast as FP32", "Some CPU, AVX2", "3.50 ms", "1 layer in float, 25.0 % of MACs",
        "percentile 99.99 + bias correction (chosen)", "alone it loses 1.9 points", "dog 40.00 31.50 8.50 12 objects",
        "60 pictures", "73 pictures", "a" * 64, "b" * 64, "c" * 64, "d" * 64, "e" * 64, "1.2.3", "photos/",
        "AP .50 50.00 49.25 0.75", "INT8, bf16 for the float parts",
    ):  # fmt: skip
        assert words in text, words


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    """No address but its own parts and embedded pictures, no script, and a policy that forbids both."""
    text = written(proof(), [boxes_pair()], tmp_path)
    page = Page(text)
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "base", "form", "a")
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "src", "xlink:href"):
                assert re.match(r"#[\w-]+$|data:image/jpeg;base64,", value or ""), (tag, value)
            if name in ("style", "fill"):
                assert "url(" not in (value or "")
    style = text.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [found for found in page.all("meta") if found.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in str(policy["content"])
    assert "script-src" not in str(policy["content"])


def test_hostile_names_stay_words(tmp_path: Path) -> None:
    """Of labels, files, layers, methods, reasons and sources: as many elements as with tame names."""

    def made(name: str) -> str:
        evil = layer(0, name=name, operator=name, precision="float", reason=name)
        worst = measured().details | {"worst classes": [{"label": name, "a": 1.0, "b": 0.0, "loss": 1.0, "objects": 1}]}
        subject = proof(
            model=name, method=name, layers=(evil, layer(1, name=name)), versions={name: name},
            data=proof().data.model_copy(update={"source": name}),
            measured=measured(metric=name, details=worst | {name: {"a": 1.0, "b": 0.5}}),
            trade_off=tuple(point.model_copy(update={"method": name}) for point in proof().trade_off),
            worst=tuple(Worst(picture=name + end, badness=1.0, fp32=name, int8=name) for end in ("", "2")),
            speed=Speed(fp32_ms=1.0, int8_ms=1.0, device=name),
        )  # fmt: skip
        return written(subject, [boxes_pair(name, (name, name))], tmp_path)

    evil, tame = (Page(made(name)) for name in (HOSTILE, "tame"))
    breaks = [len([1 for tag, _ in page.elements if tag != "wbr"]) for page in (evil, tame)]
    assert breaks[0] == breaks[1]
    assert "alert(1)" in evil.text
    assert "{{ 7*7 }}" in evil.text


def test_a_page_without_the_parts_that_may_be_missing(tmp_path: Path) -> None:
    """No layers, no trade-off, no speed, no worst, no details."""
    bare = proof(layers=(), trade_off=(), speed=None, worst=(), measured=measured(details={}))
    assert Page(written(bare, [], tmp_path)).sections == ALWAYS


def test_layers_that_were_not_measured(tmp_path: Path) -> None:
    """Neither noise nor sensitivity, and values that are no numbers."""
    odd = (
        layer(0, signal_to_noise_db=None, alone_db=None, macs=0),
        layer(1, signal_to_noise_db=math.inf, alone_db=-math.inf),
        layer(2, signal_to_noise_db=math.nan, alone_db=math.nan),
        layer(3, precision="float", reason=None),
    )  # fmt: skip
    text = written(proof(layers=odd), [], tmp_path)
    assert not re.search(r"\b(nan|inf)\b", text.split('id="json"')[0], re.IGNORECASE)
    alone = written(proof(layers=odd[:1]), [], tmp_path)
    assert "not measured" in Page(alone).text


def test_candidates_whose_figures_are_no_numbers(tmp_path: Path) -> None:
    """Of a network that overflowed; and no budget to speak of."""
    common: dict[str, Any] = {"method": "mse", "kept_float": (), "float_macs": 0}
    points = (
        Point(**common, output_db=math.nan, loss=math.nan, interval=(math.nan, math.nan), chosen=True),
        Point(**common, output_db=-math.inf, loss=math.inf),
        Point(**common, output_db=math.inf, loss=2.0),
    )
    bad = measured(int8=math.nan, loss=math.nan, interval=(math.nan, math.nan), budget=0.0, inside=False)
    for some in (points, points[:1]):
        text = written(proof(trade_off=some, layers=(), measured=bad), [], tmp_path)
        assert not re.search(r"\b(nan|inf|infinity)\b", text, re.IGNORECASE)


def test_three_hundred_layers_and_candidates(tmp_path: Path) -> None:
    """Every one has a mark and a row, and the page stays under a megabyte."""
    layers = tuple(layer(index) for index in range(300))
    points = tuple(
        Point(
            method=f"method {index % 9}", kept_float=(), float_macs=index * 1000, output_db=index / 10, loss=index / 50
        )
        for index in range(300)
    )
    text = written(proof(layers=layers, trade_off=points), [], tmp_path)
    page = Page(text)
    marks = page.all("g", "mark")
    assert len(marks) == 300 + 2 * 300  # the trade-off is drawn for wide and for narrow screens
    assert "/body/299/Conv" in page.text.replace(" ", "")
    assert len(text) < 1_600_000


def test_every_mark_says_its_figures(tmp_path: Path) -> None:
    """Exact ones, in the page itself: no script has to be run."""
    text = Page(written(proof(), [], tmp_path)).text
    assert "1. /body/0/Conv · Conv · 1.00 k MACs" in text
    assert "output 30.000 dB · alone in INT8 40.000 dB · INT8" in text
    assert "loss 0.400 (−0.10 to 0.90)" in text


def test_a_refusal_names_the_layers_and_why(tmp_path: Path) -> None:
    """The most sensitive that are in INT8, after what was kept in float already."""
    bad = measured(int8=1.4, loss=28.6, interval=(25.0, 31.0), inside=False)
    layers = (
        layer(0, alone_db=3.0, depthwise=True),
        layer(1, alone_db=55.0),
        layer(2, alone_db=1.0, precision="float"),
    )
    page = Page(written(proof(measured=bad, layers=layers), [], tmp_path))
    assert page.sections[:2] == ["verdict", "refusal"]
    for words in (
        "Outside the budget",
        "27.10 more than the budget of 1.50. No model was installed.",
        "1 layer in float already",
        "INT8 in it alone leaves the outputs at 3.0 dB, noise of 71 % of the signal",
    ):
        assert words in page.text
    assert [culprit.layer.name for culprit in culprits(layers)] == ["/body/0/Conv", "/body/1/Conv"]


def test_a_set_that_is_too_small_says_how_large_would_do() -> None:
    small = measured(interval=(-4.0, 5.0), resolved=False, resolution=4.5, pictures_needed=180, pictures=20, budget=1.5)
    said = verdict(Scores.of(proof(measured=small)))
    assert said.state == "unsure"
    assert said.certainty is not None
    assert "chance alone moves the loss by ±4.50 points" in said.certainty
    assert "About 180 held-out pictures would do." in said.certainty


def test_an_interval_that_ends_outside_the_budget_is_said_to(tmp_path: Path) -> None:
    """The loss is inside, and the set resolves the budget, yet the true loss may be larger."""
    said = verdict(Scores.of(proof(measured=measured(loss=1.0, interval=(0.2, 1.8)))))
    assert said.state == "inside"
    assert "the true loss may be outside" in str(said.certainty)
    assert "outside" not in str(verdict(Scores.of(proof())).certainty)


def test_a_gain_is_said_to_be_one() -> None:
    """And a loss that rounds to nothing, nothing."""
    assert "INT8 gains 0.25 points" in verdict(Scores.of(proof(measured=measured(loss=-0.25)))).sentence
    assert "INT8 loses nothing" in verdict(Scores.of(proof(measured=measured(loss=-0.001)))).sentence


def test_boxes_are_told_apart_by_who_finds_them(tmp_path: Path) -> None:
    """Found by both, by one only, really there; those below the threshold are not shown."""
    page = Page(written(proof(), [boxes_pair()], tmp_path))
    kinds = [
        next(kind for kind in ("both", "lost", "new", "truth") if kind in str(found["class"]))
        for found in page.all("rect", "box")
    ]
    assert sorted(kinds) == ["both", "both", "lost", "new", "truth"]
    assert "FP32 finds 2 objects, INT8 2. Only FP32: dog 0.60. Only INT8: dog 0.40." in page.text
    assert "Largest change of a score: person 0.90 → 0.80." in page.text


def test_a_picture_is_embedded_once(tmp_path: Path) -> None:
    """However often it is drawn; and every drawing says what it shows."""
    page = Page(written(proof(), [boxes_pair(), boxes_pair("other.jpg")], tmp_path))
    assert len(page.all("image")) == 2
    drawn = [found["href"] for found in page.all("use")]
    assert drawn == ["#picture-1"] * 3 + ["#picture-2"] * 3
    assert all(found.get("aria-label") for found in page.all("svg") if found.get("role") == "img")
    assert "INT8 finds 2 objects: person 0.80, dog 0.40." in [
        found.get("aria-label") for found in page.all("svg", "picture")
    ]


def test_classes_stand_side_by_side_with_the_right_one_marked(tmp_path: Path) -> None:
    """As lists beside the picture."""
    text = Page(written(proof(), [classes_pair()], tmp_path)).text
    assert "FP32 says lynx (0.700), INT8 cat (0.550). It is lynx." in text
    assert text.count("✓") == 1 + 2  # the verdict's, and one in each list


def test_pictures_beyond_the_room_are_named(tmp_path: Path) -> None:
    """The page stays under 5 MB, and says what is left out."""
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)
    pairs = [boxes_pair(f"{index}.jpg", image=image_from(noise, "bgr")) for index in range(30)]
    worst = tuple(Worst(picture=f"{index}.jpg", badness=1.0, fp32="a", int8="b") for index in range(30))
    text = written(proof(worst=worst), pairs, tmp_path)
    page = Page(text)
    assert len(text) < 5_000_000
    shown = len(page.all("article"))
    assert 1 <= shown < 30
    assert "29.jpg" in page.text.replace(" ", "")


def test_results_of_two_kinds_are_no_pair() -> None:
    """A mistake of the caller."""
    with pytest.raises(ValueError, match="a Detections beside a Classification"):
        show(boxes_pair(b=classes_pair().b), ("FP32", "INT8"), 1)


@pytest.mark.parametrize("pixels", ["bgr", "i420", "nv12", "gray"])
def test_pictures_of_every_format_are_shown_in_their_colours(pixels: Any) -> None:
    """Within what JPEG and the format's own rounding change."""
    import cv2

    bgr = smooth_bgr(320, 240)
    data, size = jpeg(image_from(bgr, pixels))
    assert size == (320, 240)
    seen = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).astype(int)
    wanted = bgr if pixels != "gray" else cv2.cvtColor(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    assert np.abs(seen - wanted).mean() < 4


@pytest.mark.parametrize("size", [(4000, 3000), (3, 2000), (1, 1)])
def test_a_picture_of_any_size_is_made_fit(size: tuple[int, int]) -> None:
    """Large ones smaller, small ones as they are."""
    bgr = np.zeros((size[1], size[0], 3), np.uint8)
    _, found = jpeg(Image((bgr,), "bgr", "601", "full", size))
    assert max(found) <= 560
    assert min(found) >= 1


def test_equal_boxes_are_one_object_only_with_one_label() -> None:
    """And each is matched once."""
    a = detections((0, 0, 10, 10, 0.9, 0), (0, 0, 10, 10, 0.8, 0), (50, 50, 60, 60, 0.7, 1))
    b = detections((0, 0, 10, 11, 0.5, 0), (50, 50, 60, 60, 0.9, 0))
    assert matches(a, b) == {0: 0}
    assert matches(a, detections()) == {}
    assert matches(detections(), b) == {}


def test_a_comparison_is_the_same_page_without_what_it_has_not(tmp_path: Path) -> None:
    """Names of the two instead of FP32 and INT8; no budget unless there is one."""
    page = Page(written(compared(), [classes_pair()], tmp_path))
    assert page.sections == ["verdict", "speed", "pictures", "data", "provenance", "json"]
    assert "people@int8 loses 1.00 points against people@fp32" in page.text
    assert "people@int8 is 2.00 times as fast as people@fp32" in page.text
    assert "people@fp32 says lynx" in page.text
    assert "budget" not in page.text.split("Everything, as data")[0]
    judged = Page(written(compared(budget=0.5, inside=False, resolved=True), [], tmp_path))
    assert "Outside the budget" in judged.text
    assert "No model was installed" not in judged.text


def test_the_json_of_the_page_is_the_proof(tmp_path: Path) -> None:
    """All of it, so that a page alone is enough to look into."""
    made = proof(model=HOSTILE)
    page = Page(written(made, [], tmp_path))
    (text,) = [words for words in page.words if words.startswith("{\n")]
    assert Proof.model_validate(json.loads(text)) == made
    both = Page(written(compared(), [], tmp_path))
    (text,) = [words for words in both.words if words.startswith("{\n")]
    assert Compared.model_validate(json.loads(text)) == compared()


def test_the_same_proof_gives_the_same_bytes(tmp_path: Path) -> None:
    """Pictures too."""
    assert written(proof(), [boxes_pair()], tmp_path) == written(proof(), [boxes_pair()], tmp_path)


def test_a_full_disk_leaves_the_older_page(tmp_path: Path) -> None:
    """One line, nothing half-written, and nothing beside it."""
    out = tmp_path / "report.html"
    out.write_text("older")
    (tmp_path / "report.html.partial").symlink_to("/dev/full")
    with pytest.raises(
        CalibrationError, match=r"^.*report.html: the report cannot be written \(No space left on device\)"
    ) as told:
        write_report(proof(), [], out)
    assert "\n" not in str(told.value)
    assert out.read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_that_is_not_there_is_a_line(tmp_path: Path) -> None:
    """With what to do."""
    with pytest.raises(CalibrationError, match=r"No such file or directory.*name another place"):
        write_report(proof(), [], tmp_path / "no" / "report.html")


def test_without_jinja2_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is part of the calibrate extra."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    _template.cache_clear()
    with pytest.raises(MissingExtra, match=r"sightwire\[calibrate\]"):
        write_report(proof(), [], tmp_path / "report.html")


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.2, 41.0), (0.0, 0.013), (1.0, 300.0), (-0.5, 0.5)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    """Three to eleven of them."""
    found = ticks(low, high, 5)
    assert 2 <= len(found) <= 11
    assert low - 1e-9 <= found[0] <= found[-1] <= high + 1e-9
