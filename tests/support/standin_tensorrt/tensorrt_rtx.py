"""`import tensorrt_rtx` in a child process whose path begins here: the scripted stand-in, no TensorRT-RTX."""

import sys

from tests.support.standin_trt import namespace

sys.modules[__name__] = namespace("1.7.1")
