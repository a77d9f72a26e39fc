"""TensorRT: plans are built from an ONNX file, kept with a passport, proved, and run. `trt` is always a parameter."""
