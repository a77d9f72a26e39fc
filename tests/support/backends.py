"""Every backend that runs networks, in the forms that must behave alike; a new backend needs an entry here."""

from __future__ import annotations

from engines.backends import BackendConfig, onnxruntime, openvino

REFERENCE = onnxruntime.Config(threads=1, provider="cpu")
"""What the others are compared with."""
BACKENDS: dict[str, BackendConfig] = {
    "openvino": openvino.Config(threads=1),
    "openvino batch 4": openvino.Config(threads=1, batch=4),
    "openvino 2 streams": openvino.Config(threads=2, streams=2),
    "openvino 2 threads, 1 stream": openvino.Config(threads=2, streams=1),
    "openvino auto": openvino.Config(threads=1, device="AUTO"),
    "onnxruntime": REFERENCE,
    "onnxruntime batch 4": onnxruntime.Config(threads=1, batch=4),
    "onnxruntime 2 streams": onnxruntime.Config(threads=2, streams=2),
    "onnxruntime 2 threads, 1 stream": onnxruntime.Config(threads=2, streams=1),
}
COMPARED = ("openvino", "openvino batch 4", "onnxruntime batch 4")
"""Of these, those that may add up in another order: threads and streams change who computes, not what."""
