"""Rows of plain writes that stand next to each other: looked up by one statement, put by one.

A statement costs more than its row: it is bound, stepped and reset, and gives the interpreter's lock away and waits for
it again each time. Statements come in a few sizes, so that each is prepared once: keys are filled up to a power of two
by the last one, rows are put in powers of two.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from edgeagent.state.entry import Entry
from edgeagent.state.keystore_rows import Change, Ledger, decode
from edgeagent.state.keystore_types import KeyBounds

__all__ = ["BulkChange"]

_ROWS_MAX = 128  # of a statement: seven values each are under the 999 of older versions of SQLite
_HELD = "SELECT key, crc, record FROM entries WHERE key IN ({})"
_PUT = "INSERT OR REPLACE INTO entries VALUES {}"
_ROW = "(?, ?, ?, ?, ?, ?, ?)"


class BulkChange(Change):
    """A change that keeps rows back between ``look_up`` and ``put_rows``, and knows what they say until then."""

    __slots__ = ("_known", "_rows")

    def __init__(
        self, connection: sqlite3.Connection, ledger: Ledger, bounds: KeyBounds, utc_ms: int
    ) -> None:
        super().__init__(connection, ledger, bounds, utc_ms)
        self._known: dict[str, tuple[int, bytes] | None] | None = None
        self._rows: list[tuple[Any, ...]] = []

    def look_up(self, keys: Sequence[str]) -> None:
        """What follows, up to ``put_rows``, is of these keys."""
        known: dict[str, tuple[int, bytes] | None] = dict.fromkeys(keys)
        names = list(known)
        for at in range(0, len(names), _ROWS_MAX):
            some = names[at : at + _ROWS_MAX]
            some += some[-1:] * ((1 << (len(some) - 1).bit_length()) - len(some))
            marks = ",".join("?" * len(some))
            for key, crc, record in self.connection.execute(_HELD.format(marks), some):
                known[key] = crc, record
        self._known = known

    def held(self, key: str) -> Entry | None:
        """Without its value. Raises DamagedValue."""
        if self._known is None:
            return super().held(key)
        row = self._known[key]
        return None if row is None else decode(key, *row)

    def row(self, key: str) -> Entry | None:
        self._put()
        return super().row(key)

    def put_rows(self) -> None:
        """What was kept back is in its table from now on."""
        self._put()
        self._known = None

    def _insert(self, row: tuple[int, str, int | None, int, int, bytes, bytes | None]) -> None:
        if self._known is None:
            super()._insert(row)
            return
        self._known[row[1]] = row[4], row[5]
        self._rows.append(row)

    def _put(self) -> None:
        rows, self._rows = self._rows, []
        at = 0
        while at < len(rows):
            count = min(_ROWS_MAX, 1 << ((len(rows) - at).bit_length() - 1))
            values = [value for row in rows[at : at + count] for value in row]
            self.connection.execute(_PUT.format(",".join([_ROW] * count)), values)
            at += count
