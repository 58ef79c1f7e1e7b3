"""The door to ``native/graph``: ``kernels`` is the extension's part for this room, or None where it is not built.

Everything that it does has a path in numpy and heapq with the same answers (``pure_protocols``, ``pure_graph``).
"""

from __future__ import annotations

from typing import Any

from edgeagent import native

__all__ = ["kernels"]

kernels: Any = getattr(native.core, "graph", None)
