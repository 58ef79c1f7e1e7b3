"""What other parts of state remember over restarts: small records by space and name."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from edgeagent.model.errors import StorageFull, TooLarge
from edgeagent.state.errors import DamagedValue
from edgeagent.state.keystore_rows import crc_of

__all__ = [
    "NOTES_MAX",
    "NOTE_BYTES_MAX",
    "check_notes",
    "crc_of_note",
    "notes_below",
    "notes_named",
    "notes_of",
    "put_notes",
]

NOTE_BYTES_MAX = 4 << 20  # the longest is what is owed of wire.ITEMS_MAX keys of full length
NOTES_MAX = 1_200_000  # more than there may be keys
_NAME_BYTES_MAX = 1024


def crc_of_note(space: str, name: str, value: bytes) -> int:
    return crc_of(f"{space}\0{name}", value)


def check_notes(space: str, notes: Mapping[str, bytes | None]) -> None:
    """Raises TooLarge."""
    for name, value in notes.items():
        if len(name.encode()) > _NAME_BYTES_MAX or (value is not None and len(value) > NOTE_BYTES_MAX):
            raise TooLarge(
                f"the note {name[:80]!r} of {space!r} is too large", hint=f"at most {NOTE_BYTES_MAX} bytes"
            )


def put_notes(connection: sqlite3.Connection, space: str, notes: Mapping[str, bytes | None]) -> None:
    """Raises StorageFull."""
    for name, value in notes.items():
        if value is None:
            connection.execute("DELETE FROM notes WHERE space = ? AND name = ?", (space, name))
        else:
            connection.execute(
                "INSERT INTO notes (space, name, crc, value) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (space, name) DO UPDATE SET crc = excluded.crc, value = excluded.value",
                (space, name, crc_of_note(space, name, value), value),
            )
    if any(value is not None for value in notes.values()):
        # The index of names answers, and no note is read.
        (kept,) = connection.execute("SELECT count(*) FROM notes WHERE space = ?", (space,)).fetchone()
        if kept > NOTES_MAX:
            raise StorageFull(f"{space} would have {kept} notes of at most {NOTES_MAX}")


def notes_named(connection: sqlite3.Connection, space: str, names: Sequence[str]) -> dict[str, bytes]:
    """Those of the names that there are; what is damaged is none."""
    found = {}
    for name in names:
        row = connection.execute(
            "SELECT crc, value FROM notes WHERE space = ? AND name = ?", (space, name)
        ).fetchone()
        if row is not None and crc_of_note(space, name, row[1]) == row[0]:
            found[name] = row[1]
    return found


def notes_below(
    connection: sqlite3.Connection, space: str, prefix: str, after: str, limit: int
) -> dict[str, bytes]:
    """Those whose names begin so and stand behind ``after``, in their order; what is damaged is none."""
    rows = connection.execute(
        "SELECT name, crc, value FROM notes WHERE space = ? AND name > ? AND name >= ? AND substr(name, 1, ?) = ?"
        " ORDER BY name LIMIT ?",
        (space, after, prefix, len(prefix), prefix, limit),
    )
    return {name: value for name, crc, value in rows if crc_of_note(space, name, value) == crc}


def notes_of(connection: sqlite3.Connection, space: str) -> dict[str, bytes]:
    """Raises DamagedValue."""
    rows = connection.execute("SELECT name, crc, value FROM notes WHERE space = ?", (space,)).fetchall()
    for name, crc, value in rows:
        if crc_of_note(space, name, value) != crc:
            raise DamagedValue(f"the note {name!r} of {space!r} is damaged on the disk", key="", chunk="")
    return {name: value for name, _, value in rows}
