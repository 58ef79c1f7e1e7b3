"""The C++ extension, where it is built: ``accelerated`` says whether it is loaded, ``why_not`` what kept it away.

Everything that the extension does has a pure Python path that passes the same tests (DESIGN rule 4).
``EDGEAGENT_NATIVE=never`` ignores a built extension, which is how the tests run both paths on one machine.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

__all__ = ["accelerated", "core", "why_not"]


def _load() -> tuple[ModuleType | None, str]:
    if os.environ.get("EDGEAGENT_NATIVE", "auto") == "never":
        return None, "EDGEAGENT_NATIVE=never"
    try:
        return importlib.import_module("edgeagent.native._core"), ""
    except ImportError as error:
        return None, f"extension not built or not loadable ({error})"


core, why_not = _load()
accelerated: bool = core is not None
