"""NVIDIA GPUs by CUDA's driver API: what is there, memory, streams, graphs and our own kernels."""
