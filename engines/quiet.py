"""OpenVINO without its telemetry: nothing leaves a machine unasked.

`import openvino` (2025.1 to 2026.4 at least) reports a "general_import" event to a web analytics service, from a thread
that it starts. Where the telemetry package is absent it uses a stub, so it is made to look absent.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, cast

from engines.errors import BackendError


def import_openvino() -> Any:
    """Return the `openvino` module; the only place that imports it. Raises BackendError where it does not load."""
    # None in sys.modules makes an import fail as if the package were not installed.
    sys.modules.setdefault("openvino_telemetry", cast(ModuleType, None))
    try:
        import openvino
    except (ImportError, OSError) as error:
        raise BackendError(f"OpenVINO does not load ({error}): pip install --upgrade openvino") from None
    return openvino
