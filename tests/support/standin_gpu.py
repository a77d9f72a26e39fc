"""What a child process finds of a GPU: nothing, or stand-ins for NVIDIA's driver and TensorRT, whole or broken."""

from __future__ import annotations

from pathlib import Path

from engines.card import sha256_of, write_card
from engines.store import ModelStore
from tests.support import standin_cuda
from tests.support.agents import fake_store
from tests.support.means import means_model
from tests.support.process import ROOT

TENSORRT = Path(standin_cuda.__file__).parents[1] / "standin_tensorrt"
_HIDDEN = "import sys\nsys.modules.update(dict.fromkeys({names!r}))\n"


def environment(
    folder: Path, tensorrt: str | Path | None = None, *devices: standin_cuda.Device, **driver: object
) -> dict[str, str]:
    """For `Sightwire(env=...)`: a driver, if anything is said of it (`standin_cuda.environment`), and TensorRT.

    `tensorrt`: a folder with packages, or the text of a module `tensorrt`; None: not installed. What is installed for
    real is not found: a stand-in for the driver would crash it.
    """
    modules = folder / "modules"
    modules.mkdir(exist_ok=True)
    hidden = ("tensorrt", "tensorrt_rtx") if tensorrt is None else ("tensorrt_rtx",)
    if not isinstance(tensorrt, Path):
        (modules / "sitecustomize.py").write_text(_HIDDEN.format(names=hidden))
    if isinstance(tensorrt, str):
        (modules / "tensorrt.py").write_text(tensorrt)
    paths = [modules, ROOT, *([tensorrt] if isinstance(tensorrt, Path) else [])]
    found = standin_cuda.environment(folder, *devices, **driver) if devices or driver else {}  # type: ignore[arg-type]
    return {**found, "PYTHONPATH": ":".join(map(str, paths))}


def means_store(folder: Path) -> ModelStore:
    """A store whose model `classes` is a real ONNX file: means of red, green and blue."""
    store = fake_store(folder)
    card, at = store.find("classes")
    path = means_model(at / "model.onnx", card.input.width)
    files = {"fp32": card.files["fp32"].model_copy(update={"sha256": sha256_of(path)})}
    write_card(card.model_copy(update={"files": files, "max_batch": 4}), at)
    return store
