"""What a node wrote while its clock was ahead gets versions of now, once its clock is right again.

Nobody takes versions from a clock that is far ahead (:mod:`edgeagent.state.hlc`), and a node's own versions only grow:
without this a node whose clock was wrong once could hand over nothing any more. It needs two witnesses: this node's
clock, of which its versions are ahead, and another member, which refuses them. So a clock that has fallen back to a
wrong time does no harm: nobody refuses what this node wrote before.

Only what this node wrote itself is stamped anew, in the order in which it was written, what was written together
together. Nobody else has it, but for nodes whose clock is not set.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import msgspec

from edgeagent.state.entry import Entry
from edgeagent.state.errors import DamagedValue
from edgeagent.state.hlc import SKEW_MS_MAX, UNSET_BEFORE_MS, Version
from edgeagent.state.keystore_rows import Change, decode, row_of
from edgeagent.state.keystore_writes import Setting

__all__ = ["MOMENTS_MAX", "restamp"]

# A transaction takes a millisecond, and those of now are not to be ahead again.
MOMENTS_MAX = SKEW_MS_MAX // 2
_ROWS = 1000


def restamp(connection: sqlite3.Connection, setting: Setting, utc_ms: int) -> list[Entry]:
    """What has another version now; nothing where this node's clock is not set, or no version is ahead of it."""
    clock, latest_ms = setting.ledger.clock, utc_ms + SKEW_MS_MAX
    if utc_ms < UNSET_BEFORE_MS or clock.high.wall_ms <= latest_ms:
        return []
    high, ahead = Version(utc_ms, 0, setting.node), []
    for entry in _entries(connection):
        if entry.version.wall_ms <= latest_ms:
            high = max(high, entry.version)
        elif entry.version.node == setting.node:
            ahead.append((entry.version, entry.key))
    ahead.sort()
    clock.high = high
    change = Change(connection, setting.ledger, setting.bounds, utc_ms)
    stamped: list[Entry] = []
    moments: dict[tuple[int, str], int] = {}
    for version, key in ahead:
        if version.moment not in moments and len(moments) >= MOMENTS_MAX:
            clock.high = max(clock.high, ahead[-1][0])  # the rest is for when it is refused again
            break
        wall_ms = moments.setdefault(version.moment, max(utc_ms, clock.high.wall_ms + 1))
        held = row_of(connection, key)
        assert held is not None
        expires_ms = held.expires_ms and wall_ms + held.ttl_ms
        made = msgspec.structs.replace(held, version=clock.next(wall_ms), expires_ms=expires_ms)
        change.put(made, held)
        stamped.append(made)
    change.settle(setting.bounds.bytes_max, setting.bounds.keys_max)
    return stamped


def _entries(connection: sqlite3.Connection) -> Iterator[Entry]:
    after = 0
    while rows := connection.execute(
        "SELECT seq, key, crc, record FROM entries WHERE seq > ? ORDER BY seq LIMIT ?", (after, _ROWS)
    ).fetchall():
        after = rows[-1][0]
        for _, *row in rows:
            try:
                yield decode(*row)
            except DamagedValue:
                continue  # scrub reports it
