"""Model and device in, results out: knows nothing of cameras or MQTT."""

import os

MOST_PIXELS = 1 << 26
"""Of one picture, 8192 x 8192: a file of kilobytes that says it has more is no picture of a camera, but gigabytes."""

# OpenCV reads it once, when it is loaded. Whoever has larger pictures sets it, as OpenCV's documentation says.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MOST_PIXELS))
