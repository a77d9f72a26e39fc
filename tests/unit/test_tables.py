"""Calibration tables: what they store, how small they are, and that nothing else than a table is taken for one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines import catalogue
from engines.card import model_file
from engines.errors import CardError, EngineError
from engines.qdq import (
    LARGEST_SHARE,
    Table,
    already_quantised,
    apply,
    half,
    lint,
    pack_correction,
    pack_exponents,
    unpack_correction,
    unpack_exponents,
)
from engines.store import ModelStore
from tests.support.models import REAL
from tests.support.tables import everything, measured_table, tiny_fp32

SHIPPED = [name for name in catalogue.names() if catalogue.entry(name).int8 is not None]
#: Output channels of YOLOX-nano's convolutions and their inputs' channels, and its FP32 file's size: the largest
#: tables for their file are those of small detectors.
CONVOLUTIONS, OUTPUTS, INPUTS, SUMS, FP32_BYTES = 113, 7951, 10300, 7, 3_678_356


@pytest.fixture(scope="module")
def fp32() -> onnx.ModelProto:
    return tiny_fp32()


@pytest.fixture(scope="module")
def full(fp32: onnx.ModelProto) -> Table:
    return measured_table(fp32, **everything(fp32))


@settings(max_examples=30)
@given(st.lists(st.integers(-14, 14), min_size=1, max_size=300))
def test_exponents_survive_their_text(exponents: list[int]) -> None:
    """Exactly."""
    assert unpack_exponents(pack_exponents(np.array(exponents))).tolist() == exponents


@settings(max_examples=50)
@given(st.lists(st.floats(-1e20, 1e20), min_size=1, max_size=300))
def test_corrections_survive_their_text(values: list[float]) -> None:
    """Within one in 127 of the largest; packed again they are the same text."""
    row = np.array(values)
    text = pack_correction(row)
    found = unpack_correction(text)
    assert np.abs(found - row).max() <= np.abs(row).max() / 127 + 1e-30
    assert np.array_equal(unpack_correction(pack_correction(found)), found)


@pytest.mark.parametrize("row", [[], [15], [-15], [[1]]])
def test_exponents_that_no_table_holds(row: list[int]) -> None:
    """None at all, too large, in two dimensions."""
    with pytest.raises(ValueError, match="exponents are one row"):
        pack_exponents(np.array(row, int))


@pytest.mark.parametrize("row", [[], [np.nan], [np.inf], [[1.0]], [1e38]])
def test_corrections_that_no_table_holds(row: list[float]) -> None:
    """None at all, no numbers, in two dimensions, too large."""
    with pytest.raises(ValueError, match="correction"):
        pack_correction(np.array(row, float))


def encoded(*numbers: int) -> str:
    return base64.b64encode(np.array(numbers, np.int8).tobytes()).decode()


@pytest.mark.parametrize(
    "text", ["", "!!!!", "AAA", "AAE", "AA==\n", "AB==", "\N{EURO SIGN}", encoded(15), encoded(-128)]
)
def test_corrupt_exponents(full: Table, text: str) -> None:
    """One line that names the tensor."""
    content = json.loads(full.text())
    content["equalisation"]["embedding"] = text
    with pytest.raises(CardError, match=r"t\.json: not a calibration table: equalisation\.embedding: ") as caught:
        Table.parse(json.dumps(content), "t.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "!!!!", encoded(3), encoded(101, 1), encoded(0, -128)])
def test_corrupt_corrections(full: Table, text: str) -> None:
    """One line that names the node."""
    content = json.loads(full.text())
    content["bias_corrections"]["stem"] = text
    with pytest.raises(CardError, match=r"t\.json: not a calibration table: bias_corrections\.stem: "):
        Table.parse(json.dumps(content), "t.json")


def test_a_full_table_survives_its_text(full: Table) -> None:
    """And its order does not matter."""
    turned = full.model_copy(update={"equalisation": dict(reversed(full.equalisation.items()))})
    assert Table.parse(full.text(), "t") == full
    assert turned.text() == full.text()


def test_a_table_without_the_later_fields_says_nothing_of_them(fp32: onnx.ModelProto) -> None:
    """As the tables that were written before them."""
    assert json.loads(measured_table(fp32).text()).keys() == {
        "schema", "writer", "model", "method", "calibration_set", "pictures", "kept_float", "weights", "scales",
    }  # fmt: skip


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_table_is_written_as_tables_are(name: str) -> None:
    """Read and written again, it is the same bytes."""
    table, text = catalogue.entry(name).table()
    assert table.text() == text


@pytest.mark.parametrize("name", REAL)
def test_a_shipped_table_is_a_hundredth_of_its_model(real_models: ModelStore, name: str) -> None:
    """At most."""
    card, folder = real_models.find(name)
    assert catalogue.entry(name).table()[0].share(model_file(card, folder, "fp32").stat().st_size) <= LARGEST_SHARE


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_table_is_small_beside_its_weights(name: str) -> None:
    """Also of those that cannot be had here: beside what is fetched of them, four bytes a weight or two."""
    table, _ = catalogue.entry(name).table()
    assert table.share(catalogue.entry(name).fetch.size) <= LARGEST_SHARE


def test_the_fullest_table_of_a_small_detector_is_small_enough() -> None:
    """Every field for every one of YOLOX-nano's convolutions, in the worst numbers."""
    rng = np.random.default_rng(0)
    names = [f"conv_{index}" for index in range(CONVOLUTIONS)]
    inputs, outputs = -(-INPUTS // CONVOLUTIONS), -(-OUTPUTS // CONVOLUTIONS)
    table = Table(
        model="0" * 64,
        method="percentile 99.99 + equalisation + bias correction",
        calibration_set="0" * 64,
        pictures=1000,
        kept_float=tuple(names[-9:]),
        scales={f"mul_{index}": 0.0123748779296875 for index in range(CONVOLUTIONS + 2 * SUMS)},
        equalisation={f"mul_{index}": pack_exponents(rng.integers(-14, 15, inputs)) for index in range(CONVOLUTIONS)},
        bias_corrections={name: pack_correction(rng.normal(0, 1, outputs)) for name in names},
    )
    assert table.share(FP32_BYTES) <= LARGEST_SHARE


def test_a_model_that_is_already_quantised_is_known(fp32: onnx.ModelProto, full: Table) -> None:
    """By its first operator that is; a float one has none."""
    assert already_quantised(fp32) is None
    assert already_quantised(apply(fp32, full)) == "QuantizeLinear normalised.q"
    assert already_quantised(half(apply(fp32, full))) is not None


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**12), 10**12), st.floats(), st.text(max_size=8), st.builds(list),
    st.builds(dict), st.binary(max_size=12).map(lambda data: base64.b64encode(data).decode()),
    st.sampled_from(["stem", "embedding", "normalised", "fc", "images", "logits", "full", 1e300, 1e-300]),
)  # fmt: skip
FP32 = tiny_fp32()
FULL = measured_table(FP32, **everything(FP32)).text()


def complaint(make: Callable[[], object]) -> str:
    """What an error of ours says; nothing where there is none."""
    try:
        make()
    except EngineError as error:
        return str(error)
    return ""


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_mutated_table_is_refused_or_applied(data: st.DataObject) -> None:
    """Whatever stands in it: an error of ours in one line, or a model that passes the lint."""
    content = json.loads(FULL)
    for _ in range(data.draw(st.integers(1, 3))):
        place = content
        key = data.draw(st.sampled_from(["equalisation", "bias_corrections", "scales", *sorted(content)]))
        if isinstance(place.get(key), dict) and data.draw(st.booleans()):
            place = place[key]
            key = data.draw(st.sampled_from([*sorted(place), "stem", "deep", "sum", "new"]))
        if data.draw(st.booleans()):
            place.pop(key, None)
        else:
            place[key] = data.draw(VALUES)
    assert "\n" not in complaint(lambda: lint(apply(FP32, Table.parse(json.dumps(content), "t"))))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(FULL)), st.binary(max_size=4), st.integers(0, 40))
def test_a_damaged_text_is_refused_or_read(at: int, new: bytes, gone: int) -> None:
    """Bytes replaced anywhere."""
    text = FULL.encode()
    assert "\n" not in complaint(lambda: Table.parse(text[:at] + new + text[at + gone :], "t").text().encode())
