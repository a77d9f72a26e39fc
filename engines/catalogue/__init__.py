"""Known models: where their weights come from, how they become ONNX, what their cards say, what INT8 loses.

One YAML file a model, read into `Entry`; labels and calibration tables lie beside. Adding a model is adding its file.
"""

from __future__ import annotations

import difflib
from functools import cache
from importlib import resources
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from engines.card import Input
from engines.errors import CardError
from engines.graph import Normalisation
from engines.qdq import Table

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Package(_Strict):
    """A wheel of a Python package index."""

    package: str
    version: str
    sha256: Sha256
    """Of the wheel."""
    size: int | None = Field(default=None, gt=0)
    """Of the wheel, in bytes."""
    member: str
    """The weights file in it."""
    member_sha256: Sha256

    @property
    def source(self) -> str:
        """As the card names it."""
        return f"{self.package}=={self.version} (Python package)"


class Url(_Strict):
    """A file on a web server."""

    url: str = Field(pattern="^https?://")
    size: int | None = Field(default=None, gt=0)
    """Bytes, where they are known as surely as the sha256."""
    sha256: Sha256
    mirrors: tuple[str, ...] = ()
    """URLs of the same bytes, for when the first fails."""
    file: str | None = None
    """Name in a mirror, where the URL's last part says too little."""
    also: dict[Sha256, str] = Field(default_factory=dict)
    """Other exports of these weights that a local file may be, sha256 -> what is known of it; `fp32` is then theirs."""

    @property
    def source(self) -> str:
        """As the card names it."""
        return self.url

    @property
    def name(self) -> str:
        """Of the file, in a folder or mirror that has many."""
        return self.file or self.url.rpartition("/")[2]


class Int8(_Strict):
    """The INT8 file that the shipped table makes."""

    sha256: Sha256
    accuracy: dict[str, Any]
    """What was measured, on what; `sightwire compare NAME@fp32 NAME@int8` measures it on other pictures."""


class Entry(_Strict):
    """One model of the catalogue."""

    name: str
    summary: str
    licence: str
    homepage: str
    fetch: Package | Url
    converter: str
    """A key of `engines.convert.CONVERTERS`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The converter's numbers."""
    normalisation: Normalisation
    max_batch: int = Field(default=1, gt=0)
    input: Input
    task: dict[str, Any]
    labels: tuple[str, ...] | Literal["imagenet", "coco", "coco-ids"]
    """The labels, or the name of a list in `labels/`."""
    fp32: Sha256 | None = None
    """Of the FP32 file that the conversion makes; None: only what is published of the weights is known here."""
    int8: Int8 | None = None

    @model_validator(mode="after")
    def _known_enough(self) -> Entry:
        if self.fp32 is None and (isinstance(self.fetch, Package) or self.int8 is not None):
            raise ValueError("fp32 may be missing only where the weights come from a URL and there is no INT8")
        return self

    @property
    def seen(self) -> bool:
        """Whether the file that is fetched was ever tried here; a card says it of the file that it was made from."""
        return self.fp32 is not None and (isinstance(self.fetch, Package) or not self.fetch.also)

    def label_names(self) -> tuple[str, ...]:
        """Return the labels themselves."""
        if isinstance(self.labels, tuple):
            return self.labels
        return tuple(_read(f"labels/{self.labels}.txt").splitlines())

    def table(self) -> tuple[Table, str]:
        """Return the shipped calibration table, and its text as it is on disk."""
        text = _read(f"tables/{self.name}.table.json")
        return Table.parse(text, f"the shipped table of {self.name}"), text


@cache
def names() -> tuple[str, ...]:
    """Names of all known models, sorted."""
    files = resources.files(__package__).iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")))


@cache
def entry(name: str) -> Entry:
    """Return the entry of a known model. Raises CardError naming the nearest one."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names())}"
        raise CardError(f"the catalogue has no model {name!r}; {hint}")
    return Entry.model_validate(yaml.safe_load(_read(f"{name}.yaml")))


def _read(path: str) -> str:
    return resources.files(__package__).joinpath(path).read_text(encoding="utf-8")
