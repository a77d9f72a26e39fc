"""The service: cameras in, results out."""

__version__ = "0.1.0"
