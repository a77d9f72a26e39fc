"""`scripts/gpu-check`: what an NVIDIA machine does with the catalogue's models. Each part runs alone.

A part is a child process that prints JSON: a model that crashes, hangs or loses the GPU takes no other with it.
"""
