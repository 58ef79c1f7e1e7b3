"""What this node owes: bundles of keys that are to be durable elsewhere, until they are.

A bundle travels and is committed as a whole, so that no replica shows half of a group. A key is in one bundle of
replication at most: a write that shares a key with a bundle that is still owed is fused with it, because the value that
was overwritten cannot be sent any more; so there are never more bundles than keys. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.state.entry import Durability
from edgeagent.state.hlc import Version
from edgeagent.state.keys import group_of
from edgeagent.state.messages import Name
from edgeagent.state.wire import ITEMS_MAX

__all__ = ["ERRANDS_MAX", "SPACE", "Bundle", "Obligations", "name_of", "read_note"]

SPACE = "obligations"  # of the notes of the key store
ERRANDS_MAX = 4096


class Bundle(msgspec.Struct, kw_only=True):
    """``versions``: what was held when the bundle was made; ``holders``: who has all of these, and whether it is on the
    ground. ``to``: an errand to this node, which ends there. ``release``: this node would forget its copy afterwards,
    so it does not count as one. ``not_before_ms``: a hand-off begins then. ``since``: the number of the store's feed
    after which the bundle's writes are. The rest is how sending goes.
    """

    id: int
    versions: dict[str, Version]
    copies: int
    ground: bool = False
    to: str = ""
    custody: bool = False
    release: bool = False
    by_utc_ms: int = 0  # 0: whenever
    not_before_ms: int = 0
    stays_until_ms: int = 0
    size_bytes: int = 0
    holders: dict[str, bool] = {}
    born_s: float = 0.0
    tries: int = 0
    rounds: int = 0
    alone: bool = False
    avoid: dict[str, float] = {}
    moving: set[str] = set()
    since: int = 0
    is_noted: bool = False
    is_over: bool = False

    @property
    def group(self) -> str:
        return group_of(next(iter(self.versions), ""))

    @property
    def names(self) -> tuple[Name, ...]:
        return tuple(self.versions.items())

    @property
    def urgency(self) -> tuple[int, int, int]:
        """Most urgent and smallest first."""
        return self.by_utc_ms or 1 << 60, self.size_bytes, self.id

    def copies_owed(self) -> int:
        """How many more nodes must take it, apart from who is on the ground."""
        if self.to:
            return 0 if self.to in self.holders else 1
        return max(0, self.copies - len(self.holders) - (0 if self.release else 1))

    def ground_owed(self, *, here_is_ground: bool) -> bool:
        here = here_is_ground and not self.release
        return self.ground and not self.to and not here and True not in self.holders.values()

    def level(self, *, here_is_ground: bool) -> Durability:
        """Where it is, by what is known."""
        if not self.holders:
            return Durability.LOCAL
        return Durability.GROUND if here_is_ground or True in self.holders.values() else Durability.PEER

    def note(self) -> bytes:
        """For :func:`read_note`. Who holds it is asked again: disks may have been lost since."""
        return msgspec.msgpack.encode(
            _Note(
                versions=[(key, *version) for key, version in self.versions.items()],
                copies=self.copies,
                ground=self.ground,
                to=self.to,
                custody=self.custody,
                by_utc_ms=self.by_utc_ms,
                size_bytes=self.size_bytes,
            )
        )


class _Note(msgspec.Struct, kw_only=True):
    versions: list[tuple[str, int, int, str]]
    copies: int
    ground: bool = False
    to: str = ""
    custody: bool = False
    by_utc_ms: int = 0
    size_bytes: int = 0


def read_note(raw: bytes, number: int) -> Bundle | None:
    """None for what ``note`` did not write."""
    try:
        note = msgspec.msgpack.decode(raw, type=_Note)
    except UNDECODABLE:
        return None
    return Bundle(
        id=number,
        versions={key: Version(wall_ms, counter, node) for key, wall_ms, counter, node in note.versions},
        copies=note.copies,
        ground=note.ground,
        to=note.to,
        custody=note.custody,
        by_utc_ms=note.by_utc_ms,
        size_bytes=note.size_bytes,
        is_noted=True,
    )


class Obligations:
    """All bundles. ``gone`` collects the notes that are to be deleted."""

    def __init__(self) -> None:
        self._bundles: dict[int, Bundle] = {}
        self._by_key: dict[str, Bundle] = {}
        self._errands: dict[int, Bundle] = {}
        self._fresh: dict[int, Bundle] = {}
        self._next = 1
        self.gone: set[str] = set()

    def __iter__(self) -> Iterator[Bundle]:
        return iter(self._bundles.values())

    def __len__(self) -> int:
        return len(self._bundles)

    @property
    def keys_owed(self) -> int:
        """How many keys are in bundles of replication."""
        return len(self._by_key)

    @property
    def errands(self) -> int:
        return len(self._errands)

    def number(self) -> int:
        self._next += 1
        return self._next - 1

    def get(self, number: int) -> Bundle | None:
        return self._bundles.get(number)

    def of_key(self, key: str) -> Bundle | None:
        """The bundle of replication that has the key."""
        return self._by_key.get(key)

    def add(self, bundle: Bundle) -> Bundle:
        """Take it over; one of replication is fused with all that share a key with it. The bundle to be sent."""
        self._next = max(self._next, bundle.id + 1)
        if bundle.to or bundle.release:
            self._errands[bundle.id] = bundle
        else:
            for other in {id(o): o for key in bundle.versions if (o := self._by_key.get(key))}.values():
                self._fuse(bundle, other)
            for key in bundle.versions:
                self._by_key[key] = bundle
        self._bundles[bundle.id] = bundle
        if not bundle.is_noted and not bundle.release:
            self._fresh[bundle.id] = bundle
        return bundle

    def _fuse(self, bundle: Bundle, other: Bundle) -> None:
        self.remove(other)
        kept = {key: version for key, version in other.versions.items() if key not in bundle.versions}
        if len(kept) + len(bundle.versions) > ITEMS_MAX:
            # Too much for one message. What is left of the older one goes by itself: late rather than never.
            if kept:
                other.versions = kept
                other.holders, other.is_over, other.id = {}, False, self.number()
                self.add(other)
            return
        bundle.versions = {**kept, **bundle.versions}
        bundle.copies = max(bundle.copies, other.copies)
        bundle.ground = bundle.ground or other.ground
        bundle.custody = bundle.custody or other.custody
        bundle.by_utc_ms = min(filter(None, (bundle.by_utc_ms, other.by_utc_ms)), default=0)
        bundle.size_bytes += other.size_bytes
        bundle.not_before_ms = min(bundle.not_before_ms, other.not_before_ms)
        bundle.since = min(bundle.since, other.since)
        bundle.born_s = min(bundle.born_s, other.born_s)

    def renew(self, versions: Mapping[str, Version]) -> Bundle | None:
        """Other nodes' entries came in together: what is owed here and shares a key with them goes with them. The
        bundle to be sent, None where nothing is owed.
        """
        touched = [other for key in versions if (other := self._by_key.get(key))]
        if not touched:
            return None
        held = {
            key
            for other in touched
            for key, version in other.versions.items()
            if versions.get(key) == version
        }
        if len(held) == len(versions):
            return None  # these very versions are owed already
        first = touched[0]
        return self.add(
            Bundle(
                id=self.number(),
                versions=dict(versions),
                copies=first.copies,
                born_s=first.born_s,
                since=first.since,
            )
        )

    def forget(self, bundle: Bundle, key: str) -> None:
        """The key is not held any more."""
        bundle.versions.pop(key, None)
        if self._by_key.get(key) is bundle:
            del self._by_key[key]

    def remove(self, bundle: Bundle) -> None:
        """It is met, or moot."""
        if self._bundles.pop(bundle.id, None) is None:
            return
        bundle.is_over = True
        self._fresh.pop(bundle.id, None)
        self._errands.pop(bundle.id, None)
        for key in bundle.versions:
            if self._by_key.get(key) is bundle:
                del self._by_key[key]
        if bundle.is_noted:
            self.gone.add(name_of(bundle))

    def covered(self, versions: Mapping[str, Version]) -> list[Bundle]:
        """The bundles of replication all of whose versions are among these."""
        found: dict[int, Bundle] = {}
        for key in versions:
            bundle = self._by_key.get(key)
            if bundle is not None and bundle.id not in found and _covers(versions, bundle):
                found[bundle.id] = bundle
        return list(found.values())

    def is_sent(self, peer: str, versions: Mapping[str, Version]) -> bool:
        """Whether an errand takes just these there already."""
        return any(one.to == peer and one.versions == versions for one in self._errands.values())

    def leaving(self) -> set[str]:
        """Keys that this node would forget."""
        return {key for one in self._errands.values() if one.release for key in one.versions}

    def noted(self, bundle: Bundle) -> tuple[str, bytes]:
        """Its note, which is being written."""
        bundle.is_noted = True
        self._fresh.pop(bundle.id, None)
        return name_of(bundle), bundle.note()

    def unnoted(self, before_s: float) -> list[Bundle]:
        """Those that are older and not yet written down."""
        return [one for one in self._fresh.values() if one.born_s <= before_s]

    def mark(self, latest: int) -> int:
        """The number of the feed up to which all is met or noted."""
        return min((one.since for one in self._fresh.values() if not one.to), default=latest)


def _covers(versions: Mapping[str, Version], bundle: Bundle) -> bool:
    return all(versions.get(key) == version for key, version in bundle.versions.items())


def name_of(bundle: Bundle) -> str:
    """Of its note."""
    return f"{bundle.id:016x}"
