"""Where a group of keys is at home: the members that all agree to ask first, and to keep a copy at. Pure.

Rendezvous hashing (Thaler and Ravishankar, Using Name-Based Mappings to Increase Hit Rates, IEEE/ACM Transactions on
Networking 1998): every node ranks the members for a group alike, without a table, and a member that comes or goes moves
only what it has itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

__all__ = ["homes"]


def homes(group: str, members: Iterable[str], count: int) -> list[str]:
    """The first ``count`` of the members for a group, the home first."""
    seed = hashlib.sha256(group.encode()).digest()
    ranked = sorted(members, key=lambda node: hashlib.sha256(seed + node.encode()).digest())
    return ranked[:count]
