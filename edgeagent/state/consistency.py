"""What becomes of a key when it is written here, and when another node's entry for it comes. Pure.

Merging is commutative, associative and idempotent for entries of one mode, so replicas that have seen the same entries
hold the same one, in whatever order these came. The loser of a merge of two *different values* under ``once`` or
``owner`` was acknowledged to somebody: it is kept aside (``Merged.aside``), never dropped in silence.

Order of entries, the winner last:
  lww    version
  owner  (epoch, version)
  once   (epoch, then the *earlier* version): in one epoch the first write stays; a run that was taken over by another
         holder writes under a higher epoch, and what its former holder still writes counts nowhere
"""

from __future__ import annotations

from typing import Any

import msgspec

from edgeagent.state.entry import Entry, Mode
from edgeagent.state.errors import Fenced, KeyTaken, VersionMismatch
from edgeagent.state.hlc import NONE, Version

__all__ = ["Merged", "admit", "merge", "wins"]


class Merged(msgspec.Struct, frozen=True):
    """``entry`` is what holds from now on; ``changed``: it is not what was held; ``aside``: a value that lost."""

    entry: Entry
    changed: bool
    aside: Entry | None = None


def _order(entry: Entry) -> tuple[Any, ...]:
    if entry.mode is Mode.ONCE:
        # A deletion (of a run that is over and forgotten) stands above the value.
        wall_ms, counter, node = entry.version
        return entry.deleted, entry.epoch, -wall_ms, -counter, tuple(-ord(one) for one in node)
    if entry.mode is Mode.OWNER:
        return entry.epoch, *entry.version
    return tuple(entry.version)


def wins(one: Entry, other: Entry) -> bool:
    """Whether ``one`` stands above ``other``, an entry of the same key. Entries of two modes go by version."""
    if one.mode is not other.mode:
        return one.version > other.version
    return _order(one) > _order(other)


def merge(held: Entry | None, incoming: Entry) -> Merged:
    """Another node's entry comes to what is held here."""
    if held is None:
        return Merged(incoming, changed=True)
    if held.version == incoming.version and held.epoch == incoming.epoch:
        return Merged(held, changed=False)
    taken = wins(incoming, held)
    winner, loser = (incoming, held) if taken else (held, incoming)
    is_kept = (
        winner.mode is not Mode.LWW
        and not loser.deleted
        and not winner.deleted
        and loser.sha256 != winner.sha256
        and (winner.mode is Mode.ONCE or loser.epoch < winner.epoch or loser.owner != winner.owner)
        # Under one owner and epoch, versions follow each other: the loser was overwritten, not lost.
    )
    return Merged(winner, changed=taken, aside=loser if is_kept else None)


def admit(
    held: Entry | None,
    wanted: Entry,
    *,
    node: str,
    utc_ms: int,
    expect: Version | None = None,
    takeover: bool = False,
) -> Entry | None:
    """A caller writes here. The entry as it is to be written (with mode, epoch and owner settled; its version is still
    NONE), or None: it is there already (a repeated ``once`` with the same value).

    ``expect``: only over this version, NONE: only where there is no value. ``takeover``: this node becomes the owner.
    Raises VersionMismatch, KeyTaken, Fenced.
    """
    there = held is not None and held.is_there(utc_ms)
    if expect is not None:
        now = held.version if held is not None and there else NONE
        if now != expect:
            raise VersionMismatch(
                f"the key {wanted.key!r} has {'the version ' + now.text() if there else 'no value'}",
                hint="read it again, then write over the version that you have read",
                version=now.text() if there else "",
            )
    if held is None or (held.mode is not wanted.mode and not there):
        return _first(wanted, node)
    if held.mode is Mode.ONCE and there and not wanted.deleted:
        return _again(held, wanted)
    mode = held.mode if there else wanted.mode
    if mode is Mode.OWNER:
        return _by_owner(held, wanted, node, takeover=takeover)
    return msgspec.structs.replace(wanted, mode=mode)


def _first(wanted: Entry, node: str) -> Entry:
    if wanted.mode is Mode.OWNER:
        return msgspec.structs.replace(wanted, owner=node, epoch=max(1, wanted.epoch))
    return wanted


def _again(held: Entry, wanted: Entry) -> Entry | None:
    if wanted.epoch > held.epoch and wanted.mode is Mode.ONCE and wanted.sha256 != held.sha256:
        # The run was taken over: what its former holder wrote, and nobody read in the new epoch, gives way.
        return wanted
    if wanted.sha256 != held.sha256:
        raise KeyTaken(
            f"the key {wanted.key!r} is written once and has a value already",
            hint="read it, or write another key",
            version=held.version.text(),
        )
    return None


def _by_owner(held: Entry, wanted: Entry, node: str, *, takeover: bool) -> Entry:
    owner, epoch = held.owner, held.epoch
    if takeover and owner != node:
        owner, epoch = node, epoch + 1
    if owner != node:
        raise Fenced(
            f"the key {wanted.key!r} is written by node {owner}, not by {node}",
            hint="write it there; or take it over when that node is gone for good",
            owner=owner,
            epoch=epoch,
        )
    if wanted.epoch and wanted.epoch != epoch:
        raise Fenced(
            f"the key {wanted.key!r} is in epoch {epoch}, the writer in {wanted.epoch}",
            hint="read it again",
            owner=owner,
            epoch=epoch,
        )
    return msgspec.structs.replace(wanted, mode=Mode.OWNER, owner=owner, epoch=epoch)
