"""The service: cameras in, results out."""

import engines  # noqa: F401  # says how large pictures may be, which must be said before OpenCV is loaded

__version__ = "0.1.0"
