"""Reads PyTorch state dicts (.pth) without torch, and without trusting them.

A .pth is a pickle that says which tensors lie where in a list of raw storages; the storages follow it (the format of
torch < 1.6) or are files of a zip archive beside it. Pickles can call anything, so only what rebuilds a tensor is let
through, and every opcode is looked at before the first is run.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelFileError

_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    "FloatStorage": "<f4", "HalfStorage": "<f2", "DoubleStorage": "<f8", "ByteStorage": "u1", "CharStorage": "i1",
    "ShortStorage": "<i2", "IntStorage": "<i4", "LongStorage": "<i8", "BoolStorage": "?",
}  # fmt: skip
#: What garbage makes the pickle, zip and struct modules raise.
_GARBAGE = (
    ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, MemoryError,
    NotImplementedError, TypeError, ValueError, RuntimeError, pickle.UnpicklingError, struct.error, zipfile.BadZipFile,
)  # fmt: skip


@dataclass(frozen=True)
class _Storage:
    """Raw numbers that tensors are views of."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage: offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_state(data: bytes, where: str) -> dict[str, NDArray[Any]]:
    """Name -> array of every tensor in a .pth file's bytes; other entries are left out.

    Raises ModelFileError naming `where` if the file is cut short, malformed or wants to run code.
    """
    try:
        entries, storages = _read_zip(data) if data[:2] == b"PK" else _read_legacy(data)
        return {
            str(name): _view(entry, storages[entry.storage.key])
            for name, entry in entries.items()
            if isinstance(entry, _Tensor)
        }
    except _GARBAGE as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelFileError(f"{where}: not a readable PyTorch state dict: {reason}") from None


def _read_legacy(data: bytes) -> tuple[dict[Any, Any], dict[str, NDArray[Any]]]:
    """Five pickles one after another (magic, protocol, system, tensors, keys), then each storage with its length."""
    magic, position = _unpickle(data, 0)
    if magic != _MAGIC:
        raise ValueError("it does not start as one")
    _, position = _unpickle(data, position)
    _, position = _unpickle(data, position)
    entries, position = _unpickle(data, position)
    keys, position = _unpickle(data, position)
    found = _storages_of(_dict(entries))
    storages = {}
    for key in keys:
        storage = found[key]
        (count,) = struct.unpack_from("<q", data, position)
        if count != storage.count:
            raise ValueError(f"storage {key} has {count} numbers, its tensors want {storage.count}")
        storages[key] = np.frombuffer(data, storage.dtype, count, position + 8)
        position += 8 + storages[key].nbytes
    return entries, storages


def _read_zip(data: bytes) -> tuple[dict[Any, Any], dict[str, NDArray[Any]]]:
    """`ROOT/data.pkl` and one `ROOT/data/KEY` per storage, none of them compressed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("its archive is compressed, which torch never does")
        pickled = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
        if pickled is None:
            raise ValueError("its archive has no data.pkl")
        entries, _ = _unpickle(archive.read(pickled), 0)
        root = pickled.removesuffix("data.pkl")
        storages = {
            key: np.frombuffer(archive.read(f"{root}data/{key}"), storage.dtype)
            for key, storage in _storages_of(_dict(entries)).items()
        }
    return entries, storages


def _dict(entries: Any) -> dict[Any, Any]:
    if not isinstance(entries, dict):
        raise ValueError(f"it holds a {type(entries).__name__}, not named tensors")
    return entries


def _storages_of(entries: dict[Any, Any]) -> dict[str, _Storage]:
    return {entry.storage.key: entry.storage for entry in entries.values() if isinstance(entry, _Tensor)}


def _unpickle(data: bytes, start: int) -> tuple[Any, int]:
    """Return the pickle that starts there, and where it ends."""
    stream = io.BytesIO(data)
    stream.seek(start)
    for opcode, argument, _ in pickletools.genops(stream):
        # The memo is an array that grows to the largest index: a forged one would take all memory.
        if "PUT" in opcode.name and isinstance(argument, int) and argument > len(data):
            raise ValueError("its memo indices are forged")
    end = stream.tell()
    return _Unpickler(io.BytesIO(data[start:end])).load(), end


class _Unpickler(pickle.Unpickler):
    """Knows how to rebuild tensors and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for `module.name`; raises UnpicklingError for all but the few that tensors need."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _rebuild_parameter
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"it wants to call {module}.{name}, refused")

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the storage that a tensor is a view of."""
        kind, dtype, key, _, count, *_ = pid
        if kind != "storage" or dtype not in _STORAGES.values() or not isinstance(count, int) or count < 0:
            raise pickle.UnpicklingError(f"unknown storage {kind!r}")
        return _Storage(str(key), dtype, count)


def _rebuild_tensor(storage: Any, offset: Any, shape: Sequence[int], strides: Sequence[int], *_: Any) -> _Tensor:
    """Stands for torch._utils._rebuild_tensor_v2."""
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    return _Tensor(storage, int(offset), tuple(int(n) for n in shape), tuple(int(n) for n in strides))


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    """Stands for torch._utils._rebuild_parameter."""
    return tensor


def _view(tensor: _Tensor, numbers: NDArray[Any]) -> NDArray[Any]:
    """Return a copy of the tensor's numbers; refuses views that reach outside their storage or repeat it."""
    if len(tensor.shape) != len(tensor.strides) or min((tensor.offset, *tensor.shape, *tensor.strides)) < 0:
        raise ValueError(f"a tensor of shape {tensor.shape} has strides {tensor.strides}")
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    size = math.prod(tensor.shape)
    if size and (last >= len(numbers) or size > len(numbers)):
        raise ValueError(f"a tensor of shape {tensor.shape} reaches outside its storage: the file is cut short")
    strides = [step * numbers.itemsize for step in tensor.strides]
    start = numbers[min(tensor.offset, len(numbers)) :]
    view = np.lib.stride_tricks.as_strided(start, tensor.shape, strides, writeable=False)
    return np.array(view)
