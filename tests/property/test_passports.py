"""Whatever lies beside a model: it is a plan that was written there, or it is none; never a traceback."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from engines.trt.passport import read_passport
from engines.trt.store import PlanStore
from tests.support.plans import saved, some_passport, with_made

GOOD = json.loads(with_made(some_passport()).model_dump_json())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*GOOD, *GOOD["made"]]), inner),
    max_leaves=8,
)


@settings(max_examples=50)
@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_passport_is_none(content: bytes) -> None:
    assert read_passport(content) is None


@settings(max_examples=50)
@given(st.sampled_from([*GOOD]), JSON)
def test_a_passport_with_another_value_is_another_or_none(field: str, value: object) -> None:
    found = read_passport(json.dumps({**GOOD, field: value}).encode())
    if found is not None:
        same = json.loads(found.model_dump_json(exclude={"made"})) == {k: v for k, v in GOOD.items() if k != "made"}
        assert (found.key == some_passport().key) == same


@settings(max_examples=50)
@given(st.sampled_from([".json", ".plan", ".cubin", ".reference.npz"]), st.data())
def test_a_plan_that_is_found_is_one_that_was_written(suffix: str, data: st.DataObject) -> None:
    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as folder:
            store = PlanStore(Path(folder) / "model.onnx")
            passport = saved(store, some_passport())
            path = store.path(passport, suffix)
            content = bytearray(path.read_bytes())
            at = data.draw(st.integers(0, len(content) - 1))
            if data.draw(st.booleans()):
                del content[at:]
            else:
                content[at] ^= data.draw(st.integers(1, 255))
            path.write_bytes(content)
            plan = store.find(passport)
            assert plan is None or (plan.data == b"a plan" and plan.cubin in (None, b"a cubin"))
            assert suffix in (".json", ".cubin", ".reference.npz") or plan is None
    finally:
        logging.disable(logging.NOTSET)
