"""Values in memory, so that what is read again costs no other thread. Of one event loop. Pure.

What it holds is what the last acknowledged write left, or later: a key is out of it from the moment a write of it is
asked for until all its writes have been answered, and a read that a write has overtaken puts nothing in. Where several
writes of a key were under way at once, the order of their answers is not that of the writes: none of them puts it in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from edgeagent.state.entry import Entry
from edgeagent.state.hlc import UNSET_BEFORE_MS

__all__ = ["ValueCache"]

_ROW_BYTES = 512  # what an entry takes beside its value, about
_SHARE = 8  # no value may take more than this part of the whole


class ValueCache:
    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._held: OrderedDict[str, tuple[Entry, bytes]] = OrderedDict()
        self._bytes = 0
        self._writing: dict[str, int] = {}  # how many writes of a key are under way
        self._several: set[str] = set()  # keys of which there were more than one
        self._reading: dict[str, object] = {}

    def get(self, key: str) -> tuple[Entry, bytes] | None:
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
        return found

    def begin_read(self, key: str) -> object:
        token = object()
        self._reading[key] = token
        return token

    def end_read(self, key: str, token: object, found: tuple[Entry, bytes] | None) -> None:
        """``found``: what the read that began with this token has found."""
        if self._reading.get(key) is token:
            del self._reading[key]
            if found is not None and key not in self._writing:
                self._put(key, found)

    def begin_write(self, keys: Iterable[str]) -> None:
        for key in keys:
            if key in self._writing:
                self._writing[key] += 1
                self._several.add(key)
            else:
                self._writing[key] = 1
            self._reading.pop(key, None)
            self.drop(key)

    def end_write(
        self, keys: Iterable[str], entries: Iterable[Entry | None] = (), values: Mapping[str, bytes] = {}
    ) -> None:
        """``entries``: what the write left, in its order; ``values``: of those that are kept in chunks."""
        several: set[str] = set()
        for key in keys:
            left = self._writing.pop(key) - 1
            if left:
                self._writing[key] = left
            elif key in self._several:
                self._several.discard(key)
                several.add(key)
        for entry in entries:
            if entry is None or entry.key in self._writing or entry.key in several:
                continue
            value = values.get(entry.key) if entry.chunks else entry.inline
            if value is None:
                self.drop(entry.key)  # a group may write a key twice: the last counts
            else:
                self._put(entry.key, (entry, value))

    def drop(self, key: str) -> None:
        found = self._held.pop(key, None)
        if found is not None:
            self._bytes -= len(found[1]) + _ROW_BYTES

    def clear(self) -> None:
        self._held.clear()
        self._reading.clear()
        self._bytes = 0

    def _put(self, key: str, found: tuple[Entry, bytes]) -> None:
        size = len(found[1]) + _ROW_BYTES
        self.drop(key)
        if size > self._bytes_max // _SHARE:
            return
        if 0 < found[0].expires_ms < UNSET_BEFORE_MS:
            return  # only the index knows when it goes
        self._held[key] = found
        self._bytes += size
        while self._bytes > self._bytes_max:
            _, (_, value) = self._held.popitem(last=False)
            self._bytes -= len(value) + _ROW_BYTES
