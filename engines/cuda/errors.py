"""What can go wrong with CUDA.

BackendError
└── CudaError              a call of the driver failed
    └── OutOfDeviceMemory  there is not as much memory as was asked for
"""

from __future__ import annotations

from engines.errors import BackendError


class CudaError(BackendError):
    """A call of the driver failed."""


class OutOfDeviceMemory(CudaError):
    """There is not as much memory as was asked for."""
