"""`import tensorrt` in a child process whose path begins here: the scripted stand-in, no TensorRT."""

import os
import sys

from tests.support.standin_trt import namespace

sys.modules[__name__] = namespace(os.environ.get("STANDIN_TRT_VERSION", "10.3.0"))
