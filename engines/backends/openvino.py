"""OpenVINO: the engine that every machine has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from engines.backends import BackendConfig
from engines.backends._compiled import CompiledStore
from engines.backends.slots import InputSlots
from engines.base import Batch, Engine, Raw, TensorSpec, Ticket
from engines.card import Card, Precision
from engines.errors import BackendError, ModelFileError
from engines.pixels import Geometry, Picture
from engines.quiet import import_openvino


class Config(BackendConfig):
    """`{type: openvino, threads: 2}`."""

    type: Literal["openvino"] = "openvino"
    threads: int | None = Field(default=None, gt=0)
    """CPU threads; the service divides the machine's among its engines where this is not set."""
    streams: int | None = Field(default=None, gt=0)
    """Batches that the network works on at once; default: one a thread, which is what gives most results a second."""
    float_precision: Literal["f32", "bf16", "f16"] | None = None
    """Of what is not INT8; default: the card's."""
    batch: int = Field(default=1, gt=0)
    """Pictures in one run of the network, at most."""

    def build(self, card: Card, model: Path, precision: Precision) -> OpenVINOEngine:
        """Compile for this machine's CPU."""
        return OpenVINOEngine(self, card, model, precision)


class OpenVINOEngine(Engine):
    """A compiled model with one infer request a slot; inputs are written straight into the requests' memory."""

    def __init__(self, config: Config, card: Card, model: Path, precision: Precision) -> None:
        ov = import_openvino()
        threads = config.threads or len(os.sched_getaffinity(0))
        streams = min(config.streams or threads, threads)
        floats = config.float_precision or card.float_precision
        self.max_batch = min(config.batch, card.max_batch)
        self.depth = streams + 1  # one more than the network works on, so that it never waits for us
        width, height = card.input.width, card.input.height
        options: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
            "INFERENCE_PRECISION_HINT": floats,
            # Two engines that both pin would pin to the same core (docs/measurements.md).
            "ENABLE_CPU_PINNING": False,
        }
        core = ov.Core()
        device = str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip()
        input_shape = [self.max_batch, 3, height, width]
        passport = {
            "model": card.files[precision].sha256,
            "openvino": ov.__version__,
            "device": device,
            "input": input_shape,
            "options": options,
        }
        kept = CompiledStore(model, passport)
        known = kept.load(core, options)
        if known is None:
            known = _compile(ov, core, model, input_shape, options)
            kept.save(*known)
        self._compiled, names = known
        ports = (*self._compiled.inputs, *self._compiled.outputs)
        specs = tuple(_spec(name, port) for name, port in zip(names, ports, strict=True))
        self.inputs, self.outputs = specs[:1], specs[1:]
        self.description = {
            "backend": f"openvino {ov.__version__.split('-')[0]}",
            "device": device,
            "precision": precision,
            "float_precision": floats,
            "threads": threads,
            "streams": streams,
            "batch": self.max_batch,
        }
        self._slots = InputSlots(self.depth, self.max_batch, height, width)
        self._requests = [self._compiled.create_infer_request() for _ in range(self.depth)]
        self._tensors = [
            [ov.Tensor(slot[:count], shared_memory=True) for count in range(1, self.max_batch + 1)]
            for slot in self._slots.tensors
        ]
        self._warm_up()

    def _warm_up(self) -> None:
        """The first run of a request allocates; nobody's frame should wait for that."""
        for slot, request in enumerate(self._requests):
            request.set_input_tensor(self._tensors[slot][-1])
            request.infer()

    def prepare(self, pictures: Sequence[Picture], geometries: Sequence[Geometry]) -> Batch:
        """See Engine."""
        return Batch(self._slots.fill(pictures, geometries), len(pictures))

    def submit(self, batch: Batch) -> Ticket:
        """See Engine."""
        request = self._requests[batch.slot]
        request.set_input_tensor(self._tensors[batch.slot][batch.count - 1])
        request.start_async()
        return _Ticket(request, self.outputs, self._slots, batch)

    def close(self) -> None:
        """See Engine."""
        for request in self._requests:
            request.wait()
        self._requests.clear()
        self._tensors.clear()


class _Ticket:
    def __init__(self, request: Any, outputs: tuple[TensorSpec, ...], slots: InputSlots, batch: Batch) -> None:
        self._request, self._outputs, self._slots, self._batch = request, outputs, slots, batch

    def done(self) -> bool:
        return bool(self._request.wait_for(0))

    def result(self) -> Raw:
        try:
            self._request.wait()
        except Exception as error:  # noqa: BLE001  # as above
            raise BackendError(f"OpenVINO failed: {_first_line(error)}") from None
        return {spec.name: self._request.get_output_tensor(i).data for i, spec in enumerate(self._outputs)}

    def release(self) -> None:
        self._slots.release(self._batch.slot)


def _compile(ov: Any, core: Any, model: Path, input_shape: list[int], options: dict[str, Any]) -> tuple[Any, list[str]]:
    """Return the compiled network and the names of its inputs and outputs. Raises ModelFileError, BackendError."""
    batch, _, height, width = input_shape
    try:
        graph = core.read_model(model)
        _check_input(model, graph, height, width)
        rows = 1 if batch == 1 else ov.Dimension(1, batch)
        # Asked before compilation: a compiled port also carries the names of what was optimised away.
        names = [min(port.get_names()) for port in (*graph.inputs, *graph.outputs)]
        graph.reshape({graph.inputs[0]: ov.PartialShape([rows, 3, height, width])})
        return core.compile_model(graph, "CPU", options), names
    except ModelFileError:
        raise
    except Exception as error:  # noqa: BLE001  # OpenVINO raises bare RuntimeError, with pages of text
        raise BackendError(f"{model}: OpenVINO cannot compile it: {_first_line(error)}") from None


def _check_input(model: Path, graph: Any, height: int, width: int) -> None:
    """Before it is reshaped: OpenVINO would make many a graph that is none of ours look like one."""
    expected = f"u8 (?, 3, {height}, {width})"
    found = []
    for port in graph.inputs:
        sides = [str(side.get_length()) if side.is_static else "?" for side in port.get_partial_shape()]
        found.append((port.get_element_type().get_type_name(), sides))
    kinds = ", ".join(f"{kind} ({', '.join(sides)})" for kind, sides in found) or "none"
    fits = len(found) == 1 and found[0][0] == "u8" and len(found[0][1]) == 4
    if not fits or any(s not in ("?", w) for s, w in zip(found[0][1][1:], ("3", str(height), str(width)), strict=True)):
        raise ModelFileError(f"{model}: its inputs are {kinds}, not one {expected}: the card does not fit it")


def _spec(name: str, port: Any) -> TensorSpec:
    shape = tuple(d.get_length() if d.is_static else -1 for d in port.get_partial_shape())
    return TensorSpec(name, shape, np.dtype(port.get_element_type().to_dtype()))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # OpenVINO starts with "Exception from src/...:123:"; what went wrong is last.
    return lines[-1][:200] if lines else type(error).__name__
