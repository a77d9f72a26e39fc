"""What can go wrong on the way from an ONNX file to a plan.

BackendError
├── BuildError         TensorRT cannot make a plan of this file for this device
├── NotNow             not at the moment: too little memory, or stopped
└── NotKept            it cannot be written where plans are kept

One line, as everywhere: what happened, at which node, what to do.
"""

from __future__ import annotations

from engines.errors import BackendError


class BuildError(BackendError):
    """TensorRT cannot make the plan that was ordered."""


class NotNow(BackendError):
    """A plan cannot be made at the moment; nothing is known against it, and later it may work."""


class NotKept(BackendError):
    """A plan cannot be written where it is kept; another plan could not either."""
