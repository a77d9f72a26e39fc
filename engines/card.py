"""The model card beside every model file: what the model is, how it is fed, how its output reads, what was proved.

schema: sightwire.card/1
name: person-ssdlite
input: {width: 300, height: 300, fit: stretch, resize: area}
task: {type: ssd, boxes: box_deltas, scores: class_logits, ...}
labels: [person]
files:
  fp32: {path: model.onnx, sha256: ...}
  int8: {path: model.int8.onnx, sha256: ..., table: ..., accuracy: {...}}
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePath
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from engines.errors import CardError, ModelFileError

CARD_FILE = "card.yaml"
# libyaml reads a card with its whole proof ten times as fast; wheels have it, a build from source may not.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Precision = Literal["fp32", "int8"]
#: libyaml's reader calls itself for each level, and brings the process down where the stack ends
_MOST_BRACKETS, _DEEP = 2000, re.compile(r"^(?: |[-?:][ \t]){200}", re.MULTILINE)


class _Loader(_LOADER):  # type: ignore[misc, valid-type]
    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """A few lines of `<<` become billions of keys, and no card has any."""
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.MarkedYAMLError(problem="has a key <<", problem_mark=node.start_mark)
        super().flatten_mapping(node)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Input(_Strict):
    """How a region of a picture becomes the model's input."""

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    fit: Literal["stretch", "letterbox", "crop"]
    """stretch: sides scaled apart; letterbox: scaled together, rest filled; crop: the centre, scaled together."""
    resize: Literal["area", "linear"] = "area"
    fill: int = Field(default=0, ge=0, le=255)
    """letterbox: level of the filling, all channels."""
    align: Literal["centre", "top-left"] = "centre"
    """letterbox: where the picture lies."""
    crop: float = Field(default=1.0, gt=0, le=1)
    """crop: share of the largest centred window with the input's aspect ratio that is kept (0.875: ImageNet's)."""


class Origin(_Strict):
    """Where the weights come from."""

    source: str
    """Package and version, or URL."""
    sha256: str
    """Of the file that the weights were read from."""
    licence: str
    """SPDX identifier."""
    homepage: str | None = None
    seen: bool = True
    """False: the makers of the catalogue never had these weights, they know of them only what their publisher says."""


class Quantisation(_Strict):
    """How an INT8 file was made and what it was proved to lose."""

    table: str
    """sha256 of the calibration table."""
    method: str
    calibration_set: str
    """sha256 over the calibration pictures."""
    pictures: int
    kept_float: tuple[str, ...] = ()
    """Nodes left in float."""
    accuracy: dict[str, Any] | None = None
    """Metric, FP32 and INT8 values, and what they were measured on; None: not proved."""
    proof: dict[str, Any] | None = None
    """Everything that `sightwire calibrate` measured (`calibration.proof.Proof`); None: made elsewhere."""


class ModelFile(_Strict):
    """One ONNX file of a model."""

    path: str
    """Relative to the card, and beside or below it."""
    sha256: str
    quantisation: Quantisation | None = None
    unproven: bool = False
    """A foreign INT8 file that its user takes without proof."""

    @field_validator("path")
    @classmethod
    def _stays_in_its_folder(cls, path: str) -> str:
        parts = PurePath(path)
        if parts.is_absolute() or ".." in parts.parts:
            raise ValueError("is not in the model's folder")
        return path


class Imported(_Strict):
    """How a user's own file became the model: who said what, and that both compute the same."""

    family: str
    facts: dict[str, str]
    """Fact -> flag, metadata, graph or family: who said it."""
    opset: int
    """Of the file that was imported."""
    judge: str
    """What ran both for the comparison."""
    difference: float
    """Largest difference from the file that was imported, of the largest value of its column of an output."""
    tolerance: float
    """That would have been let pass."""


class Card(_Strict):
    """All that is known of a model. `folder` is where it was read from."""

    schema_: Literal["sightwire.card/1"] = Field(alias="schema")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    summary: str
    input: Input
    task: dict[str, Any]
    """`type` names the task; the rest are its numbers (see `engines.tasks`)."""
    labels: tuple[str, ...] = Field(min_length=1)
    files: dict[Precision, ModelFile]
    origin: Origin
    float_precision: Literal["f32", "f16", "bf16"] = "f32"
    max_batch: int = Field(default=1, gt=0)
    """Largest batch for which the graph was proved to give the same results as one by one."""
    imported: Imported | None = None
    """For models that are not of the catalogue."""


def read_card(path: Path) -> Card:
    """Read a card, given it or its folder. Raises CardError with every mistake in it."""
    if path.is_dir():
        path = path / CARD_FILE
    try:
        text = path.read_text(encoding="utf-8")
        if text.count("[") + text.count("{") > _MOST_BRACKETS or _DEEP.search(text):
            raise CardError(f"{path}: not a readable card: nested too deeply")
        content = yaml.load(text, _Loader)  # noqa: S506  # one of the two safe ones
        return Card.model_validate(content)
    except FileNotFoundError:
        raise CardError(f"{path}: no such model card") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CardError(f"{path}: not a readable card: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        mistakes = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'card'}: {e['msg']}" for e in error.errors())
        raise CardError(f"{path}: {mistakes}") from None
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError) as error:
        # What PyYAML lets through: of a date or a number that is none, say.
        raise CardError(f"{path}: not a readable card: {' '.join(str(error).split())}") from None


def write_card(card: Card, folder: Path) -> Path:
    """Write `card` into `folder`, replacing an older one only when all of it is on disk."""
    path = folder / CARD_FILE
    partial = path.with_suffix(".partial")
    content = card.model_dump(mode="json", by_alias=True, exclude_none=True)
    partial.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110), encoding="utf-8")
    partial.replace(path)
    return path


def model_file(card: Card, folder: Path, precision: Precision) -> Path:
    """Path of the card's file of that precision, its sha256 checked.

    Raises CardError if the card has none, ModelFileError if it is missing or altered.
    """
    entry = card.files.get(precision)
    if entry is None:
        raise CardError(f"{card.name}: has no {precision} file, only {', '.join(card.files)}")
    path = folder / entry.path
    if path.exists() and not path.is_file():  # a device would be read for ever
        raise ModelFileError(f"{path}: is no file; pull the model again")
    try:
        found = sha256_of(path)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror}); pull the model again") from None
    if found != entry.sha256:
        raise ModelFileError(
            f"{path}: sha256 is {found[:12]}…, the card of {card.name} says {entry.sha256[:12]}…: "
            "the file is cut short or altered; pull the model again"
        )
    return path


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
