"""What the reader's thread answers from the index of the key store."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from edgeagent.state.consistency import admit
from edgeagent.state.entry import Entry
from edgeagent.state.errors import DamagedValue
from edgeagent.state.hlc import Version
from edgeagent.state.keys import RUNS
from edgeagent.state.keystore_groups import siblings
from edgeagent.state.keystore_rows import decode, entry_of_key, is_sound, is_text, row_of
from edgeagent.state.keystore_writes import Setting, Wanted, entry_wanted
from edgeagent.state.segments import record_bytes

__all__ = [
    "asides_of",
    "entries_of",
    "listed",
    "since",
    "sizes_of",
    "tails_of",
    "versions_of",
    "would_be_admitted",
]

_PAGE = 500
_LAST = chr(0x10FFFF)


def rows_of(connection: sqlite3.Connection, keys: Sequence[str], *, siblings_max: int = 0) -> list[Entry]:
    """Those of the keys that are held, deletions too, at one moment; and what was written in one transaction with them
    and is still held, up to ``siblings_max``. Raises DamagedValue.
    """
    with _one_moment(connection):
        found = {key: entry for key in keys if (entry := row_of(connection, key)) is not None}
        for entry in list(found.values()) if siblings_max else ():
            for sibling in siblings(connection, entry, siblings_max - len(found)):
                found.setdefault(sibling.key, sibling)
    return list(found.values())


def entries_of(
    connection: sqlite3.Connection, keys: Sequence[str], prefix: str | None, utc_ms: int
) -> list[Entry]:
    """Those of the keys and below the prefix that have a value, at one moment. Raises DamagedValue."""
    with _one_moment(connection):
        found = [entry_of_key(connection, key) for key in keys]
        if prefix is not None:
            known = set(keys)
            after = ""
            while rows := _rows_below(connection, prefix, after, "key"):
                found += [
                    entry_of_key(connection, key) for key, *_ in rows if key not in known and is_text(key)
                ]
                after = rows[-1][0]
    return [entry for entry in found if entry is not None and entry.is_there(utc_ms)]


def listed(connection: sqlite3.Connection, prefix: str, after: str, limit: int, utc_ms: int) -> list[Entry]:
    entries: list[Entry] = []
    while len(entries) < limit and (rows := _rows_below(connection, prefix, after, "key, crc, record")):
        for row in rows:
            with contextlib.suppress(DamagedValue):  # scrub reports it
                entry = decode(*row)
                if entry.is_there(utc_ms):
                    entries.append(entry)
        after = rows[-1][0]
    return entries[: max(0, limit)]


def since(
    connection: sqlite3.Connection, seq: int, limit: int, *, bare: bool = False
) -> list[tuple[int, Entry]]:
    """``bare``: without the values that lie in the rows."""
    value = "NULL" if bare else "value"
    rows = connection.execute(
        f"SELECT seq, key, crc, record, {value} FROM entries WHERE seq > ? ORDER BY seq LIMIT ?",  # noqa: S608
        (seq, max(0, limit)),
    )
    entries: list[tuple[int, Entry]] = []
    for number, *row in rows:
        with contextlib.suppress(DamagedValue):  # no other node is told of what nobody can read
            entry = decode(*row)
            if is_sound(entry):
                entries.append((number, entry))
    return entries


def versions_of(connection: sqlite3.Connection, group: str) -> list[tuple[str, Version]]:
    """The keys of a group, deletions too, in their order."""
    found: list[tuple[str, Version]] = []
    rows = connection.execute("SELECT key, crc, record FROM entries WHERE key = ?", (group,)).fetchall()
    below, after = f"{group}/", ""
    if below != RUNS:  # whose keys are of groups of their own
        while page := _rows_below(connection, below, after, "key, crc, record"):
            rows += page
            after = page[-1][0]
    for row in rows:
        with contextlib.suppress(DamagedValue):
            found.append((row[0], decode(*row).version))
    return found


def asides_of(connection: sqlite3.Connection, key: str) -> list[Entry]:
    rows = connection.execute("SELECT key, crc, record, value FROM asides WHERE key = ? ORDER BY id", (key,))
    entries: list[Entry] = []
    for row in rows:
        with contextlib.suppress(DamagedValue):
            entry = decode(*row)
            if is_sound(entry):
                entries.append(entry)
    return entries


def tails_of(connection: sqlite3.Connection) -> dict[int, int]:
    """Where the last record of each segment ends."""
    rows = connection.execute(
        "SELECT segment, offset, size_bytes FROM chunks WHERE segment IS NOT NULL"
        " GROUP BY segment HAVING offset = max(offset)"
    )
    return {segment: offset + record_bytes(size) for segment, offset, size in rows}


def would_be_admitted(
    connection: sqlite3.Connection, setting: Setting, wanted: Sequence[Wanted], utc_ms: int
) -> None:
    """Raises what the write would, as far as it can be seen before: VersionMismatch, KeyTaken, Fenced."""
    seen: set[str] = set()
    for one in wanted:
        if one.op.op != "get" and one.op.key not in seen:
            seen.add(one.op.key)
            admit(
                row_of(connection, one.op.key),
                entry_wanted(one),
                node=one.op.owner or setting.node,
                utc_ms=utc_ms,
                expect=one.expect,
                takeover=one.op.takeover,
            )


def sizes_of(connection: sqlite3.Connection, keys: Sequence[str]) -> int:
    """What the values of the keys take at most, as a write over them would free it."""
    held = [row_of(connection, key) for key in dict.fromkeys(keys)]
    return sum(entry.size_bytes for entry in held if entry is not None)


def _rows_below(connection: sqlite3.Connection, prefix: str, after: str, columns: str) -> list[Any]:
    # A damaged key need not be UTF-8: behind it the rows go on all the same. What is no text at all stands behind all
    # that is, and is left out.
    behind = after.encode("utf-8", "surrogateescape")
    return connection.execute(
        f"SELECT {columns} FROM entries WHERE key > CAST(? AS TEXT) AND key >= ? AND key < ?"  # noqa: S608
        " ORDER BY key LIMIT ?",
        (behind, prefix, _after_all(prefix) or b"", _PAGE),
    ).fetchall()


def _after_all(prefix: str) -> str:
    """The least text that stands behind all that begin with the prefix, "" where there is none."""
    head = prefix.rstrip(_LAST)
    if not head:
        return ""
    following = ord(head[-1]) + 1
    return head[:-1] + chr(
        0xE000 if following == 0xD800 else following
    )  # between lie surrogates, which are no text


@contextlib.contextmanager
def _one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")
