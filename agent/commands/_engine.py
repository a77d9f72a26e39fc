"""Which model, and what runs it, in one word: `nanodet-m@int8@openvino:GPU`.

MODEL[@PRECISION][@BACKEND[:DEVICE]][@FLOATS], what follows the model in any order.

MODEL      a name, a folder or a card; or an ONNX file, which the card beside it describes
PRECISION  int8, fp32: which of the model's files; without it int8 where there is one
BACKEND    openvino, onnxruntime, ...: as in a configuration; without it what the agent would take
DEVICE     the backend's `device` (CPU, GPU.1, NPU) or `provider` (cpu, cuda)
FLOATS     f32, bf16, f16: what computes what is not INT8, where the backend lets one choose; without it the card's
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from calibration.evaluation import Choice
from engines.backends import BackendConfig
from engines.card import Card, ModelFile, Precision, read_card, sha256_of
from engines.errors import BackendError, CardError, ModelFileError
from engines.parts import find_part, find_parts
from engines.store import ModelStore

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
FLOATS = ("f32", "bf16", "f16")
_BACKENDS = ("engines.backends", "sightwire.backends")
_PLACES = ("device", "provider")
"""Fields of a backend's config that say what it runs on."""


def choose(text: str, store: ModelStore) -> Choice:
    """Find what `text` names. Raises EngineError that says what is wrong and the nearest word that is known."""
    model, words = _split(text)
    said: dict[str, str] = {}
    for word in words:
        kind = _kind(text, word)
        if kind in said:
            raise CardError(f"{text}: says two things of one kind, {said[kind]!r} and {word!r}")
        said[kind] = word
    wanted = said.get("precision")
    precision: Precision | None = next((known for known in PRECISIONS if known == wanted), None)
    if Path(model).suffix.lower() == ".onnx":
        card, folder, precision = _beside(Path(model), precision)
    else:
        card, folder = store.find(model)
    if precision is None:
        precision = "int8" if "int8" in card.files else "fp32"
    if precision not in card.files:
        raise CardError(f"{text}: {card.name} has no {precision} file, only {', '.join(card.files)}")
    return Choice(text, card, folder, precision, _backend(text, said.get("backend"), said.get("floats")))


def _split(text: str) -> tuple[str, list[str]]:
    """The model, and the words behind it; paths may have an @ of their own."""
    words: list[str] = []
    while "@" in text and not Path(text).exists():
        front, _, word = text.rpartition("@")
        if "/" in word:
            break
        text = front
        words.insert(0, word)
    return text, words


def _kind(text: str, word: str) -> str:
    """What a word says. Raises CardError."""
    if word in PRECISIONS:
        return "precision"
    if word in FLOATS:
        return "floats"
    name = word.partition(":")[0]
    if find_part(*_BACKENDS, name) is not None:
        return "backend"
    backends = sorted(find_parts(*_BACKENDS))
    near = difflib.get_close_matches(name, [*PRECISIONS, *FLOATS, *backends], n=1, cutoff=0.5)
    known = f"{', '.join(PRECISIONS)}; {', '.join(FLOATS)}; {', '.join(backends)}"
    raise CardError(
        f"{text}: {word!r} is not known" + (f", did you mean {near[0]!r}?" if near else f"; known: {known}")
    )


def _backend(text: str, word: str | None, floats: str | None) -> BackendConfig:
    """Raise BackendError for a device or a precision that the backend does not take."""
    from agent.config import AnyBackend

    adapter: TypeAdapter[Any] = TypeAdapter(AnyBackend)
    name, _, device = (word or "auto").partition(":")
    if name == "auto":
        name = adapter.validate_python("auto").chosen()[0].type
    fields = find_parts(*_BACKENDS)[name].model_fields
    given = {"type": name}
    place = next((field for field in _PLACES if field in fields), None)
    if device and place is None:
        raise BackendError(f"{text}: {name} has no devices to choose from")
    if device and place is not None:
        given[place] = device
    if floats and "float_precision" not in fields:
        raise BackendError(f"{text}: {name} has no choice of float precision")
    if floats:
        given["float_precision"] = floats
    try:
        made: BackendConfig = adapter.validate_python(given)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        at = problem["loc"][-1]
        what = f"knows no {place} {device!r}" if at == place else f"cannot be used without {at}"
        raise BackendError(f"{text}: {name} {what}") from None
    return made


def _beside(path: Path, wanted: Precision | None) -> tuple[Card, Path, Precision]:
    """Card, folder and precision of an ONNX file: one of its card's, or another one with the same inputs and outputs.

    Raises CardError, ModelFileError.
    """
    try:
        sha256 = sha256_of(path)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        card = read_card(path.parent)
    except CardError as error:
        raise CardError(f"{error}; an ONNX file alone does not say how it is fed and read") from None
    listed = next((precision for precision, entry in card.files.items() if entry.sha256 == sha256), None)
    precision = listed or _precision_of(path)
    if wanted is not None and wanted != precision:
        raise CardError(f"{path}: is the {precision} file, not the {wanted} one")
    if listed is None:
        entry = ModelFile(path=path.name, sha256=sha256)
        card = card.model_copy(update={"files": {precision: entry}})
    return card, path.parent, precision


def _precision_of(path: Path) -> Precision:
    """Raises ModelFileError for what is no ONNX file."""
    from engines.graph import load

    return "int8" if any("Quantize" in node.op_type for node in load(path).graph.node) else "fp32"
