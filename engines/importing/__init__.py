"""Makes a model of a user's own ONNX file: facts gathered, network made plain, both compared, card written.

The file itself is run beside what becomes of it, on the same pictures: a model that is installed computes what its
file computed, within a tolerance that its card states.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx

from engines import graph, qdq
from engines.assembly import check_card, write_model
from engines.batch import proved_batch
from engines.card import Card, Imported, ModelFile, Origin, write_card
from engines.errors import CardError, ModelFileError
from engines.importing.comparison import compare
from engines.importing.export import Export, read_export
from engines.importing.facts import Fact, Facts, Given
from engines.importing.plain import has_half, plain, trimmed
from engines.importing.settling import Settled, settle
from engines.numerics import output_shapes
from engines.store import ModelStore

Stage = Literal["read", "convert", "compare", "prove"]
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True)
class Result:
    """A model that was imported."""

    card: Card
    folder: Path
    facts: tuple[Fact, ...]
    """What was settled, and who said it."""


def import_model(
    path: Path,
    given: Given,
    store: ModelStore,
    progress: Callable[[Stage], None] = lambda _: None,
    *,
    again: bool = False,
) -> Result:
    """Import an ONNX file into the store. `again`: replace a model of that name.

    Raises ModelFileError for a file that is no such network, or of which something must be said, naming the flags;
    CardError for a name that cannot be had; LintError for INT8 that some backend would misread.
    """
    progress("read")
    export = read_export(path)
    name = _name(path, given, store, again=again)
    int8 = qdq.already_quantised(export.model) is not None
    if int8 and not given.unproven:
        raise ModelFileError(
            f"{path}: is an INT8 file, and nothing proves what it lost: import the FP32 export and calibrate that, or "
            "give --unproven to take it as it is"
        )
    progress("convert")
    facts = Facts(str(path))
    settled = settle(export, given, facts)
    baked = _baked(settled.network, settled, str(path))
    if int8:
        qdq.lint(baked)
    progress("compare")
    compared = compare(export, settled, baked, half=has_half(export.model), int8=int8)
    progress("prove")
    final, max_batch = _freed(export, settled, baked, given.max_batch)
    said = export.said.get("licence")
    licence = str(facts.settle("licence", "--licence", flag=given.licence, metadata=said, family="unknown"))
    card = Card(
        schema="sightwire.card/1",
        name=name,
        summary=given.summary or f"imported from {path.name}",
        input=settled.into,
        task=settled.task,
        labels=settled.labels,
        files={},
        origin=Origin(source=path.name, sha256=export.sha256, licence=licence, homepage=given.homepage),
        max_batch=max_batch,
        imported=Imported(
            family=settled.family,
            facts={fact.name: fact.source for fact in facts.known},
            opset=export.opset,
            **compared,
        ),
    )
    _check(card, final, settled.family, str(path))
    try:
        with store.install(name) as folder:
            card = _write(card, final, folder, int8=int8)
    except OSError as error:
        raise ModelFileError(f"{name}: cannot be written to {store.root} ({error.strerror or error})") from None
    return Result(card, store.root / name, tuple(facts.known))


def _name(path: Path, given: Given, store: ModelStore, *, again: bool) -> str:
    name = given.name or re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).strip("-_")[:63]
    if not _NAME.fullmatch(name):
        raise CardError(f"{name!r} is no name for a model: a-z, 0-9, - and _, at most 63; give --name NAME")
    if name in store.names() and not again:
        raise CardError(f"{store.root} has a model {name!r} already; give --name NAME, or --again to replace it")
    return name


def _baked(network: onnx.ModelProto, settled: Settled, where: str) -> onnx.ModelProto:
    baked = graph.bake(trimmed(network, set(settled.outputs)), settled.normalisation, where)
    graph.check(baked, where)
    return baked


def _freed(export: Export, settled: Settled, baked: onnx.ModelProto, limit: int) -> tuple[onnx.ModelProto, int]:
    """Return the network with a free batch, and how large; where that is not the same network, `baked` and 1.

    Raises ModelFileError for a file that is fixed at several pictures and cannot be freed.
    """
    where, free = str(export.path), baked
    if settled.batch < 0:
        free = _baked(plain(export.model, settled.shape(-1), where), settled, where)
    free = graph.free_batch(free, max(settled.batch, 1))
    try:
        proved = proved_batch(free, limit) if limit > 1 or settled.batch > 1 else 1
    except (
        ModelFileError
    ):  # OpenVINO compiled it for the comparison, so it is only the free batch that it does not take
        proved = 1
    if proved == 1 and settled.batch > 1:
        raise ModelFileError(
            f"{where}: is fixed at {settled.batch} pictures at once; export it with a batch of 1, or a free one"
        )
    final = free if proved > 1 else baked
    shapes = output_shapes(final, where)
    for value in final.graph.output:
        dims = [side if side >= 0 else None for side in shapes[value.name]]
        kind = value.type.tensor_type.elem_type
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, ["N" if proved > 1 else 1, *dims[1:]]))
    return final, proved


def _check(card: Card, final: onnx.ModelProto, family: str, where: str) -> None:
    """Check that the card's task exists and reads the network. Raises ModelFileError naming file and family."""
    from engines.model import task_config

    try:
        task_config(card)
        check_card(card, final)
    except CardError as error:
        raise ModelFileError(f"{where}: as {family}: {str(error).removeprefix(f'{card.name}: ')}") from None


def _write(card: Card, final: onnx.ModelProto, folder: Path, *, int8: bool) -> Card:
    file = write_model(final, folder / ("model.int8.onnx" if int8 else "model.onnx"))
    files: dict[Any, ModelFile] = {"int8": file.model_copy(update={"unproven": True})} if int8 else {"fp32": file}
    card = card.model_copy(update={"files": files})
    write_card(card, folder)
    return card
