"""ONNX files cut at every kilobyte or harmed, and cards with other words in them: imported, found and opened.

A file is opened as if the card had been written for it: that its sha256 would have told is another test.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from pathlib import Path

import numpy as np
import yaml

from engines.backends import BackendConfig
from engines.backends.onnxruntime import Config as OnnxRuntime
from engines.backends.openvino import Config as OpenVINO
from engines.card import CARD_FILE, read_card, sha256_of, write_card
from engines.errors import EngineError
from engines.importing import import_model
from engines.importing.facts import Given
from engines.model import Model, open_model
from engines.pixels import Image, Picture
from engines.store import ModelStore
from tests.support.exports import export
from tests.support.hostile import Wrong, dice
from tests.support.hostile.configs import THOUGHT_OF, mutated, spoilt, written
from tests.support.hostile.pictures import harmed
from tests.support.plans import tiny_store

CUT = 1024
_REAL = os.environ.get("SIGHTWIRE_FUZZ_MODEL")
"""A model's folder: its FP32 file is cut at every kilobyte as well (`scripts/prove fuzz --model`)."""
_GIVEN = Given(family="classifier", labels="a,b,c", mean="imagenet", channels="rgb", fit="stretch", max_batch=1)
_WAYS = ("import", "openvino", "onnxruntime", "int8", "card", "card")


class Models:
    """See the module."""

    most_s = 60.0
    most_mb = 1500.0

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "read"
        self._store = store(folder / "store")
        self._files = {
            "import": export({"scores": (3,)}, end="Softmax").SerializeToString(),
            "openvino": (self._store.root / "tiny" / "fp32.onnx").read_bytes(),
            "int8": (self._store.root / "tiny" / "int8.onnx").read_bytes(),
        }
        self._files["onnxruntime"] = self._files["openvino"]
        self._files["real"] = _real()
        # Of all, first; and each whole: what cannot be opened whole says nothing about its pieces.
        self._cuts = [
            (way, at) for way, data in self._files.items() if data for at in (*range(0, len(data), CUT), len(data))
        ]
        self._picture = Picture(Image((np.zeros((32, 32, 3), np.uint8),), "bgr", "601", "full", (32, 32)))

    def make(self, number: int) -> bytes:
        """The way it goes, a line, and the file."""
        if number < len(self._cuts):
            way, at = self._cuts[number]
            return f"{way}\n".encode() + self._files[way][:at]
        number -= len(self._cuts)
        if number < len(THOUGHT_OF):
            return b"card\n" + THOUGHT_OF[number]()
        chance = dice("model", number)
        way = _WAYS[number % len(_WAYS)]
        if way == "card":
            tree = yaml.safe_load((self._store.root / "tiny" / CARD_FILE).read_text(encoding="utf-8"))
            data = (
                written(mutated(tree, chance), chance)
                if chance.random() < 0.7
                else spoilt(written(tree, chance), chance)
            )
        else:
            data = harmed(self._files[way], chance)
        return f"{way}\n".encode() + data

    def feed(self, data: bytes) -> str:
        """By its way."""
        way, _, data = data.partition(b"\n")
        name = way.decode()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        try:
            with contextlib.closing(self._opened(name, data)) as model:
                model([self._picture])
        except EngineError as error:
            if not str(error).isprintable() or not str(error):
                raise Wrong(f"an error that is no line: {str(error)!r}") from None
            return f"{name} refused"
        return f"{name} runs"

    def _opened(self, way: str, data: bytes) -> Model:
        if way == "import":
            path = self._folder / "net.onnx"
            path.write_bytes(data)
            made = import_model(path, _GIVEN, ModelStore(self._folder / "store"))
            return open_model(made.card, made.folder, "fp32", OpenVINO(threads=1))
        if way == "card":
            at = self._folder / "tiny"
            shutil.copytree(self._store.root / "tiny", at)
            (at / CARD_FILE).write_bytes(data)
            card, folder = ModelStore(self._folder).find("tiny")
            return open_model(card, folder, "fp32", OpenVINO(threads=1))
        precision = "int8" if way == "int8" else "fp32"
        at = Path(_REAL) if way == "real" and _REAL else self._store.root / "tiny"
        card = read_card(at)
        path = self._folder / card.files[precision].path
        path.write_bytes(data)
        files = {precision: card.files[precision].model_copy(update={"sha256": sha256_of(path)})}
        card = card.model_copy(update={"files": files})
        write_card(card, self._folder)
        backend: BackendConfig = OnnxRuntime(threads=1) if way == "onnxruntime" else OpenVINO(threads=1)
        return open_model(card, self._folder, precision, backend)


def _real() -> bytes:
    return fp32_of(Path(_REAL)).read_bytes() if _REAL else b""


def fp32_of(folder: Path) -> Path:
    """The file of that model that is cut."""
    return folder / read_card(folder).files["fp32"].path


@functools.cache
def store(folder: Path) -> ModelStore:
    """With the model `tiny`, made once."""
    if not folder.is_dir():
        partial = folder.with_suffix(f".{os.getpid()}")
        tiny_store(partial)
        partial.rename(folder)
    return ModelStore(folder)
