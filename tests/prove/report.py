"""A report to look at: `scripts/prove report MODEL --images DIR [--coco FILE | --labels CSV] [--out PAGE]`.

Nothing is searched: the table that MODEL was installed with, and variants of it with more layers in float, are measured
against its FP32 file on the pictures. So every figure on the page is real, and it is there in a minute or two. The
metric is a simple one (agreement with FP32, as `agreement` says); `sightwire calibrate` has the proper ones.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import onnx
from onnx import numpy_helper

from agent import __version__
from calibration.proof import Data, Layer, Measured, Point, Proof, Set, Speed, Worst
from calibration.report import SideBySide, write_report
from calibration.report.matching import matches
from calibration.truth import Boxes
from engines.backends.openvino import Config
from engines.card import Card, model_file
from engines.graph import INPUT, load, serialise
from engines.model import Model, task_config
from engines.pixels import Image, Picture, TensorWriter
from engines.qdq import Table, apply, quantised_nodes
from engines.quiet import import_onnxruntime
from engines.results import Detections, Result
from engines.store import ModelStore, default_root
from engines.tasks import Options

PROBES = 4
"""Pictures that noise is measured over; the rest are held out."""
WORST = 8
BUDGET = 3.0
THRESHOLD = 0.3


@dataclass(frozen=True)
class Subject:
    """What is reported on."""

    card: Card
    fp32: onnx.ModelProto
    table: Table
    names: Sequence[str]
    images: Sequence[Image]
    tensors: Sequence[np.ndarray]

    def variant(self, kept: Sequence[str]) -> onnx.ModelProto:
        """The INT8 model with these nodes in float."""
        return apply(self.fp32, self.table.model_copy(update={"kept_float": tuple(kept)}))


def read(folder: Path) -> tuple[list[str], list[Image]]:
    """The folder's pictures."""
    names, images = [], []
    for path in sorted(folder.iterdir()):
        pixels = cv2.imread(str(path)) if path.suffix.lower() in (".jpg", ".jpeg", ".png") else None
        if pixels is not None:
            names.append(path.name)
            images.append(Image((pixels,), "bgr", "601", "full", pixels.shape[1::-1]))
    return names, images


def opened(subject: Subject, network: onnx.ModelProto, folder: Path) -> Model:
    """A network as the card's model, on one thread."""
    path = folder / "network.onnx"
    path.write_bytes(serialise(network))
    engine = Config(streams=1, threads=1).build(subject.card, path, "fp32")
    task = task_config(subject.card).open(subject.card.labels, Options(threshold=0.05, top=100))
    return Model(subject.card, "fp32", engine, task)


def results(subject: Subject, network: onnx.ModelProto) -> list[Result]:
    """What a network says of every picture."""
    with tempfile.TemporaryDirectory() as folder:
        model = opened(subject, network, Path(folder))
        try:
            return [model([Picture(image)])[0] for image in subject.images]
        finally:
            model.close()


def signals(subject: Subject, network: onnx.ModelProto, tensors: Sequence[str]) -> dict[str, np.ndarray]:
    """Tensors of a network over the probes."""
    ort = import_onnxruntime()
    exposed = onnx.ModelProto()
    exposed.CopyFrom(network)
    known = {value.name for value in exposed.graph.output}
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in known)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(serialise(exposed), options, providers=["CPUExecutionProvider"])
    runs = [session.run(list(tensors), {INPUT: tensor}) for tensor in subject.tensors[:PROBES]]
    return {name: np.stack([run[index] for run in runs]) for index, name in enumerate(tensors)}


def decibels(clean: dict[str, np.ndarray], noisy: dict[str, np.ndarray]) -> float:
    """Least signal-to-noise among tensors of the same names."""
    found = []
    for name, signal in clean.items():
        wrong = float(np.square(signal.astype(np.float64) - noisy[name]).sum())
        right = float(np.square(signal.astype(np.float64)).sum())
        found.append(99.0 if wrong == 0 else 10 * float(np.log10(max(right, 1e-30) / wrong)))
    return min(found)


def agreement(a: Result, b: Result) -> float:
    """0 to 100: the same best class or not; or F1 of the boxes that both find, of those over the threshold."""
    if not isinstance(a, Detections) or not isinstance(b, Detections):
        return 100.0 * (a.label[0] == b.label[0])
    a, b = (found[found.score >= THRESHOLD] for found in (a, b))
    return 100.0 if len(a) + len(b) == 0 else 200.0 * len(matches(a, b)) / (len(a) + len(b))


def lost(a: Sequence[Result], b: Sequence[Result]) -> tuple[float, tuple[float, float], np.ndarray]:
    """Points lost on the held-out pictures, their interval, and each picture's."""
    each = np.array([100 - agreement(*pair) for pair in zip(a, b, strict=True)])[PROBES:]
    picks = np.random.default_rng(0).integers(0, len(each), (1000, len(each)))
    low, high = np.percentile(each[picks].mean(1), [2.5, 97.5])
    return float(each.mean()), (float(low), float(high)), each


def multiplications(subject: Subject, nodes: Sequence[onnx.NodeProto]) -> dict[str, int]:
    """Operations of each node for one picture."""
    weights = {t.name: numpy_helper.to_array(t).shape for t in subject.fp32.graph.initializer}
    shapes = {
        name: array.shape[2:] for name, array in signals(subject, subject.fp32, [n.output[0] for n in nodes]).items()
    }
    found = {}
    for node in nodes:
        out = shapes[node.output[0]]
        each = int(np.prod(weights[node.input[1]][1:])) if node.op_type == "Conv" else 1
        found[node.name] = int(np.prod(weights[node.input[1]])) if node.op_type == "Gemm" else int(np.prod(out)) * each
    return found


def layers_of(subject: Subject, say: Callable[[str], None]) -> list[Layer]:
    """Noise and sensitivity of each layer."""
    nodes = quantised_nodes(subject.fp32)
    names = [node.name for node in nodes]
    inside, ends = [node.output[0] for node in nodes], [value.name for value in subject.fp32.graph.output]
    clean = signals(subject, subject.fp32, [*inside, *ends])
    noisy = signals(subject, subject.variant(subject.table.kept_float), inside)
    macs, outputs = multiplications(subject, nodes), {name: clean[name] for name in ends}
    found = []
    for index, node in enumerate(nodes):
        say(f"layer {index + 1} of {len(nodes)}")
        alone = subject.variant([name for name in names if name != node.name])
        groups = next((entry.i for entry in node.attribute if entry.name == "group"), 1)
        kept = node.name in subject.table.kept_float
        found.append(
            Layer(
                name=node.name,
                operator=node.op_type,
                depthwise=groups > 1,
                precision="float" if kept else "int8",
                reason="kept by the installed table" if kept else None,
                macs=macs[node.name],
                signal_to_noise_db=decibels({"": clean[node.output[0]]}, {"": noisy[node.output[0]]}),
                alone_db=decibels(outputs, signals(subject, alone, ends)),
            )
        )
    return found


def candidates(
    subject: Subject, layers: Sequence[Layer], fp32: Sequence[Result], say: Callable[[str], None]
) -> list[Point]:
    """The table as it is, and with the most sensitive layers in float besides."""
    ends = [value.name for value in subject.fp32.graph.output]
    clean = signals(subject, subject.fp32, ends)
    order = [layer.name for layer in sorted(layers, key=lambda layer: layer.alone_db or 0.0)]
    macs, points = {layer.name: layer.macs for layer in layers}, []
    for more in (0, 1, 2, 4, 8, 16, 24):
        say(f"{more} layers more in float")
        kept = list(dict.fromkeys([*subject.table.kept_float, *order[:more]]))
        network = subject.variant(kept)
        loss, interval, _ = lost(fp32, results(subject, network))
        points.append(
            Point(
                method=subject.table.method,
                kept_float=tuple(kept),
                float_macs=sum(macs.get(name, 0) for name in kept),
                output_db=decibels(clean, signals(subject, network, ends)),
                loss=loss,
                interval=interval,
                chosen=more == 0,
            )
        )
    return points


def speed_of(subject: Subject, int8: onnx.ModelProto) -> Speed:
    """Both on one thread, taking turns."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        models = [opened(subject, subject.fp32, Path(one)), opened(subject, int8, Path(two))]
        taken: list[list[float]] = [[], []]
        for _ in range(60):
            for model, times in zip(models, taken, strict=True):
                started = time.perf_counter()
                model([Picture(subject.images[0])])
                times.append((time.perf_counter() - started) * 1e3)
        for model in models:
            model.close()
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    device = next(
        (line.split(":")[1].strip() for line in text.splitlines() if "model name" in line), platform.machine()
    )
    return Speed(fp32_ms=median(taken[0]), int8_ms=median(taken[1]), device=device)


def truths(subject: Subject, coco: Path | None, labels: Path | None) -> dict[str, Boxes | int]:
    """What is right, by picture."""
    if labels is not None:
        with labels.open(newline="", encoding="utf-8") as file:
            return {row["file"]: int(row["class_index"]) for row in csv.DictReader(file)}
    if coco is None:
        return {}
    said = json.loads(coco.read_text())
    category = {
        c["id"]: subject.card.labels.index(c["name"]) for c in said["categories"] if c["name"] in subject.card.labels
    }
    found: dict[str, Boxes | int] = {}
    for image in said["images"]:
        rows = [a for a in said["annotations"] if a["image_id"] == image["id"] and a["category_id"] in category]
        boxes = np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found[image["file_name"]] = Boxes(
            boxes,
            np.array([category[row["category_id"]] for row in rows], np.int32),
            np.array([bool(row["iscrowd"]) for row in rows], np.bool_),
            np.array([row["area"] for row in rows], np.float32),
        )
    return found


def prove(subject: Subject, source: str, right: dict[str, Boxes | int], out: Path, say: Callable[[str], None]) -> None:
    """Measure, and write the page."""
    int8 = subject.variant(subject.table.kept_float)
    fp32_results, int8_results = results(subject, subject.fp32), results(subject, int8)
    loss, interval, each = lost(fp32_results, int8_results)
    layers = layers_of(subject, say)
    order = [PROBES + index for index in np.argsort(-each, kind="stable")[:WORST] if each[index] > 0]
    pairs = [
        SideBySide(
            subject.names[i], subject.images[i], fp32_results[i], int8_results[i], subject.card.labels,
            right.get(subject.names[i]), THRESHOLD,
        )
        for i in order
    ]  # fmt: skip
    digests = [sha256(image.planes[0].tobytes()).hexdigest() for image in subject.images]
    held_out = digests[PROBES:]
    detects = isinstance(fp32_results[0], Detections)
    proof = Proof(
        model=subject.card.name,
        fp32_sha256=sha256(serialise(subject.fp32)).hexdigest(),
        int8_sha256=sha256(serialise(int8)).hexdigest(),
        table_sha256=sha256(subject.table.text().encode()).hexdigest(),
        method=subject.table.method,
        data=Data(
            source=source, way="bgr", found=len(digests), duplicates=len(digests) - len(set(digests)),
            calibration=Set(pictures=subject.table.pictures, hash=subject.table.calibration_set),
            held_out=Set(pictures=len(held_out), hash=sha256("".join(sorted(held_out)).encode()).hexdigest()),
            labelled=bool(right),
        ),
        measured=Measured(
            metric="F1 of boxes against FP32's own" if detects else "agreement of the best class with FP32",
            fp32=100.0, int8=100.0 - loss, loss=loss, interval=interval, pictures=len(held_out), budget=BUDGET,
            inside=loss <= BUDGET, resolved=(interval[1] - interval[0]) / 2 <= BUDGET,
        ),
        layers=tuple(layers),
        trade_off=tuple(candidates(subject, layers, fp32_results, say)),
        speed=speed_of(subject, int8),
        worst=tuple(
            Worst(picture=subject.names[i], badness=float(each[i - PROBES]), fp32=f"{len(fp32_results[i])} rows",
                  int8=f"{len(int8_results[i])} rows")
            for i in order
        ),
        versions={"sightwire": __version__}
        | {name: version(name) for name in ("openvino", "onnxruntime", "onnx", "numpy")},
    )  # fmt: skip
    write_report(proof, pairs, out)


def main() -> None:
    """Read the arguments and write the page."""
    parser = argparse.ArgumentParser(prog="scripts/prove report", description=__doc__)
    parser.add_argument("model", help="name of an installed model with an INT8 file, or path of its card")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--coco", type=Path, help="COCO json of the pictures' boxes")
    parser.add_argument("--labels", type=Path, help="CSV (file, class_index) of the pictures' classes")
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("report.html"))
    given = parser.parse_args()
    card, folder = ModelStore(default_root()).find(given.model)
    fp32 = load(model_file(card, folder, "fp32"))
    table_path = folder / "table.json"
    table = Table.parse(table_path.read_bytes(), str(table_path))
    names, images = read(given.images)
    names, images = names[: given.samples], images[: given.samples]
    if len(images) <= PROBES:
        parser.error(f"{given.images}: {len(images)} pictures, {PROBES + 1} or more are needed")
    subject = Subject(card, fp32, table, names, images, [])
    with tempfile.TemporaryDirectory() as scratch:
        model = opened(subject, fp32, Path(scratch))
        tensors = []
        for image in images[:PROBES]:
            tensors.append(np.empty((1, 3, card.input.height, card.input.width), np.uint8))
            TensorWriter().write(Picture(image), model.geometry(image, None), tensors[-1][0])
        model.close()
    subject = Subject(card, fp32, table, names, images, tensors)
    prove(
        subject,
        str(given.images),
        truths(subject, given.coco, given.labels),
        given.out,
        lambda s: print(f"\r{s:40}", end=""),
    )
    print(f"\r{given.out}: {given.out.stat().st_size / 1e6:.2f} MB".ljust(40))


if __name__ == "__main__":
    main()
