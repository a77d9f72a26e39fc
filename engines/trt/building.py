"""From an order to a plan: parse, configure, build."""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass, field
from typing import Any

import psutil

from engines.graph import INPUT
from engines.trt.errors import BuildError, NotNow
from engines.trt.features import Features
from engines.trt.flavours import Flavour
from engines.trt.log import Messages, listening, logger
from engines.trt.network import Form, form_of, parse
from engines.trt.order import Floats, Order
from engines.trt.progress import OnProgress, Phases, monitor

_MIB = 1 << 20
_MOST_WORKSPACE_MB = 1024
"""The catalogue's networks take a tenth of it at batch 8; what TensorRT takes unasked is all that a device has."""
_LEAST_WORKSPACE_MB = 64

_NO_ROOM = r"out of memory|OutOfMemory|cudaError 2\b"
_MEANT = {
    r"driver version is insufficient|no CUDA-capable device|CUDA initialization failure|cudaError (35|100)\b": (
        "there is no NVIDIA GPU with a driver to build for: see `sightwire doctor`"
    ),
    r"Target GPU SM ?\d+ is not supported": "this release of TensorRT does not know this GPU: see `sightwire doctor`",
    r"libnvinfer_lean": "a version-compatible plan needs TensorRT's lean runtime, which is not installed",
    r"within workspace limit|insufficient workspace": "allow more than {mb} MB of scratch memory (workspace_mb)",
    _NO_ROOM: ("the device has too little memory free: end what else uses it, or order smaller batches"),
    r"Turing .*FP32 GEMM is not supported": "GPUs of compute capability 7.5 need float_precision: f16",
}
"""TensorRT's words for failures that are not of the network -> what to do."""


@dataclass(frozen=True)
class Built:
    """A plan, and what is worth keeping of its making."""

    plan: bytes = field(repr=False)
    timing_cache: bytes = field(repr=False)
    """For the next build on this GPU and version; empty where there is none."""
    warnings: tuple[str, ...]
    """What TensorRT warned of and is not known to be harmless."""
    seconds: float
    floats: Floats
    """What computes what is not INT8."""


def build(flavour: Flavour, order: Order, timing_cache: bytes = b"", on_progress: OnProgress | None = None) -> Built:
    """Make the plan. Takes from a second to half an hour, and on a device as much scratch memory as `order` allows.

    TensorRT needs a GPU and its driver; TensorRT-RTX without one builds for a target, or what is hardware-compatible.
    Raises BuildError that says what could not be built and what to do, NotNow where memory ran out, ModelFileError for
    a file that is no ONNX.
    """
    started = time.monotonic()
    features = Features.of(flavour.trt)
    target = _target(flavour, features, order)
    form = form_of(order, features)
    if features.targets and flavour.name in _FAILED:
        _rinse(flavour, features, order, form, target)
    with listening(flavour.trt) as said:
        plan, cache = _Building(flavour, features, order, form, said).run(target, timing_cache, on_progress)
    if on_progress is not None:
        on_progress(1.0, "built")
    warnings = tuple(said.warnings) if form.note is None else (form.note, *said.warnings)
    return Built(plan, cache, warnings, time.monotonic() - started, form.floats)


def _rinse(flavour: Flavour, features: Features, order: Order, form: Form, target: Any | None) -> None:
    """Build for nothing: TensorRT-RTX 1.7.1 builds the first plan after a failure as if for the GPU of that failure.

    After one for compute capability 7.5, INT8 is computed in float; the second plan is right (docs/adr/0031).
    """
    _FAILED.discard(flavour.name)
    with contextlib.suppress(BuildError, NotNow), listening(flavour.trt) as said:
        _Building(flavour, features, order, form, said).run(target, b"", None)


_FAILED: set[str] = set()
"""Flavours whose last build in this process failed."""


def _target(flavour: Flavour, features: Features, order: Order) -> Any | None:
    """Return the ComputeCapability to say. Raises BuildError for a target that this flavour does not build for."""
    if order.target is None:
        return None if order.hardware_compatible else features.here
    name = ".".join(map(str, order.target))
    if not features.targets:
        raise BuildError(f"{flavour} builds for the GPU that is here, not for {name}: tensorrt_rtx builds for others")
    if order.hardware_compatible:
        raise BuildError(f"a plan is for {name} or hardware-compatible, not both: leave one of them out")
    if order.target not in features.targets:
        known = ", ".join(f"{major}.{minor}" for major, minor in features.targets)
        raise BuildError(f"{flavour} does not build for compute capability {name}, only for {known}")
    return features.targets[order.target]


class _Building:
    """One build; TensorRT's objects live as long as it."""

    def __init__(self, flavour: Flavour, features: Features, order: Order, form: Form, said: Messages) -> None:
        self._trt, self._flavour, self._features = flavour.trt, flavour, features
        self._order, self._form, self._said = order, form, said
        self._workspace_mb = order.workspace_mb or _workspace_mb()
        try:
            self._builder = self._trt.Builder(logger(self._trt))
        except Exception as error:  # noqa: BLE001  # the binding raises TypeError where the library gives it nothing
            raise self._failed(str(error)) from None

    def run(self, target: Any | None, timing_cache: bytes, on_progress: OnProgress | None) -> tuple[bytes, bytes]:
        """Return the plan, and the timing cache after it."""
        if self._order.precision == "int8" and not getattr(self._builder, "platform_has_fast_int8", True):
            raise BuildError(f"{self._order.model}: this GPU does not compute INT8")
        network = self._builder.create_network(self._features.network_flags)
        parse(self._trt, network, logger(self._trt), self._form.data, self._order.model, self._said)
        self._refuse_other_int8()
        config = self._configured(target)
        cache = self._remember(config, timing_cache)
        phases = Phases(on_progress) if on_progress is not None else None
        if phases is not None and self._features.progress_monitor:
            config.progress_monitor = monitor(self._trt, phases)
        memory = self._builder.build_serialized_network(network, config)
        if memory is None:
            _FAILED.add(self._flavour.name)
        if phases is not None and phases.failed is not None:
            raise phases.failed
        if memory is None:
            raise self._failed("it does not say why")
        self._refuse_other_int8()
        return bytes(memory), bytes(cache.serialize()) if cache is not None else b""

    def _refuse_other_int8(self) -> None:
        """TensorRT warns, and goes on with something else than the file says: that was never proved."""
        warning = self._said.of_quantisation() if self._order.precision == "int8" else None
        if warning is not None:
            raise BuildError(f"{self._order.model}: TensorRT would compute other INT8: {warning}")

    def _configured(self, target: Any | None) -> Any:
        config, features, order = self._builder.create_builder_config(), self._features, self._order
        config.set_memory_pool_limit(features.workspace, self._workspace_mb * _MIB)
        if features.tf32 is not None:
            config.clear_flag(features.tf32)
        if (sharing := features.profile_sharing) is not None and not config.get_preview_feature(sharing):
            config.set_preview_feature(sharing, True)
        if features.strongly_typed is None:
            self._allow(config)
        if order.version_compatible:
            config.set_flag(self._had(features.version_compatible, "version-compatible plans"))
        if order.hardware_compatible and not features.targets:
            level = self._had(features.hardware_compatible, "hardware-compatible plans")
            config.hardware_compatibility_level = level
        if target is not None:
            config.num_compute_capabilities = 1
            if not config.set_compute_capability(target, 0):
                raise self._failed(f"{target} is refused as a target")
        profile = self._builder.create_optimization_profile()
        width, height = order.size
        profile.set_shape(INPUT, *((batch, 3, height, width) for batch in order.batches))
        if config.add_optimization_profile(profile) < 0:
            raise self._failed(f"batches {order.batches} are refused")
        return config

    def _allow(self, config: Any) -> None:
        """Weakly typed: the flags say what may be computed in what; Q/DQ in the file say where INT8 is."""
        features, order = self._features, self._order
        if order.precision == "int8":
            config.set_flag(self._had(features.weak_int8, "INT8"))
        if self._form.floats == "f16":
            config.set_flag(self._had(features.weak_fp16, "float16"))

    def _had(self, member: Any | None, what: str) -> Any:
        if member is None:
            raise BuildError(f"{self._flavour} has no {what}")
        return member

    def _remember(self, config: Any, timing_cache: bytes) -> Any | None:
        """Give the build what earlier ones found; what is of another device or version is not looked at."""
        if not self._features.timing_cache:
            return None
        cache = config.create_timing_cache(timing_cache)
        if cache is None or not config.set_timing_cache(cache, False):
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, False)
        return cache

    def _failed(self, otherwise: str) -> BuildError | NotNow:
        """What TensorRT's errors mean for who ordered the plan; `otherwise`: what is said where there is none."""
        reason = self._said.reason(otherwise).removeprefix("IBuilder::buildSerializedNetwork: ")[:400]
        for words, advice in _MEANT.items():
            if any(re.search(words, text) for text in (reason, *self._said.causes())):
                advice = advice.format(mb=self._workspace_mb)
                kind = NotNow if words == _NO_ROOM else BuildError
                return kind(f"{self._order.model}: {advice} ({self._flavour}: {reason})")
        return BuildError(f"{self._order.model}: {self._flavour} cannot build it: {reason}")


def _workspace_mb() -> int:
    """Scratch memory to build with: a quarter of what is free, since a Jetson's GPU shares the machine's memory."""
    return max(_LEAST_WORKSPACE_MB, min(_MOST_WORKSPACE_MB, psutil.virtual_memory().available // 4 // _MIB))
