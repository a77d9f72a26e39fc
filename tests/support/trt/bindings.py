"""The genuine Python bindings of the TensorRT versions that sightwire runs on, without their libraries.

Each version's wheel is fetched and unpacked, not installed. Its libraries (gigabytes, from another index, of no use
without a GPU) are replaced by a stub that has their symbols and does nothing: names, enumerations and signatures are
all that is asked, in a process of its own for each version.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from tests.support.cache import cache
from tests.support.needs import missing
from tests.support.trt.api import Api

ROOT = Path(__file__).parents[3]
SAY = "tests/support/trt/say.py"
VERSIONS = {
    "8.6": "tensorrt_bindings==8.6.1",
    "10.3": "tensorrt_cu12_bindings==10.3.0",
    "10.13": "tensorrt_cu13_bindings==10.13.3.9",
    "10.16": "tensorrt_cu13_bindings==10.16.1.11",
    "11.4": "tensorrt_cu13_bindings==11.4.0.106",
    "RTX 1.7": "tensorrt_rtx_cu13_bindings==1.7.1.116",
}
"""What the index calls the bindings of each version."""

LIBRARIES = (
    *(f"lib{name}.so.{major}" for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser") for major in (8, 10, 11)),
    "libnvparsers.so.8",
    "libtensorrt_rtx.so.1",
    "libtensorrt_onnxparser_rtx.so.1",
)
"""What the bindings are linked with."""
SYMBOLS = (
    *(f"create{name}_INTERNAL" for name in ("InferBuilder", "InferRefitter", "InferRuntime")),
    *(f"create{name}_INTERNAL" for name in ("NvOnnxParser", "NvOnnxParserRefitter")),
    *("getNvOnnxParserVersion", "getBuilderPluginRegistry", "getPluginRegistry", "initLibNvInferPlugins"),
    "_ZN11nvuffparser15createUffParserEv",
    "_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi",
    "_ZN14nvcaffeparser117createCaffeParserEv",
    "_ZN14nvcaffeparser123shutdownProtobufLibraryEv",
)
"""What they want of it all."""


def fetched(requirement: str, folder: Path) -> Path:
    """Where that wheel lies unpacked, `folder` being for this Python's wheels."""
    unpacked = folder / requirement.replace("==", "-")
    if unpacked.is_dir():
        return unpacked
    wheels = folder / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    pip = subprocess.run([*command, f"--dest={wheels}", requirement], capture_output=True, text=True, timeout=240)
    if pip.returncode:
        retried = "Retrying" in pip.stderr
        missing("a package index that answers" if retried else f"a wheel of {requirement} for this Python")
    (wheel,) = wheels.glob(f"{requirement.replace('==', '-')}-*.whl")
    shutil.rmtree(half := unpacked.with_suffix(".part"), ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(half)
    half.rename(unpacked)
    wheel.unlink()
    return unpacked


def stubs(folder: Path) -> Path:
    """A folder with a library under each name, whose functions all return 0."""
    if not (compiler := shutil.which("gcc")):
        missing("gcc")
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "stub.so"
    source = "".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in SYMBOLS)
    command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
    subprocess.run(command, input=source, text=True, check=True, timeout=60)
    for name in LIBRARIES:
        shutil.copyfile(library, folder / name)
    return folder


@functools.cache
def api(version: str) -> Api:
    """The same, to be asked by name."""
    return Api(ask(version))


@functools.cache
def ask(version: str) -> dict[str, Any]:
    """What the bindings of that version say of themselves: see `tests.support.trt.say`. Said once for each content."""
    said_of = b"".join((ROOT / path).read_bytes() for path in (SAY, "engines/trt/features.py")) + repr(SYMBOLS).encode()
    with cache() as folder:
        own = folder / f"tensorrt-cp{sys.version_info[0]}{sys.version_info[1]}"
        bindings = fetched(VERSIONS[version], own)
        answers = bindings / f"{hashlib.sha256(said_of).hexdigest()[:16]}.json"
        if not answers.exists():
            _write(answers, _said(version, bindings, stubs(own / "stubs")))
        return dict(json.loads(answers.read_text(encoding="utf-8")))


def _said(version: str, bindings: Path, libraries: Path) -> str:
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(libraries),
        "PYTHONPATH": os.pathsep.join((str(bindings), str(ROOT))),
    }
    command = [sys.executable, "-m", SAY.removesuffix(".py").replace("/", ".")]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert said.returncode == 0, f"the bindings of TensorRT {version} do not answer:\n{said.stderr[-2000:]}"
    return said.stdout


def _write(path: Path, text: str) -> None:
    """All of it or nothing."""
    half = path.with_suffix(".part")
    half.write_text(text, encoding="utf-8")
    half.rename(path)
