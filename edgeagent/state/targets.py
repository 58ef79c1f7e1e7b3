"""Which nodes get a copy: rendezvous hashing over who can be reached, and when a transfer has to begin.

Source: Thaler and Ravishankar, Using Name-Based Mappings to Increase Hit Rates (1998): every node ranks all nodes for
a group alike, so copies of a group stay together and a lookup knows where to ask first. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

from edgeagent.state.effects import NetworkView, PeerView

__all__ = ["choose", "hand_off_begins_ms", "ranked", "transfer_s"]

_MARGIN = 1.3  # of the time that the bytes alone take
_RATE_GUESS_BIT_S = 10e6
_RTT_GUESS_S = 0.1


def ranked(group: str, names: Collection[str]) -> list[str]:
    """The names, first the one that is to hold the group."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{group}\0{name}".encode()).digest())


def transfer_s(size_bytes: int, peer: PeerView) -> float:
    """How long a transfer takes, with margin and four round trips."""
    rate_bit_s = peer.rate_bit_s or _RATE_GUESS_BIT_S
    return 8 * size_bytes / rate_bit_s * _MARGIN + 4 * (peer.rtt_s or _RTT_GUESS_S)


def hand_off_begins_ms(size_bytes: int, peer: PeerView, set_utc_ms: int) -> int:
    """When to begin, so that it is over when this node sets: twice what it takes before that."""
    return set_utc_ms - int(2000 * transfer_s(size_bytes, peer))


def choose(
    ranking: Sequence[str],
    view: NetworkView,
    *,
    size_bytes: int,
    utc_ms: int,
    without: Collection[str],
    ground: bool,
    stays_until_ms: int = 0,
) -> str:
    """The node that gets the next copy, "" for none now. ``ranking``: :func:`ranked` of all members.

    ``ground``: only a node on the ground will do. Marked nodes come first, those whose contact ends before the
    transfer would (or which leave by ``stays_until_ms`` themselves) last: what they have got by then is not sent again.
    """
    best, best_class = "", 9
    for name in ranking:
        peer = view.peers[name]
        if not peer.reachable or name in without or (ground and not peer.is_ground):
            continue
        ends_ms = utc_ms + int(1000 * transfer_s(size_bytes, peer))
        is_short = bool(peer.until_utc_ms) and peer.until_utc_ms < max(ends_ms, stays_until_ms)
        if (found := 2 * is_short + (not peer.marked)) < best_class:
            best, best_class = name, found
    return best
