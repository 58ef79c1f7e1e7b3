"""What msgspec raises for bytes from outside: text in it that is no UTF-8 is a ValueError, deep nesting a
RecursionError, and neither is msgspec's own.
"""

from __future__ import annotations

import msgspec

__all__ = ["UNDECODABLE"]

UNDECODABLE = (msgspec.MsgspecError, ValueError, RecursionError)
