"""What the writer's thread does with a caller's operations and with entries of other nodes: one transaction each."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from edgeagent.model.errors import TooLarge
from edgeagent.state.calls import Op
from edgeagent.state.consistency import Merged, admit, merge, wins
from edgeagent.state.entry import Entry, Mode, entry_of
from edgeagent.state.errors import BadKey, DamagedValue, KeyTaken, ModeConflict, WrongHash
from edgeagent.state.hlc import NONE, Clock, Version, read_version
from edgeagent.state.keys import CHUNK_BYTES, INLINE_BYTES_MAX, check_key
from edgeagent.state.keystore_groups import merge_by_moment
from edgeagent.state.keystore_rows import Change, Ledger, entry_of_key, row_of
from edgeagent.state.keystore_types import KeyBounds, Written
from edgeagent.state.segments import Place

__all__ = [
    "Setting",
    "Wanted",
    "check_entries",
    "entry_wanted",
    "is_plain",
    "merge_all",
    "wanted_of",
    "write_one",
]

_NODE = re.compile(r"[0-9A-Za-z_.:-]{1,64}")
_COUNT_MAX = (1 << 63) - 1


class Wanted(NamedTuple):
    """An operation, read and checked. ``entry`` is made ahead for a value that is kept in chunks."""

    op: Op
    value: bytes | None
    mode: Mode
    epoch: int
    expect: Version | None
    entry: Entry | None = None


class Setting(NamedTuple):
    """What the writer's thread works with."""

    ledger: Ledger
    bounds: KeyBounds
    node: str

    @property
    def own_bytes_max(self) -> int:
        return self.bounds.bytes_max - self.bounds.inbound_bytes


def wanted_of(op: Op, mode_of: Callable[[str], Mode], owner_epoch: int, value_bytes_max: int) -> Wanted:
    """Raises BadKey and TooLarge."""
    key = check_key(op.key)
    expect = None
    if op.expect is not None:
        expect = read_version(op.expect) if op.expect else NONE
    value = None
    if op.op == "put":
        value = op.value if op.text is None else op.text.encode("utf-8", "surrogatepass")
        if value is None or (op.text is not None and op.value is not None):
            raise BadKey(f"the put of {key!r} has no value, or two", hint="value or text")
        if len(value) > value_bytes_max:
            raise TooLarge(
                f"the value of {key!r} has {len(value)} bytes", hint=f"at most {value_bytes_max}; split it"
            )
    if not 0 <= (epoch := op.epoch or owner_epoch) <= _COUNT_MAX:
        raise BadKey(f"the epoch {epoch} is none")
    return Wanted(op, value, Mode(op.mode) if op.mode else mode_of(key), epoch, expect)


def is_plain(wanted: Wanted) -> bool:
    """Whether it is written without reading the value that is there, nor any chunk of its own."""
    return wanted.mode is Mode.LWW and wanted.entry is None and wanted.op.op != "get"


def write_one(change: Change, setting: Setting, wanted: Wanted, places: Mapping[bytes, Place]) -> Written:
    """One operation of a caller, at the time of the change; ``places``: of chunks that are new.

    Raises VersionMismatch, KeyTaken, Fenced and DamagedValue before it has written; MissingChunks also after.
    """
    connection, utc_ms = change.connection, change.utc_ms
    op = wanted.op
    if op.op == "get":
        held = entry_of_key(connection, op.key)
        there = held is not None and held.is_there(utc_ms)
        return Written(op, held if there else None, there, changed=False)
    plain = wanted.mode is Mode.LWW
    held = change.held(op.key) if plain else change.row(op.key)
    if plain and held is not None and held.mode is not Mode.LWW:
        held = change.row(op.key)  # its value may have to be kept aside
    there = held is not None and held.is_there(utc_ms)
    if held is not None and there and op.mode is not None and op.mode is not held.mode:
        raise ModeConflict(
            f"the key {op.key!r} is of mode {held.mode}, and the writer wants {Mode(op.mode)}",
            hint="a key keeps the mode of its first write until it is deleted; name none, or this one",
            mode=str(held.mode),
        )
    settled = admit(
        held,
        entry_wanted(wanted),
        node=op.owner or setting.node,
        utc_ms=utc_ms,
        expect=wanted.expect,
        takeover=op.takeover,
    )
    if settled is None:
        return Written(op, held, found=True, changed=False)
    if settled.deleted and held is not None and held.deleted and held.epoch == settled.epoch:
        return Written(op, held, found=False, changed=False)
    version = setting.ledger.clock.next(utc_ms)
    if held is not None and version <= held.version:  # of a clock that was ahead
        version = Clock(setting.node, high=held.version).next(utc_ms)
    entry = msgspec.structs.replace(settled, version=version, expires_ms=_expires_ms(wanted, version.wall_ms))
    if held is not None and entry.mode is not Mode.LWW:
        _give_way(change, held, entry)
    change.put(entry, held, places)
    return Written(op, entry, there or not entry.deleted, changed=True, seq=setting.ledger.seq)


def entry_wanted(wanted: Wanted) -> Entry:
    """Without version and expiry: the clock gives both."""
    if wanted.entry is not None:
        return wanted.entry
    return entry_of(wanted.op.key, wanted.value, mode=wanted.mode, epoch=wanted.epoch)


def _expires_ms(wanted: Wanted, wall_ms: int) -> int:
    """By the version's clock, which is never behind that of this node and follows the others'."""
    if not wanted.op.ttl_ms or wanted.value is None:
        return 0
    return min(wall_ms + wanted.op.ttl_ms, _COUNT_MAX)


def _give_way(change: Change, held: Entry, entry: Entry) -> None:
    """A value that was acknowledged and loses is kept aside. Raises KeyTaken where the new one would lose."""
    if not wins(entry, held):
        # Everywhere else what is held would win, and the write be lost after it was acknowledged.
        raise KeyTaken(
            f"the key {entry.key!r} is written once, and was {'deleted' if held.deleted else 'written'}",
            hint="write another key; this one is free again when its deletion is forgotten",
            version=held.version.text(),
        )
    aside = merge(held, entry).aside
    if aside is not None:
        change.put_aside(aside)


def check_entries(entries: Sequence[Entry], value_bytes_max: int) -> None:
    """What another node has sent. Raises BadKey, TooLarge and WrongHash."""
    for entry in entries:
        _check(entry, value_bytes_max)


def _check(entry: Entry, value_bytes_max: int) -> None:
    key = check_key(entry.key)
    wall_ms, counter, node = entry.version
    numbers = (wall_ms, entry.epoch, entry.size_bytes, entry.expires_ms)
    if (
        not all(0 <= one <= _COUNT_MAX for one in numbers)
        or not 0 <= counter < 1 << 16
        or not _NODE.fullmatch(node)
        or not (entry.owner == "" or _NODE.fullmatch(entry.owner))
    ):
        raise BadKey(f"the entry of {key!r} has a number or a name out of its bounds")
    if entry.size_bytes > value_bytes_max:
        raise TooLarge(
            f"the value of {key!r} has {entry.size_bytes} bytes", hint=f"at most {value_bytes_max} here"
        )
    if entry.deleted:
        is_whole = entry.inline is None and not entry.chunks and not entry.size_bytes
    elif entry.size_bytes <= INLINE_BYTES_MAX:
        is_whole = entry.inline is not None and not entry.chunks and len(entry.inline) == entry.size_bytes
    else:
        is_whole = entry.inline is None and len(entry.chunks) == -(-entry.size_bytes // CHUNK_BYTES)
    if not is_whole:
        raise BadKey(f"the entry of {key!r} has not the value that it says")
    if entry.inline is not None and hashlib.sha256(entry.inline).digest() != entry.sha256:
        raise WrongHash(f"the value of {key!r} is not what its hash says", key=key)


def merge_all(
    connection: sqlite3.Connection,
    setting: Setting,
    entries: Sequence[Entry],
    utc_ms: int,
    bytes_max: int,
) -> list[Merged]:
    """Entries of another node meet what is held. Raises, and then all is to be undone."""
    for entry in entries:
        setting.ledger.clock.check(entry.version, utc_ms)
    change = Change(connection, setting.ledger, setting.bounds, utc_ms)
    merged = merge_by_moment(change, entries, lambda entry: _merge(connection, change, entry))
    for entry in entries:
        setting.ledger.clock.saw(entry.version, utc_ms)
    change.settle(bytes_max, setting.bounds.keys_max)
    return merged


def _merge(connection: sqlite3.Connection, change: Change, entry: Entry) -> Merged:
    try:
        held = row_of(connection, entry.key)
    except DamagedValue:
        change.remove(entry.key, None)
        held = None
    merged = merge(held, entry)
    if merged.changed:
        if merged.aside is not None:
            change.put_aside(merged.aside)
        change.put(entry, held)
    elif merged.aside is not None:
        change.put_aside(merged.aside)
    elif held is not None and held.inline != entry.inline and _is_same(held, entry):
        # The value here is damaged: the sound one takes its place.
        change.mend(entry)
    return merged


def _is_same(one: Entry, other: Entry) -> bool:
    return (one.version, one.sha256, one.deleted) == (other.version, other.sha256, False)
