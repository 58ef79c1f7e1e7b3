"""What was written in one transaction, at whoever holds it: rows one after another in the feed, of one moment
(:attr:`hlc.Version.moment`).

No column says which transaction a row is of. Where it was written its rows were numbered together; where copies are
taken they are kept together: several transactions may come in one message, one among the other, and of some of them
a part may be here already. What comes of one is numbered after all else, and what is here of it follows.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence

from edgeagent.state.consistency import Merged
from edgeagent.state.entry import Entry
from edgeagent.state.errors import DamagedValue
from edgeagent.state.keys import GROUP_ITEMS_MAX
from edgeagent.state.keystore_rows import Change, decode

__all__ = ["merge_by_moment", "siblings"]


def siblings(connection: sqlite3.Connection, entry: Entry, limit: int) -> list[Entry]:
    """What is held of the transaction that wrote the entry, up to so many, and without it."""
    (seq,) = connection.execute("SELECT seq FROM entries WHERE key = ?", (entry.key,)).fetchone()
    found: list[Entry] = []
    for side in ("seq < ? ORDER BY seq DESC", "seq > ? ORDER BY seq"):
        for key, crc, record, value in connection.execute(
            f"SELECT key, crc, record, value FROM entries WHERE {side}",  # noqa: S608 - our own words
            (seq,),
        ):
            with contextlib.suppress(DamagedValue):
                other = decode(key, crc, record, value)
                if other.version.moment != entry.version.moment:
                    break
                if len(found) < limit:
                    found.append(other)
            if len(found) >= limit:
                break
    return found


def merge_by_moment(
    change: Change, entries: Sequence[Entry], merge_one: Callable[[Entry], Merged]
) -> list[Merged]:
    """Merge each, in an order that keeps transactions together; the outcomes in the order of the entries."""
    moments: dict[tuple[int, str], list[int]] = {}
    for at, entry in enumerate(entries):
        moments.setdefault(entry.version.moment, []).append(at)
    merged: dict[int, Merged] = {}
    for places in moments.values():
        first, stayed = change.seq, []
        for at in places:
            before = change.seq
            merged[at] = merge_one(entries[at])
            if change.seq == before and merged[at].entry.version == entries[at].version:
                stayed.append(entries[at])
        if change.seq != first:
            _follow(change, stayed)
    return [merged[at] for at in range(len(entries))]


def _follow(change: Change, stayed: Sequence[Entry]) -> None:
    # With all that is beside them: a node that has forgotten some of it sends the rest alone.
    keys: dict[str, None] = {}
    for entry in stayed:
        if entry.key not in keys:
            beside = siblings(change.connection, entry, GROUP_ITEMS_MAX)
            keys.update(dict.fromkeys([entry.key, *(other.key for other in beside)]))
    for key in keys:
        change.renumber(key)
