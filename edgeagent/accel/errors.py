"""What can go wrong with choosing CPU or GPU; nothing has moved in any case.

EdgeError
└── AccelFault 422               base
    ├── SettingsRefused 400      a knob of the controller that cannot be
    └── TraceRefused 400         recorded latencies that cannot be replayed; names the file and the line
"""

from __future__ import annotations

from edgeagent.model.errors import EdgeError

__all__ = ["AccelFault", "SettingsRefused", "TraceRefused"]


class AccelFault(EdgeError):
    """Base of this room's errors."""

    slug, status = "accel-failed", 422


class SettingsRefused(AccelFault):
    slug, status = "accel-settings-refused", 400


class TraceRefused(AccelFault):
    slug, status = "trace-refused", 400
