"""Equalisation: another range for every channel, the same function to the bit; and bias corrections."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from engines.errors import ModelFileError
from engines.graph import constants
from engines.qdq import (
    apply,
    corrected,
    equalisable,
    equalised,
    lint,
    pack_correction,
    pack_exponents,
    unpack_correction,
)
from tests.support.models import run_onnx
from tests.support.tables import blank_table, branching_fp32, everything, measured_table, noise, tiny_fp32

PLACES = equalisable(branching_fp32())


@pytest.fixture(scope="module")
def fp32() -> onnx.ModelProto:
    return branching_fp32()


def test_where_channels_can_be_equalised() -> None:
    """Where INT8 convolutions alone read them; the factors go into a producer past steps that let them through."""
    assert {name: (place.channels, place.producer) for name, place in PLACES.items()} == {
        "normalised": (3, None),
        "pooled": (8, "first"),  # through LeakyRelu and MaxPool
        "swish": (16, None),  # x * sigmoid(x) does not let them through
        "prelu": (12, "grouped"),
        "both": (12, None),  # a sum
        "bounded.relu6": (12, None),  # a bound does not either
        "again": (12, "middle"),
        "row": (12, None),
        "hidden.relu": (9, "hidden"),
    }
    assert PLACES["prelu"].readers == ("left", "right")


@settings(max_examples=12, deadline=None)
@given(st.fixed_dictionaries({n: st.lists(st.integers(-6, 6), min_size=p.channels, max_size=p.channels)
                              for n, p in PLACES.items()}))  # fmt: skip
def test_the_function_stays_to_the_bit(exponents: dict[str, list[int]]) -> None:
    """Whatever the exponents, wherever they are."""
    fp32 = branching_fp32()
    table = blank_table(fp32, equalisation={name: pack_exponents(np.array(row)) for name, row in exponents.items()})
    images = noise(2)
    assert np.array_equal(run_onnx(equalised(fp32, table), images)[0], run_onnx(fp32, images)[0])


def test_every_tensor_is_divided_by_its_powers(fp32: onnx.ModelProto) -> None:
    """Under its own name, so that its range is observed where its scale will stand."""
    rows = {name: np.arange(place.channels) % 5 - 2 for name, place in PLACES.items()}
    table = blank_table(fp32, equalisation={name: pack_exponents(row) for name, row in rows.items()})
    before, after = (run_onnx(model, noise(1), *PLACES) for model in (fp32, equalised(fp32, table)))
    for (name, row), old, new in zip(rows.items(), before, after, strict=True):
        factors = np.ldexp(1.0, row).reshape(1, -1, *[1] * (old.ndim - 2))
        assert np.array_equal(new * factors, old), name


def test_a_step_is_added_only_where_it_must_be(fp32: onnx.ModelProto) -> None:
    """A Mul after SiLU, none where a producer takes the factors, and none for exponents of 0."""
    kinds = []
    for tensor, exponent in (("swish", 1), ("pooled", 1), ("swish", 0)):
        text = pack_exponents(np.full(PLACES[tensor].channels, exponent))
        model = equalised(fp32, blank_table(fp32, equalisation={tensor: text}))
        kinds.append([node.op_type for node in model.graph.node].count("Mul"))
        onnx.checker.check_model(model, full_check=True)
    plain = [node.op_type for node in fp32.graph.node].count("Mul")
    assert kinds == [plain + 1, plain, plain]


def test_int8_of_everything(fp32: onnx.ModelProto) -> None:
    """Equalised and corrected, it is well-formed, close to FP32, and the same bytes each time."""
    table = measured_table(fp32, **everything(fp32, most=1))
    int8 = apply(fp32, table)
    lint(int8)
    onnx.checker.check_model(int8, full_check=True)
    want, got = run_onnx(corrected(fp32, table), noise())[0], run_onnx(int8, noise())[0]
    assert np.abs(got - want).max() < 0.1 * np.abs(want).max()
    assert int8.SerializeToString(deterministic=True) == apply(fp32, table).SerializeToString(deterministic=True)


def test_equalisation_mends_channels_that_differ(fp32: onnx.ModelProto) -> None:
    """A channel a hundred times larger than the others costs them their levels, until it is brought to their range."""
    spoilt = onnx.ModelProto()
    spoilt.CopyFrom(fp32)
    for name, factor in (("middle.w", 100), ("middle.b", 100), ("last.w", 0.01)):
        tensor = next(tensor for tensor in spoilt.graph.initializer if tensor.name == name)
        array = constants(spoilt)[name].copy()
        array[(slice(None), 0) if name == "last.w" else 0] *= factor
        tensor.raw_data = array.astype(np.float32).tobytes()
    fixed = {"again": pack_exponents(np.array([7] + [0] * 11))}
    want = run_onnx(spoilt, noise())[0]
    plain, mended = (
        np.abs(run_onnx(apply(spoilt, measured_table(spoilt, equalisation=rows)), noise())[0] - want).mean()
        for rows in ({}, fixed)
    )
    assert mended < plain / 2


def test_corrections_are_added_to_biases(fp32: onnx.ModelProto) -> None:
    """To one that is there, and as a new one where there is none; other nodes keep theirs."""
    rows = {"first": np.linspace(-1, 1, 8), "deep": np.linspace(0, 3, 16), "logits": np.linspace(-1, 0, 5)}
    table = blank_table(fp32, bias_corrections={name: pack_correction(row) for name, row in rows.items()})
    model = corrected(fp32, table)
    old, new = constants(fp32), constants(model)
    nodes = {node.name: node for node in model.graph.node}
    for name, row in rows.items():
        before = old.get(f"{name}.b", np.zeros(1, np.float32))
        assert np.array_equal(new[nodes[name].input[2]], before + unpack_correction(table.bias_corrections[name]))
        assert np.allclose(new[nodes[name].input[2]], before + row, atol=0.01 * np.abs(row).max())
    assert nodes["right"].input[2] == "right.b"
    assert "first.b" not in new


def test_operations_that_stay_in_float_take_part(fp32: onnx.ModelProto) -> None:
    """Powers of two change nothing in them, to the bit."""
    table = blank_table(fp32, equalisation={"again": pack_exponents(np.arange(12) - 6)}, kept_float=("last",))
    assert np.array_equal(run_onnx(equalised(fp32, table), noise(1))[0], run_onnx(fp32, noise(1))[0])


def test_a_constant_that_two_nodes_share_changes_for_one(fp32: onnx.ModelProto) -> None:
    """The other still reads the old one."""
    shared = onnx.ModelProto()
    shared.CopyFrom(fp32)
    next(node for node in shared.graph.node if node.name == "last").input[1] = "middle.w"
    table = blank_table(shared, equalisation={"again": pack_exponents(np.arange(12) - 6)})
    assert np.array_equal(run_onnx(equalised(shared, table), noise(1))[0], run_onnx(shared, noise(1))[0])


def bend(model: onnx.ModelProto) -> None:
    """Give a tensor to a reader that is no convolution."""
    model.graph.node.append(helper.make_node("Sigmoid", ["again"], ["spare"], name="spare"))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"equalisation": {"again": pack_exponents(np.ones(3, int))}}, "equalises 3 channels of again, which has 12"),
        ({"equalisation": {"nowhere": pack_exponents(np.ones(3, int))}}, "nowhere cannot be equalised: no node"),
        ({"equalisation": {"images": pack_exponents(np.ones(3, int))}}, "images cannot be equalised: no node"),
        ({"equalisation": {"logits": pack_exponents(np.ones(5, int))}}, "logits cannot be equalised: it is an output"),
        ({"equalisation": {"deep": pack_exponents(np.ones(16, int))}}, "deep cannot be equalised: gate reads it"),
        ({"equalisation": {"last": pack_exponents(np.ones(12, int))}}, "last cannot be equalised: pool reads it"),
        ({"bias_corrections": {"first": pack_correction(np.ones(3))}}, "corrects 3 channels of first, which has 8"),
        ({"bias_corrections": {"nobody": pack_correction(np.ones(3))}}, "corrects the bias of 'nobody'"),
        ({"bias_corrections": {"both": pack_correction(np.ones(3))}}, "both, which is not a Conv or Gemm"),
    ],
)
def test_tables_that_do_not_fit(fp32: onnx.ModelProto, fields: dict[str, object], complaint: str) -> None:
    """One line that names what does not."""
    table = blank_table(fp32, **fields)
    with pytest.raises(ModelFileError) as caught:
        apply(fp32, table)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_reader_forbids_it(fp32: onnx.ModelProto) -> None:
    """It would see the divided channels."""
    bent = onnx.ModelProto()
    bent.CopyFrom(fp32)
    bend(bent)
    assert "again" not in equalisable(bent)


def test_a_residual_forbids_it() -> None:
    """What an Add reads besides a convolution stays as it is."""
    assert set(equalisable(tiny_fp32())) == {"normalised", "embedding"}
