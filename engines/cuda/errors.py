"""What can go wrong with CUDA, in words, and what to do about it.

BackendError
└── CudaError              a call of the driver failed, or could not be made
    ├── NoDevice           there is no driver, or it has no GPU for us
    ├── NoBinding          no package can call it
    ├── OutOfDeviceMemory  there is not as much memory as was asked for
    └── DeviceLost         (also an EngineLost) nothing will work on this device any more, whatever is called
"""

from __future__ import annotations

from engines.errors import BackendError, EngineLost


class CudaError(BackendError):
    """A call of the driver failed, or could not be made."""

    def __init__(self, message: str, code: int | None = None, said: str = "") -> None:
        super().__init__(message)
        self.code = code
        """CUresult, where it was one."""
        self.said = said
        """The driver's own words for it."""


class NoDevice(CudaError):
    """There is no driver, or it has no GPU for us."""


class NoBinding(CudaError):
    """No package is installed by which the driver can be called, or none that works."""


class OutOfDeviceMemory(CudaError):
    """There is not as much memory as was asked for."""


class DeviceLost(CudaError, EngineLost):
    """The device is gone, or what ran there broke its context: nothing works there until the process starts again."""


OUT_OF_MEMORY = 2
_SEE_LOG = "sudo dmesg | grep -i -e nvrm -e nvgpu"
_BROKE = ("what ran on the GPU did something forbidden", f"{_SEE_LOG} names it; if it comes again, please report it")
_COMPILE = "sightwire build --again MODEL makes the plan and its kernels anew"
_MPS = (
    "CUDA's multi-process service (MPS) failed",
    "restart it: echo quit | nvidia-cuda-mps-control, then nvidia-cuda-mps-control -d",
)
_OURS = ("work was recorded in a way that CUDA does not take", "please report it; `prepare: cpu` may avoid it")

_LOST = {
    4: ("the driver shuts down", "nothing, if this program ends"),
    46: (
        "the GPU is taken, or gone",
        f"nvidia-smi -q -d COMPUTE tells whether another program has it to itself, {_SEE_LOG} what happened to it",
    ),
    214: (
        "the GPU's memory has an error that could not be corrected",
        "nvidia-smi -q -d ECC; reboot, and replace the GPU if it comes again",
    ),
    220: ("the link between GPUs has an error", "nvidia-smi nvlink -e; reboot"),
    226: ("the GPU's memory has an error, contained to this program", "nvidia-smi -q -d ECC; restart this program"),
    700: ("what ran on the GPU touched memory that is not its own", _BROKE[1]),
    702: (
        "what ran on the GPU took longer than is allowed on one that drives a display",
        "a GPU without a display, or a smaller `batch`",
    ),
    709: ("the context was destroyed by another part of this program", "restart this program"),
    710: _BROKE,
    714: ("the GPU's hardware failed", f"{_SEE_LOG}; reboot"),
    715: _BROKE,
    716: _BROKE,
    717: _BROKE,
    718: _BROKE,
    719: _BROKE,
    721: _BROKE,
    810: _MPS,
    911: ("something outside of CUDA that works with the GPU failed", f"{_SEE_LOG}; restart this program"),
    999: ("the driver failed and does not say how", f"sudo modprobe nvidia_uvm; {_SEE_LOG}"),
}
"""Errors after which every call in the context fails: what happened, what to do."""

_KNOWN = {
    OUT_OF_MEMORY: (
        "not as much memory is free",
        "a smaller `batch` or model, or fewer programs on this GPU (nvidia-smi lists them)",
    ),
    34: (
        "the libcuda.so.1 that was found is a stub, not the driver's",
        "take CUDA's `stubs` folder out of LD_LIBRARY_PATH",
    ),
    36: ("the driver is too old for this call", "update the NVIDIA driver"),
    100: (
        "no GPU is to be seen",
        "nvidia-smi; in a container: docker run --gpus all; CUDA_VISIBLE_DEVICES must not hide it",
    ),
    101: ("there is no GPU of this number", "nvidia-smi -L lists them; their numbers start with 0"),
    200: ("the compiled kernels are damaged, or for another kind of GPU", _COMPILE),
    209: ("the compiled kernels are for another kind of GPU", _COMPILE),
    222: ("the kernels were compiled by a CUDA newer than the driver", "update the NVIDIA driver"),
    701: ("a kernel needs more of the GPU than it has", "please report it; `prepare: cpu` avoids our own kernel"),
    801: ("this GPU or its driver cannot do that", "update the NVIDIA driver"),
    802: ("the machine's GPUs are not ready", "sudo systemctl start nvidia-fabricmanager"),
    803: ("the driver's library and its kernel module are of different versions", "sudo reboot"),
    804: (
        "a forward compatibility package is installed that this GPU does not take",
        "sudo apt-get remove 'cuda-compat-*'",
    ),
    **dict.fromkeys(range(805, 810), _MPS),
    **dict.fromkeys(range(900, 909), _OURS),
}


def translate(code: int, name: str, call: str, said: str = "") -> CudaError:
    """The error for what `call` answered. `name`: of the code, as the driver has it; `said`: its own words for it."""
    what, advice = _LOST.get(code) or _KNOWN.get(code) or (said or "failed", f"{_SEE_LOG}; please report it")
    kind = OutOfDeviceMemory if code == OUT_OF_MEMORY else DeviceLost if code in _LOST else CudaError
    return kind(f"{call}: {what} ({name or 'an error of CUDA'}, {code}): {advice}", code, said)
