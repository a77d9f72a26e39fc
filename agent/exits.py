"""What the process says when it ends, besides 0, 1 (it failed) and 2 (it was called wrongly)."""

from __future__ import annotations

EX_CONFIG = 78
"""sysexits.h: something is wrong in the configuration. The service unit does not restart on it."""
EX_INTERRUPTED = 130
"""What a shell says of a program that Ctrl-C ended."""
