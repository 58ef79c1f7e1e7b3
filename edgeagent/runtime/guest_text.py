"""Text that guests wrote, made safe for logs, terminals and JSON."""

from __future__ import annotations

import re

__all__ = ["clean"]

# C0 and C1 controls but for newline and tab, and what makes a log line lie: direction overrides, other line ends.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def clean(raw: bytes, limit: int = 4096) -> str:
    """The last ``limit`` characters of ``raw`` as text, control characters replaced by U+FFFD."""
    return _CONTROL.sub("\ufffd", raw.decode("utf-8", "replace"))[-limit:]
