"""A group of simulated nodes that keep state, a workload, and a judge that knows what was acknowledged.

Everything is drawn from the seed. The promises (:meth:`StateWorld.check` and :meth:`StateWorld.finish`):

S1 no acknowledged write is lost while what its durability assumes holds: ``local`` the writer's disk, ``peer`` all
   disks but one, ``ground`` the ground's.
S2 no group is torn, on no node: where a key has the version of the group, none of its others is older (but for those
   that were overwritten or evicted since, and come by themselves), or not there although others of its kind
   (keys.group_of) are.
S3 no deleted value comes back; what a node holds never goes back.
S4 whatever is acknowledged at ``peer`` is on somebody's disk at every moment, and what is forgotten is on two others'.
S5 ``once``: nobody reads two values of one key and epoch.
S6 ``owner``: in one epoch one node writes, and its versions grow.
S7 when all is calm, replicas agree, and nothing is owed any more.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence

import msgspec

from edgeagent.model.errors import EdgeError
from edgeagent.simulator.clock import VirtualClock
from edgeagent.simulator.gossip_checks import requires
from edgeagent.simulator.state_disk import SimDisk
from edgeagent.simulator.state_node import StateNode, StateSurroundings
from edgeagent.simulator.wire import Faults, Wire
from edgeagent.state.calls import Op
from edgeagent.state.consistency import wins
from edgeagent.state.effects import Arrived, Effect, MayDrop, NetworkView, PeerView, Settled
from edgeagent.state.entry import Durability, Entry, Mode
from edgeagent.state.hlc import NONE, Version
from edgeagent.state.keys import group_of

__all__ = ["StateWorld"]

_UTC_AT_ZERO_MS = 1_790_000_000_000
_CHECK_S = 5.0


class _Written(msgspec.Struct):
    # One transaction that was durable. ``acked``: the level that its caller was told, None: not (yet) told anything.
    node: str
    entries: list[Entry]
    level: Durability
    waiting: set[str]
    disk: SimDisk
    acked: Durability | None = None


class StateWorld:
    """See the module. The first ``ground`` nodes are on the ground; their disks are never lost."""

    def __init__(self, seed: str, nodes: int, *, ground: int = 1, copies: int = 2) -> None:
        self.chance = random.Random(f"state/{seed}")
        self.clock = VirtualClock()
        self.wire = Wire(self.clock, random.Random(self.chance.random()))
        self.copies = copies
        self.contact_s: Callable[[str, str], float] | None = None  # how long the contact lasts yet, 0: none
        self.disks_lost: set[str] = set()
        self.refused = 0
        self.acked = 0
        self.dropped = 0
        self.arrived = 0
        self._say: Callable[[str], None] | None = None
        self._sum = hashlib.blake2b(digest_size=16)
        self._written: list[_Written] = []
        self._waiting: dict[str, list[_Written]] = {}
        self._reads: dict[tuple[str, int], bytes] = {}
        self._latest: dict[str, Version] = {}
        self._forgotten: set[str] = set()  # keys that somebody has evicted once: a replica may lack them
        self._owner: dict[tuple[str, int], tuple[str, Version]] = {}
        around = StateSurroundings(self.clock, self.wire, self.chance, self._view, self._hear, copies)
        names = [f"g{at}" if at < ground else f"s{at}" for at in range(nodes)]
        self.nodes = {
            name: StateNode(
                name, around, is_ground=name.startswith("g"), utc_at_zero_ms=_UTC_AT_ZERO_MS + at * 7
            )
            for at, name in enumerate(names)
        }
        self.wire.visible = self._visible
        for node in self.nodes.values():
            node.start()
        self.clock.after(_CHECK_S, self._check_again)

    # -- the story --------------------------------------------------------------------------------------------------

    def tell_story(self, say: Callable[[str], None] | None) -> None:
        self._say = say

    @property
    def digest(self) -> str:
        """Stands for all that has happened."""
        return self._sum.hexdigest()

    def say(self, text: str) -> None:
        self._sum.update(f"{self.clock.now_s:.6f} {text}\n".encode())
        if self._say is not None:
            self._say(f"{self.clock.now_s:10.3f} {text}")

    @property
    def running(self) -> list[StateNode]:
        return [node for node in self.nodes.values() if node.is_running]

    def run(self, for_s: float) -> None:
        self.clock.run_until(self.clock.now_s + for_s)

    def _visible(self, a: str, b: str) -> bool:
        return self.contact_s is None or self.contact_s(a, b) > 0

    def _view(self, name: str) -> NetworkView:
        peers = {}
        for other, node in self.nodes.items():
            if other == name:
                continue
            left_s = self.contact_s(name, other) if self.contact_s is not None else 0.0
            peers[other] = PeerView(
                reachable=node.is_running and self.wire.passes(name, other),
                is_ground=node.is_ground,
                rate_bit_s=50e6,
                rtt_s=0.01,
                until_utc_ms=_UTC_AT_ZERO_MS + int(1000 * (self.clock.now_s + left_s)) if left_s else 0,
            )
        return NetworkView(peers)

    # -- what callers do --------------------------------------------------------------------------------------------

    def write(
        self,
        name: str,
        ops: Sequence[Op],
        *,
        mode: Mode,
        level: Durability = Durability.LOCAL,
        epoch: int = 0,
    ) -> None:
        """One transaction at a node; its caller is told when it is where it wants it."""
        node = self.nodes[name]
        if not node.is_running:
            return
        disk = node.disk

        def durable(entries: list[Entry]) -> None:
            self.say(f"{name} wrote {_names(entries)} for {level}")
            one = self._wrote(name, entries, level, disk)
            if level is Durability.LOCAL:
                self._ack(one)
                return
            for entry in entries:
                self._waiting.setdefault(name + entry.key, []).append(one)

        def failed(error: EdgeError) -> None:
            self.refused += 1
            self.say(f"{name} refused {error.slug}")

        node.write(ops, durable, failed, mode=mode, level=level, epoch=epoch)

    def _wrote(self, name: str, entries: list[Entry], level: Durability, disk: SimDisk) -> _Written:
        one = _Written(name, entries, level, {entry.key for entry in entries}, disk)
        self._written.append(one)
        for entry in entries:
            self._latest[entry.key] = max(entry.version, self._latest.get(entry.key, NONE))
            self._check_owner(name, entry)
        return one

    def _ack(self, one: _Written) -> None:
        one.acked = one.level
        self.acked += 1

    def _hear(self, node: StateNode, effect: Effect) -> None:
        if isinstance(effect, Settled):
            self.say(f"  {node.name} settled {effect.key}@{effect.version.text()} {effect.durability}")
            left = []
            for one in self._waiting.pop(node.name + effect.key, []):
                version = next(entry.version for entry in one.entries if entry.key == effect.key)
                if (
                    effect.durability.rank >= one.level.rank
                    and effect.version >= version
                    and one.disk is node.disk
                ):
                    one.waiting.discard(effect.key)
                    if not one.waiting:
                        self._ack(one)
                else:
                    left.append(one)
            if left:
                self._waiting[node.name + effect.key] = left
        elif isinstance(effect, MayDrop):
            self.dropped += len(effect.names)
            self._forgotten.update(key for key, _ in effect.names)
            self.say(f"  {node.name} may drop {[key for key, _ in effect.names]}")
            for key, version in effect.names:
                others = [
                    other.name
                    for other in self.nodes.values()
                    if other is not node
                    and key in other.disk.rows
                    and other.disk.rows[key].version >= version
                    and other.disk.is_good(key)
                ]
                enough = len(others) >= self.copies - len(self.disks_lost)
                requires(enough, f"S4 {node.name} forgets {key}, which only {others} hold")
        elif isinstance(effect, Arrived):
            self.arrived += len(effect.names)

    def read(self, name: str, key: str) -> Entry | None:
        """What a reader at a node gets."""
        disk = self.nodes[name].disk
        entry = disk.rows.get(key)
        if entry is None or not disk.is_good(key):
            return None
        if entry.mode is Mode.ONCE and not entry.deleted:
            seen = self._reads.setdefault((key, entry.epoch), entry.sha256)
            requires(seen == entry.sha256, f"S5 two values of {key} in epoch {entry.epoch} were read")
        return entry

    def _check_owner(self, name: str, entry: Entry) -> None:
        if entry.mode is not Mode.OWNER:
            return
        before = self._owner.get((entry.key, entry.epoch))
        if before is not None:
            requires(before[0] == name, f"S6 {name} and {before[0]} write {entry.key} in epoch {entry.epoch}")
            requires(entry.version > before[1], f"S6 a version of {entry.key} does not grow")
        self._owner[entry.key, entry.epoch] = (name, entry.version)

    # -- what befalls them ------------------------------------------------------------------------------------------

    def crash(self, name: str, *, lose_disk: bool = False) -> None:
        node = self.nodes[name]
        if not node.is_running:
            return
        self.say(f"crash {name}{' with its disk' if lose_disk else ''}")
        survived = node.crash()
        if lose_disk:
            assert not node.is_ground
            node.lose_disk()
            self.disks_lost.add(name)
            return
        for entries in survived:
            # It goes to others as any write does: its group is to be whole, and what it overwrote is overwritten.
            self.say(f"{name} wrote {_names(entries)} untold")
            self._wrote(name, entries, Durability.LOCAL, node.disk)

    def restart(self, name: str) -> None:
        if not self.nodes[name].is_running:
            self.say(f"start {name}")
            self.nodes[name].start()

    def flip(self, name: str) -> None:
        """One bit of what a node holds."""
        disk = self.nodes[name].disk
        places: list[bytes | str] = [*disk.chunks, *(key for key, entry in disk.rows.items() if entry.inline)]
        if not places:
            return
        place = self.chance.choice(places)
        self.disks_lost.add(name)  # a loss of that disk, as far as it goes
        if isinstance(place, bytes):
            disk.chunks[place] = _flipped(disk.chunks[place], self.chance)
            self.say(f"flip in a chunk of {name}")
        else:
            entry = disk.rows[place]
            disk.rows[place] = msgspec.structs.replace(
                entry, inline=_flipped(entry.inline or b"", self.chance)
            )
            self.say(f"flip in {place} of {name}")

    def calm(self) -> None:
        self.say("calm")
        self.wire.faults = Faults()
        self.wire.groups = {}
        self.wire.cut = set()
        self.contact_s = None
        for node in self.nodes.values():
            node.disk.is_full = False
            node.free_bytes = 1 << 30
            self.restart(node.name)

    # -- the judge --------------------------------------------------------------------------------------------------

    def _check_again(self) -> None:
        self.check()
        self.clock.after(_CHECK_S, self._check_again)

    def check(self) -> None:
        """What holds at every moment."""
        for one in self._written:
            if one.acked is not None and not self._is_excused(one):
                for entry in one.entries:
                    requires(
                        any(self._holds(node, entry) for node in self.nodes.values()),
                        f"S1 {entry.key}@{entry.version.text()}, acknowledged at {one.acked} by {one.node}, is lost",
                    )
            if len(one.entries) > 1:
                for node in self.nodes.values():
                    self._check_group(node, one)
        for node in self.nodes.values():
            requires(not node.disk.went_back, f"S3 {node.name} went back: {node.disk.went_back}")

    def _is_excused(self, one: _Written) -> bool:
        if one.acked is Durability.GROUND:
            return False
        if one.acked is Durability.PEER:
            return len(self.disks_lost) > 1
        return one.node in self.disks_lost

    def _holds(self, node: StateNode, entry: Entry) -> bool:
        held = node.disk.rows.get(entry.key)
        if held is None or not node.disk.is_good(entry.key):
            return False
        return held.version == entry.version or wins(held, entry)

    def _check_group(self, node: StateNode, one: _Written) -> None:
        rows = node.disk.rows
        has = [
            entry for entry in one.entries if (held := rows.get(entry.key)) and held.version == entry.version
        ]
        if not has or len(has) == len(one.entries):
            return
        for entry in one.entries:
            held = rows.get(entry.key)
            if held is None:
                near = any(group_of(key) == group_of(entry.key) for key in rows)
                good = not near
            else:
                good = held.version == entry.version or wins(held, entry)
            good = good or entry.key in self._forgotten or self._latest[entry.key] != entry.version
            requires(
                good, f"S2 {node.name} has {has[0].key}@{has[0].version.text()} and not {entry.key} of it"
            )

    def unconverged(self) -> str:
        """What is not yet as it should be when all is calm; "" when it is."""
        found: dict[str, dict[str, Entry]] = {}
        for node in self.nodes.values():
            assert node.core is not None
            status = node.core.status()
            if status.keys_owed or status.errands:
                return f"{node.name} owes {status.keys_owed} keys and {status.errands} errands"
            for key, entry in node.disk.rows.items():
                if not node.disk.is_good(key):
                    return f"{node.name} holds {key} damaged"
                found.setdefault(key, {})[node.name] = entry
        for key, held in found.items():
            if len({entry.version for entry in held.values()}) > 1:
                return f"{key} differs: { {name: one.version.text() for name, one in held.items()} }"
            if len(held) < self.copies and not self.disks_lost:
                return f"{key} is held by {list(held)} alone"
        return ""

    def finish(self, within_s: float = 400.0) -> None:
        """Calm, and then all promises."""
        self.calm()
        end_s = self.clock.now_s + within_s
        while self.unconverged():
            requires(self.clock.now_s < end_s, f"S7 {within_s:.0f} s after calm {self.unconverged()}")
            self.run(5.0)
        self.check()
        for name, node in self.nodes.items():
            for key in list(node.disk.rows):
                self.read(name, key)


def _names(entries: Sequence[Entry]) -> str:
    return " ".join(f"{entry.key}@{entry.version.text()}" for entry in entries)


def _flipped(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data))
    return data[:place] + bytes((data[place] ^ (1 << chance.randrange(8)),)) + data[place + 1 :]
