"""What the sections of a configuration have in common."""

from __future__ import annotations

import msgspec

__all__ = ["DAY_MS", "GIB", "HOUR_MS", "KIB", "MIB", "MINUTE_MS", "Section"]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys with their defaults; an unknown one is refused."""
