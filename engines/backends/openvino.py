"""OpenVINO: the engine that every machine has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import Self

from engines.backends import ThreadedConfig
from engines.backends._compiled import CompiledStore
from engines.backends._devices import DEVICE, options_of, present, wanted
from engines.backends._inputs import check_inputs
from engines.backends.slots import InputSlots
from engines.base import Batch, Engine, Raw, TensorSpec, Ticket
from engines.card import Card, Precision
from engines.errors import BackendError, ModelFileError
from engines.openvino_graph import FORM, read_graph
from engines.pixels import Geometry, Picture
from engines.quiet import import_openvino, openvino_core

_SAID = {"threads": "INFERENCE_NUM_THREADS", "streams": "NUM_STREAMS"}
"""How status calls options that not all devices have."""


class Config(ThreadedConfig):
    """`{type: openvino, threads: 2}`, `{type: openvino, device: GPU, float_precision: f16}`."""

    type: Literal["openvino"] = "openvino"
    device: str = Field(default="CPU", pattern=DEVICE)
    """CPU, GPU, GPU.1, NPU; AUTO (a GPU where there is one, else the CPU) or AUTO:GPU.1,CPU."""
    float_precision: Literal["f32", "bf16", "f16"] | None = None
    """Of what is not INT8; default: the card's."""

    @model_validator(mode="after")
    def _what_the_device_takes(self) -> Self:
        devices = wanted(self.device)
        if self.threads is not None and "CPU" not in devices and self.device != "AUTO":
            raise ValueError(f"threads are the CPU's: {self.device} takes none")
        if self.batch > 1 and any(device.startswith("NPU") for device in devices):
            raise ValueError(f"batch: {self.device} takes one picture in a run")
        return self

    def build(self, card: Card, model: Path, precision: Precision) -> OpenVINOEngine:
        """Compile for the device."""
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
        height, width = card.input.height, card.input.width
        shape = (self.max_batch, 3, height, width)
        network = _network(ov, config.device, (threads, streams, floats), model, card.files[precision].sha256, shape)
        ports = (*network.compiled.inputs, *network.compiled.outputs)
        specs = tuple(_spec(name, port) for name, port in zip(network.names, ports, strict=True))
        self.inputs, self.outputs = specs[:1], specs[1:]
        self.description = {
            "backend": f"openvino {ov.__version__.split('-')[0]}",
            "device": network.device,
            "precision": precision,
            "float_precision": _floats(network.compiled, floats),
            **{said: network.options[name] for said, name in _SAID.items() if name in network.options},
            "batch": self.max_batch,
        }
        self._slots = InputSlots(self.depth, self.max_batch, height, width)
        self._requests = [network.compiled.create_infer_request() for _ in range(self.depth)]
        self._tensors = [
            [ov.Tensor(slot[:count], shared_memory=True) for count in range(1, self.max_batch + 1)]
            for slot in self._slots.tensors
        ]
        self._warm_up(model)

    def _warm_up(self, model: Path) -> None:
        """The first run of a request allocates; nobody's frame should wait for that."""
        try:
            for slot, request in enumerate(self._requests):
                request.set_input_tensor(self._tensors[slot][-1])
                request.infer()
        except Exception as error:  # noqa: BLE001  # as in _compile
            raise BackendError(f"{model}: OpenVINO cannot run it: {_last_line(error)}") from None

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
        except Exception as error:  # noqa: BLE001  # as in _compile
            raise BackendError(f"OpenVINO failed: {_last_line(error)}") from None
        return {spec.name: self._request.get_output_tensor(i).data for i, spec in enumerate(self._outputs)}

    def release(self) -> None:
        self._slots.release(self._batch.slot)


@dataclass(frozen=True)
class _Network:
    compiled: Any
    names: list[str]
    """Of its inputs and outputs."""
    device: str
    """What it runs on, for people; and why not on what was preferred."""
    options: dict[str, Any]
    """What it was compiled with."""


def _network(
    ov: Any, device: str, asked: tuple[int, int, str], model: Path, sha256: str, shape: tuple[int, ...]
) -> _Network:
    """Return the network on the first of the devices that takes it; `asked`: threads, streams, float precision.

    Raises ModelFileError, BackendError.
    """
    core = openvino_core()
    failures: list[BackendError] = []
    for name in present(device, core.available_devices):
        try:
            options = options_of(name, *asked)
            full_name = str(core.get_property(name, "FULL_DEVICE_NAME")).strip()
            passport = {
                "model": sha256,
                "openvino": ov.__version__,
                "form": FORM,
                "device": [name, full_name, _versions(core, name)],
                "input": list(shape),
                "options": options,
            }
            kept = CompiledStore(model, passport)
            known = kept.load(core, name, options)
            if known is None:
                known = _compile(ov, core, model, name, shape, options)
                kept.save(*known)
        except BackendError as error:
            failures.append(error)
        else:
            compiled, names = known
            running = ", ".join(compiled.get_property("EXECUTION_DEVICES"))
            said = full_name if running == "CPU" else f"{full_name} ({running})"
            return _Network(compiled, names, "; ".join([said, *(f"not {error}" for error in failures)]), options)
    raise failures[-1]


def _floats(compiled: Any, asked: str) -> str:
    """What it computes in, in place of INT8: a CPU that has no bf16 takes f32 and says nothing."""
    if "INFERENCE_PRECISION_HINT" not in compiled.get_property("SUPPORTED_PROPERTIES"):
        return asked
    found = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
    return asked if found == asked else f"{found}, since this device has no {asked}"


def _versions(core: Any, device: str) -> dict[str, str]:
    """What a network compiled for this device may depend on besides OpenVINO: versions of drivers and compilers."""
    names = [name for name in core.get_property(device, "SUPPORTED_PROPERTIES") if name.endswith("VERSION")]
    return {name: str(core.get_property(device, name)) for name in names}


def _compile(
    ov: Any, core: Any, model: Path, device: str, shape: tuple[int, ...], options: dict[str, Any]
) -> tuple[Any, list[str]]:
    """Return the compiled network and the names of its inputs and outputs. Raises ModelFileError, BackendError."""
    batch, _, height, width = shape
    try:
        graph = read_graph(model)
        # Asked before compilation: a compiled port also carries the names of what was optimised away.
        ports = (*graph.inputs, *graph.outputs)
        names = [min(port.get_names()) for port in ports]
        inputs = [_spec(name, port) for name, port in zip(names, graph.inputs, strict=False)]
        check_inputs(model, inputs, width, height, batch)
        rows = 1 if batch == 1 else ov.Dimension(1, batch)
        graph.reshape({graph.inputs[0]: ov.PartialShape([rows, 3, height, width])})
        return core.compile_model(graph, device, options), names
    except ModelFileError:
        raise
    except Exception as error:  # noqa: BLE001  # OpenVINO raises bare RuntimeError, with pages of text
        raise BackendError(f"{model}: OpenVINO cannot compile it for {device}: {_last_line(error)}") from None


def _spec(name: str, port: Any) -> TensorSpec:
    shape = tuple(d.get_length() if d.is_static else -1 for d in port.get_partial_shape())
    return TensorSpec(name, shape, np.dtype(port.get_element_type().to_dtype()))


def _last_line(error: Exception) -> str:
    """OpenVINO starts with "Exception from src/...:123:"; what went wrong is last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
