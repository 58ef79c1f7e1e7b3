"""A key store over a faulty disk, for one simulated node.

Transactions become durable when the disk has been flushed, and are acknowledged and read only then. At a crash what was
not flushed is lost from some transaction on (a log with checksums), and chunks that were not flushed are lost, torn or
there, each by itself. Bits may flip; every read compares hashes.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile

import msgspec

from edgeagent.model.errors import EdgeError, StorageFull
from edgeagent.simulator.clock import VirtualClock
from edgeagent.state.calls import Op
from edgeagent.state.consistency import admit, merge, wins
from edgeagent.state.entry import Entry, Mode, chunks_of, entry_of
from edgeagent.state.hlc import NONE, Clock, Version, read_version
from edgeagent.state.keys import INLINE_BYTES_MAX, digest_of, group_of
from edgeagent.state.messages import Name

__all__ = ["SimDisk", "SimStore"]

_FLUSH_S = (0.002, 0.03)
_STALL_S = 0.7  # one flush of ten


class _Commit(msgspec.Struct):
    # ``made``: what a caller here wrote in it.
    rows: dict[str, Entry | None]
    notes: dict[str, bytes | None]
    done: Callable[[], None]
    made: list[Entry] = []


class SimDisk:
    """What outlives the process. ``rows``: what is held, by key; ``order``: the feed's number of each."""

    def __init__(self) -> None:
        self.rows: dict[str, Entry] = {}
        self.order: dict[str, int] = {}
        self.chunks: dict[bytes, bytes] = {}
        self.notes: dict[str, bytes] = {}
        self.high: Version = NONE
        self.seq = 0
        self.went_back: list[str] = []
        self.is_full = False
        self._hashed: dict[bytes, bytes] = {}

    def apply(self, rows: Mapping[str, Entry | None], notes: Mapping[str, bytes | None]) -> None:
        stayed = {key for key, entry in rows.items() if entry and self._version(key) == entry.version}
        beside = {key: self.beside(key) for key in stayed}
        for key, entry in rows.items():
            held = self.rows.get(key)
            if entry is None:
                self.drop(key)
                continue
            if held is not None and wins(held, entry):
                self.went_back.append(f"{key} from {held.version.text()} to {entry.version.text()}")
            self.rows[key] = entry
            for one in (key, *(other for other in beside.get(key, ()) if other not in rows)):
                self.seq += 1
                self.order[one] = self.seq
            self.high = max(self.high, entry.version)
        for name, note in notes.items():
            if note is None:
                self.notes.pop(name, None)
            else:
                self.notes[name] = note

    def drop(self, key: str) -> None:
        """The key is not held any more."""
        self.rows.pop(key, None)
        self.order.pop(key, None)

    def _version(self, key: str) -> Version | None:
        return self.rows[key].version if key in self.rows else None

    def beside(self, key: str) -> list[str]:
        """As keystore_groups.siblings: what is beside the key in the feed, of its moment."""
        moment = self.rows[key].version.moment
        feed = sorted(self.order, key=self.order.__getitem__)
        at = feed.index(key)
        found: list[str] = []
        for side in (feed[at + 1 :], feed[:at][::-1]):
            near = takewhile(moment.__eq__, (self.rows[other].version.moment for other in side))
            found += [other for other, _ in zip(side, near, strict=False)]
        return found

    def value_of(self, entry: Entry) -> bytes | None:
        """The value as a reader gets it; None where it is damaged."""
        if entry.chunks:
            pieces = [piece for sha256 in entry.chunks if (piece := self.chunk(sha256)) is not None]
            return b"".join(pieces) if len(pieces) == len(entry.chunks) else None
        value = entry.inline
        return value if value is not None and self._is(entry.sha256, value) else None

    def _is(self, sha256: bytes, data: bytes) -> bool:
        # What was hashed once, and is still the same object, need not be hashed again.
        if self._hashed.get(sha256) is data:
            return True
        if hashlib.sha256(data).digest() != sha256:
            return False
        self._hashed[sha256] = data
        return True

    def chunk(self, sha256: bytes) -> bytes | None:
        piece = self.chunks.get(sha256)
        return piece if piece is not None and self._is(sha256, piece) else None

    def is_good(self, key: str) -> bool:
        """Whether a value, or a tombstone, is held undamaged."""
        entry = self.rows.get(key)
        return entry is not None and (entry.deleted or self.value_of(entry) is not None)


class SimStore:
    """The process's side: one life of it. ``dead``: nothing comes from it any more."""

    def __init__(
        self, node: str, disk: SimDisk, clock: VirtualClock, chance: random.Random, utc_ms: Callable[[], int]
    ) -> None:
        self.disk = disk
        self.dead = False
        self._node = node
        self._clock = clock
        self._chance = chance
        self._utc_ms = utc_ms
        self._hlc = Clock(node, high=disk.high)
        self._tail: list[_Commit] = []
        self._ahead: dict[str, Entry | None] = {}
        self._unsynced: dict[bytes, bytes] = {}
        self._flushing = False

    def ahead(self, key: str) -> Entry | None:
        """As the writer sees it."""
        return self._ahead[key] if key in self._ahead else self.disk.rows.get(key)

    def write(
        self,
        ops: Sequence[Op],
        done: Callable[[list[Entry]], None],
        failed: Callable[[EdgeError], None],
        *,
        mode: Mode,
        epoch: int = 0,
    ) -> None:
        """As KeyStore.write; ``done`` when it is durable, ``failed`` with what ``admit`` raises, or StorageFull."""
        pieces = {
            hashlib.sha256(piece).digest(): bytes(piece)
            for op in ops
            if op.value is not None and len(op.value) > INLINE_BYTES_MAX
            for piece in chunks_of(op.value)
        }

        def commit() -> None:
            try:
                self._admit(ops, done, mode=mode, epoch=epoch)
            except EdgeError as error:
                failed(error)

        if not pieces:
            commit()
            return
        try:
            self.put_chunks(list(pieces.items()), commit)
        except StorageFull as error:
            failed(error)

    def _admit(
        self, ops: Sequence[Op], done: Callable[[list[Entry]], None], *, mode: Mode, epoch: int
    ) -> None:
        if self.disk.is_full:
            raise StorageFull("the disk is full")
        rows: dict[str, Entry | None] = {}
        utc_ms = self._utc_ms()
        for op in ops:
            wanted = entry_of(op.key, op.value, mode=mode, epoch=epoch)
            expect = None if op.expect is None else read_version(op.expect) if op.expect else NONE
            entry = admit(
                self.ahead(op.key),
                wanted,
                node=self._node,
                utc_ms=utc_ms,
                expect=expect,
                takeover=op.takeover,
            )
            if entry is None:
                continue
            rows[op.key] = msgspec.structs.replace(entry, version=self._hlc.next(utc_ms))
        made = [entry for entry in rows.values() if entry is not None]
        self._ahead.update(rows)
        self._commit(rows, {}, lambda: done(made), made)

    def accept(self, entries: Sequence[Entry], done: Callable[[list[Entry]], None]) -> None:
        """As KeyStore.accept. Raises StorageFull, ClockAhead, and KeyError where chunks are missing."""
        if self.disk.is_full:
            raise StorageFull("the disk is full")
        for entry in entries:
            if any(self.disk.chunk(sha256) is None for sha256 in entry.chunks):
                raise KeyError(entry.key)
            self._hlc.saw(entry.version, self._utc_ms())
        merged = []
        rows: dict[str, Entry | None] = {}
        stayed: dict[tuple[int, str], dict[str, Entry | None]] = {}
        for entry in entries:
            held = self.ahead(entry.key)
            now = merge(held, entry)
            if now.changed or (
                held is not None and held.version == entry.version and not self.disk.is_good(entry.key)
            ):
                rows[entry.key] = now.entry if now.changed else entry
            elif now.entry.version == entry.version:
                stayed.setdefault(entry.version.moment, {})[entry.key] = now.entry
            merged.append(now.entry)
        rows = self._by_moment(rows, stayed)
        self._ahead.update(rows)
        self._commit(rows, {}, lambda: done(merged))

    @staticmethod
    def _by_moment(
        rows: Mapping[str, Entry | None], stayed: Mapping[tuple[int, str], Mapping[str, Entry | None]]
    ) -> dict[str, Entry | None]:
        # As KeyStore numbers them: transactions one after another, each with what of it was here already.
        moments: dict[tuple[int, str], dict[str, Entry | None]] = {}
        for key, entry in rows.items():
            if entry is not None:
                moment = entry.version.moment
                moments.setdefault(moment, dict(stayed.get(moment, {})))[key] = entry
        return {key: entry for group in moments.values() for key, entry in group.items()}

    def drop(self, names: Sequence[Name], done: Callable[[], None]) -> list[str]:
        """Forget these where the versions are still those; which keys it forgets."""
        gone: dict[str, Entry | None] = {}
        for key, version in names:
            held = self.ahead(key)
            if held is not None and held.version == version:
                gone[key] = None
        self._ahead.update(gone)
        self._commit(gone, {}, done)
        return list(gone)

    def put_notes(self, notes: Mapping[str, bytes | None], done: Callable[[], None]) -> None:
        self._commit({}, dict(notes), done)

    def put_chunks(self, pieces: Sequence[tuple[bytes, bytes]], done: Callable[[], None]) -> None:
        if self.disk.is_full:
            raise StorageFull("the disk is full")
        self._unsynced.update(pieces)

        def synced() -> None:
            if self.dead:
                return
            for sha256, piece in pieces:
                self.disk.chunks[sha256] = piece
                self._unsynced.pop(sha256, None)
            done()

        self._clock.after(self._flush_s(), synced)

    def _commit(
        self,
        rows: dict[str, Entry | None],
        notes: dict[str, bytes | None],
        done: Callable[[], None],
        made: Sequence[Entry] = (),
    ) -> None:
        self._tail.append(_Commit(rows, notes, done, list(made)))
        if not self._flushing:
            self._flushing = True
            self._clock.after(self._flush_s(), self._flush)

    def _flush(self) -> None:
        if self.dead:
            return
        tail, self._tail, self._flushing = self._tail, [], False
        for one in tail:
            self.disk.apply(one.rows, one.notes)
        for one in tail:
            for key, entry in one.rows.items():
                if self._ahead.get(key) is entry:
                    self._ahead.pop(key, None)
        for one in tail:
            one.done()

    def _flush_s(self) -> float:
        return _STALL_S if self._chance.random() < 0.1 else self._chance.uniform(*_FLUSH_S)

    def crash(self) -> list[list[Entry]]:
        """The process ends, or the power: what was not flushed may be there or not. The transactions of callers here
        that are there, although no caller will hear of them.
        """
        self.dead = True
        survived: list[list[Entry]] = []
        for one in self._tail[: self._chance.randint(0, len(self._tail))]:
            if all(
                self.disk.chunk(sha) is not None for row in one.rows.values() if row for sha in row.chunks
            ):
                self.disk.apply(one.rows, one.notes)
                survived += [one.made] if one.made else []
        for sha256, piece in self._unsynced.items():
            fate = self._chance.random()
            if fate < 0.3:
                self.disk.chunks.setdefault(sha256, piece)
            elif fate < 0.6:
                self.disk.chunks.setdefault(sha256, piece[: len(piece) // 2])
        return survived

    def sums(self) -> dict[bytes, bytes]:
        """For Summarize."""
        found: dict[str, list[Name]] = {}
        for key, entry in sorted(self.disk.rows.items()):
            found.setdefault(group_of(key), []).append((key, entry.version))
        return {
            digest_of(group): hashlib.sha256(msgspec.msgpack.encode(names)).digest()[:8]
            for group, names in found.items()
        }

    def names_of(self, group: bytes) -> list[Name]:
        """For ListGroup."""
        return [
            (key, entry.version)
            for key, entry in sorted(self.disk.rows.items())
            if digest_of(group_of(key)) == group
        ]

    def held(self, keys: Sequence[str]) -> list[Entry]:
        """As KeyStore.held: with what is beside them in the feed and has their moment."""
        rows = self.disk.rows
        found = [key for key in keys if key in rows]
        found += [other for key in found for other in self.disk.beside(key)]
        return [rows[key] for key in dict.fromkeys(found)]

    def feed(self, since: int) -> list[tuple[int, Entry]]:
        """As KeyStore.entries_since."""
        later = sorted((seq, key) for key, seq in self.disk.order.items() if seq > since)
        return [(seq, self.disk.rows[key]) for seq, key in later]
