"""What a TensorRT can do, read from what it has: never from its version.

| | 8.6 | 10.3 | 10.13, 10.16 | 11.4 | RTX 1.7 |
|---|---|---|---|---|---|
| explicit_batch | yes | yes | yes | - | - |
| strongly_typed | - | yes | yes | yes | yes |
| weak_int8, weak_fp16 | yes | yes | yes | - | - |
| profile_sharing | yes | yes | yes | - | - |
| progress_monitor | - | yes | yes | yes | yes |
| runtime_config | - | - | yes | yes | yes |
| timing_cache | yes | yes | yes | yes | - |
| targets | - | - | - | - | yes |

Each may lack an enum's member, a class or an attribute that others have; that is all that is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

Capability = tuple[int, int]


@dataclass(frozen=True)
class Features:
    """What one `trt` namespace has. Members of its enums, where there is something to pass on; None: it has no such."""

    explicit_batch: Any | None
    """NetworkDefinitionCreationFlag that a network with a free batch needs; None: every network is one."""
    strongly_typed: Any | None
    """NetworkDefinitionCreationFlag under which the ONNX file alone says every precision."""
    weak_int8: Any | None
    """BuilderFlag that lets what is not strongly typed use INT8."""
    weak_fp16: Any | None
    """BuilderFlag, likewise."""
    version_compatible: Any | None
    """BuilderFlag: the plan runs on later versions too."""
    hardware_compatible: Any | None
    """HardwareCompatibilityLevel: the plan runs on Ampere and everything after it. TensorRT-RTX has it, and takes it
    not: there a plan without a target is for all of these."""
    tf32: Any | None
    """BuilderFlag that is set unless it is cleared: float32 with 10 of its 23 bits."""
    profile_sharing: Any | None
    """PreviewFeature without which each execution context needs its own profile; off in 8.6, on ever since."""
    workspace: Any
    """MemoryPoolType of scratch memory."""
    targets: Mapping[Capability, Any]
    """Compute capabilities that plans can be built for without such a GPU -> ComputeCapability; empty: none."""
    here: Any | None
    """ComputeCapability of the GPU that is here, where targets are known."""
    progress_monitor: bool
    timing_cache: bool
    """It tries what is fastest, and remembers. TensorRT-RTX has the calls, which do nothing: what is built for other
    GPUs cannot be tried."""
    runtime_config: bool
    """Execution contexts are made with an IRuntimeConfig."""

    @classmethod
    def of(cls, trt: Any) -> Features:
        """Look at the namespace; nothing is made, no library is called."""
        network, builder, targets = trt.NetworkDefinitionCreationFlag, trt.BuilderFlag, _targets(trt)
        return cls(
            explicit_batch=getattr(network, "EXPLICIT_BATCH", None),
            strongly_typed=getattr(network, "STRONGLY_TYPED", None),
            weak_int8=getattr(builder, "INT8", None),
            weak_fp16=getattr(builder, "FP16", None),
            version_compatible=getattr(builder, "VERSION_COMPATIBLE", None),
            hardware_compatible=getattr(getattr(trt, "HardwareCompatibilityLevel", None), "AMPERE_PLUS", None),
            profile_sharing=getattr(getattr(trt, "PreviewFeature", None), "PROFILE_SHARING_0806", None),
            workspace=trt.MemoryPoolType.WORKSPACE,
            tf32=getattr(builder, "TF32", None),
            targets=MappingProxyType(targets),
            here=trt.ComputeCapability.CURRENT if targets else None,
            progress_monitor=hasattr(trt, "IProgressMonitor"),
            timing_cache=not targets and hasattr(trt.IBuilderConfig, "create_timing_cache"),
            runtime_config=hasattr(trt, "IRuntimeConfig"),
        )

    @property
    def network_flags(self) -> int:
        """Flags of `Builder.create_network`: strongly typed wherever that exists."""
        return sum(1 << int(flag) for flag in (self.explicit_batch, self.strongly_typed) if flag is not None)


def _targets(trt: Any) -> dict[Capability, Any]:
    """SM75 -> (7, 5), SM120 -> (12, 0)."""
    kinds = getattr(trt, "ComputeCapability", None)
    if kinds is None or not hasattr(trt.IBuilderConfig, "set_compute_capability"):
        return {}
    found = {}
    for name, member in kinds.__members__.items():
        if match := re.fullmatch(r"SM(\d+)(\d)", name):
            found[int(match[1]), int(match[2])] = member
    return dict(sorted(found.items()))
