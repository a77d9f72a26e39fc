"""What can go wrong with CUDA.

BackendError
└── CudaError              a call of the driver failed
    ├── OutOfDeviceMemory  there is not as much memory as was asked for
    └── DeviceLost         (also an EngineLost) nothing will work in this context any more, whatever is called
"""

from __future__ import annotations

from engines.errors import BackendError, EngineLost


class CudaError(BackendError):
    """A call of the driver failed."""


class OutOfDeviceMemory(CudaError):
    """There is not as much memory as was asked for."""


class DeviceLost(CudaError, EngineLost):
    """Nothing will work in this context any more: the device is gone, or what ran there broke it."""
