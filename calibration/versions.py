"""What figures may depend on besides the pictures."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("sightwire", "openvino", "onnxruntime", "onnx", "numpy")


def versions() -> dict[str, str]:
    """Name -> version of the packages that are installed, of those that compute."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
