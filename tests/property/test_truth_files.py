"""Whatever lies in a label file, it is read or refused in one line."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calibration.errors import DatasetError
from calibration.truth import Classes, Objects
from calibration.truth.read import read_truth
from tests.support.labelled import samples

LABELS = ("person", "fire truck", "1", "crane", "crane")
PICTURES = samples("a.jpg", "x/b.jpg", "/data/x/c.jpg", "clip.mp4#12")
MANY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

FILES = ["a.jpg", "b.jpg", "x/b.jpg", "c.jpg", "clip.mp4#12"]

words = st.sampled_from([*FILES, "file", "label", "class", "class_index", *LABELS, "0", "-1", ""]) | st.text(max_size=6)
numbers = st.integers(-2, 4) | st.floats() | st.integers() | st.just(10**400)
junk: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
ids = st.integers(0, 3) | junk
tables = st.builds(
    lambda rows, separator, end: end.join(separator.join(row) for row in rows).encode("utf-8", "surrogatepass"),
    st.lists(st.lists(words, max_size=4), max_size=6).map(lambda rows: [["file", "label"], *rows]),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n", "\r", '"\n']),
)
annotations = st.fixed_dictionaries(
    {},
    optional={
        "image_id": ids,
        "category_id": ids,
        "bbox": st.lists(numbers, min_size=4, max_size=4) | junk,
        "area": numbers | junk,
        "iscrowd": st.integers(0, 1) | junk,
    },
)
datasets = st.fixed_dictionaries(
    {},
    optional={
        "images": st.lists(st.fixed_dictionaries({"id": ids, "file_name": words}) | junk, max_size=5) | junk,
        "categories": st.lists(st.fixed_dictionaries({"id": ids, "name": words}) | junk, max_size=4) | junk,
        "annotations": st.lists(annotations | junk, max_size=4) | junk,
    },
)


def check(content: bytes, finds_boxes: bool, partial: bool) -> None:
    truth, line = None, ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels"
        path.write_bytes(content)
        try:
            truth = read_truth(path, PICTURES, LABELS, finds_boxes, partial)
        except DatasetError as error:
            line = str(error)
    if truth is None:
        assert len(line.splitlines()) == 1
        assert len(line) < 500 + len(folder)
        assert line.encode()
        return
    assert isinstance(truth, Objects if finds_boxes else Classes)
    assert partial or set(truth.of) == {sample.name for sample in PICTURES}
    if isinstance(truth, Classes):
        assert all(0 <= label < len(LABELS) for label in truth.of.values())


@given(st.binary(max_size=200) | tables, st.booleans(), st.booleans())
@MANY
def test_any_bytes_and_tables(content: bytes, finds_boxes: bool, partial: bool) -> None:
    check(content, finds_boxes, partial)


@given(datasets | junk, st.booleans(), st.booleans())
@MANY
def test_any_json(content: Any, finds_boxes: bool, partial: bool) -> None:
    check(json.dumps(content).encode(), finds_boxes, partial)


@given(st.integers(0, 400), st.integers(0, 255), st.booleans())
@MANY
def test_a_coco_json_with_a_byte_changed(at: int, byte: int, finds_boxes: bool) -> None:
    whole = {
        "images": [{"id": index, "file_name": sample.name} for index, sample in enumerate(PICTURES)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [{"id": 1, "image_id": 2, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}],
    }
    content = bytearray(json.dumps(whole).encode())
    content[at % len(content)] = byte
    check(bytes(content), finds_boxes, partial=False)
