"""What the verdict on plans lets pass: `scripts/prove references [--write] [--only NAME]`.

Each catalogue model whose weights can be had here: how far honest engines are from the CPU engine on the probe
pictures, and how far wrong ones, as multiples of what the CPU engine is from itself when pixels change by a level
(`engines.trt.reference`, 1.75 is let pass). No GPU: what TensorRT does is not seen here. Models that come from the web:
with `$SIGHTWIRE_SHARED`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from engines.backends import onnxruntime
from engines.base import Raw
from engines.card import Card, Precision, model_file
from engines.errors import ModelFileError
from engines.graph import load, serialise
from engines.pull import pull
from engines.qdq import half
from engines.store import ModelStore
from engines.trt.reference import Reference, distance, expected, outputs, probe_pictures, unsettled
from tests.prove.record import section, table
from tests.support.cache import cache
from tests.support.models import obtainable

_HEADER = (
    "model",
    "restless",
    "ONNX Runtime",
    "with float16",
    "least wrong: channels",
    "rows",
    "shuffled",
    "a row zero",
    "a layer left out",
)
_BATCH = 8
_DEPTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Where in the network a layer is left out."""


class _Probe:
    """One file of a model, and everything that is tried on it."""

    def __init__(self, card: Card, folder: Path, precision: Precision) -> None:
        self._card, self._path, self._precision = card, model_file(card, folder, precision), precision
        self.pictures = probe_pictures((card.input.width, card.input.height), _BATCH)
        self.reference: Reference = expected(self._path, card, precision, self.pictures)
        self.model = load(self._path)

    def run(self, model: onnx.ModelProto, pictures: np.ndarray | None = None) -> Raw:
        """Another engine's outputs."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(serialise(model))
            engine = onnxruntime.Config(provider="cpu").build(self._card, path, self._precision)
            try:
                return outputs(engine, self.pictures if pictures is None else pictures, 1)
            finally:
                engine.close()

    def far(self, found: Raw) -> float:
        """Distance from what is expected."""
        return distance(self.reference.outputs, found, ranked=self.reference.ranked)[0]


def row(card: Card, folder: Path, precision: Precision) -> tuple[str, ...]:
    """Of the table."""
    probe = _Probe(card, folder, precision)
    right = probe.run(probe.model)
    restless = probe.far(probe.run(probe.model, unsettled(probe.pictures)))
    try:
        halved = f"{probe.far(probe.run(half(probe.model))) / restless:.2f}"
    except ModelFileError as error:
        halved = str(error).partition(":")[0]
    wrong = (
        [probe.run(probe.model, np.ascontiguousarray(probe.pictures[:, ::-1]))],
        [{**right, name: np.roll(right[name], 1, 0)} for name in right],
        [{**right, name: _shuffled(right[name])} for name in right],
        [{**right, name: _without_row(right[name])} for name in right],
        [probe.run(model) for model in _without_layers(probe.model)],
    )
    least = (min(probe.far(raw) for raw in raws) / restless for raws in wrong)
    honest = probe.far(right) / restless
    shares = (f"{restless:.2f}", f"{honest:.2f}", halved, *(f"{share:.1f}" for share in least))
    return (f"{card.name}@{precision}", *shares)


def _shuffled(array: np.ndarray) -> np.ndarray:
    order = np.random.default_rng(0).permutation(array[0].size)
    return array.reshape(len(array), -1)[:, order].reshape(array.shape)


def _without_row(array: np.ndarray) -> np.ndarray:
    changed = array.copy()
    changed[3] = 0
    return changed


def _without_layers(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """The model with the weights of one layer zero, once for each depth."""
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    makers = {name: node for node in model.graph.node for name in node.output}
    for depth in _DEPTHS:
        name = layers[int(depth * (len(layers) - 1))].input[1]
        while name in makers:
            name = makers[name].input[0]
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        for tensor in changed.graph.initializer:
            if tensor.name == name:
                tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), name))
        yield changed


def main() -> None:
    """Measure, print, and with `--write` record in docs/measurements.md."""
    parser = argparse.ArgumentParser(prog="scripts/prove references", description=__doc__)
    parser.add_argument("--write", action="store_true", help="record in docs/measurements.md")
    parser.add_argument("--only", action="append", metavar="NAME", help="only this model; may be repeated")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="references-") as made, cache() as kept:
        for name, source in obtainable().items():
            if options.only and name not in options.only:
                continue
            card, folder = pull(name, ModelStore(kept / "models" if source is None else Path(made)), source=source)
            for precision in card.files:
                rows.append(row(card, folder, precision))
                print("  ".join(rows[-1]), flush=True)
    body = (
        "Restless: distance of the CPU engine from itself when pixels change by a level. The rest in multiples of it; "
        f"1.75 is let pass.\n\n{table(_HEADER, list(rows))}"
    )
    print(body)
    if options.write:
        section("references", "The verdict on plans", "scripts/prove references", body)


if __name__ == "__main__":
    main()
