"""What genuine TensorRT bindings offer, and what a source asks of them."""
