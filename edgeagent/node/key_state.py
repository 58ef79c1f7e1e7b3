"""The state of a node, put together: the store on its disk, the circle of members, copies, the ground, and upkeep."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from edgeagent.model.errors import Busy, EdgeError, StorageFull
from edgeagent.node.config_schema import StateSection
from edgeagent.node.membership import Membership
from edgeagent.node.meters import Meters
from edgeagent.node.remote_hoses import RemoteHoses
from edgeagent.node.state_circle import GROUND_KINDS, StateCircle
from edgeagent.node.state_early import StateEarly
from edgeagent.node.state_ground import GROUND_STORE, StateGround
from edgeagent.node.state_leaving import StateLeaving
from edgeagent.node.state_moves import Needed, StateMoves
from edgeagent.node.state_reader import StateReader
from edgeagent.node.state_replicas import StateReplicas
from edgeagent.node.state_service import StateService, modes_of
from edgeagent.node.state_sky import StateSky
from edgeagent.node.state_views import StateViews
from edgeagent.state.calls import Group, GroupDone, Listed, Where
from edgeagent.state.database import DamagedStore
from edgeagent.state.entry import Durability, Entry, chunks_of
from edgeagent.state.errors import DamagedValue
from edgeagent.state.keys import GROUP_ITEMS_MAX, RUNS
from edgeagent.state.keystore import KeyStore
from edgeagent.state.keystore_types import KeyBounds, ScrubReport, Usage
from edgeagent.state.repair import repair_hint

__all__ = ["KeyState"]

_COUNTED = {
    "pieces_in": "pieces of values that were taken from other members",
    "pieces_out": "pieces of values that were sent to other members",
    "pieces_again": "pieces that came and were here already",
    "custody_taken": "transfers that this node has taken custody of",
    "custody_forged": "answers of other members that do not prove what was sent",
    "released": "keys that were forgotten here because others hold them",
    "errands_given_up": "moves that were given up",
    "evictions_given_up": "evictions for which not enough others were found",
    "refused_quota": "transfers that were refused for want of room",
    "refused_clock": "transfers that were refused for their clock",
    "refused_unasked": "messages that were refused because nobody had asked for them",
    "notes_damaged": "notes of what is owed that could not be read",
}

ListOf = list  # the class has a method of that name

log = structlog.get_logger("state")

TELL_S = 1.0
SWEEP_S = 10.0
EVICT_ABOVE = 0.9  # of what this node's own writes may use
EVICT_KEYS = 256
_FEED = 4096
_MSGPACK = {"Content-Type": "application/msgpack"}


class KeyState:
    """On the event loop's thread. ``open`` before calls are taken, ``start`` once the mesh is joined."""

    def __init__(
        self,
        section: StateSection,
        directory: Path,
        membership: Membership,
        remote: RemoteHoses | None,
        meters: Meters,
        *,
        node_id: str,
        kind: str,
    ) -> None:
        self._section = section
        self._remote = remote
        self._node_id = node_id
        self._tasks: list[asyncio.Task[None]] = []
        self._work: set[asyncio.Task[None]] = set()
        self.mode_of = modes_of(section.once_prefixes, section.owner_prefixes)
        bounds = KeyBounds(
            bytes_max=section.bytes_max,
            inbound_bytes=min(section.inbound_bytes, section.bytes_max // 2),
            value_bytes_max=section.value_bytes_max,
            keys_max=section.keys_max,
            tombstone_ms=section.tombstone_ms,
        )
        self.store = KeyStore(directory, bounds, node=node_id, utc_ms=_utc_ms)
        self.circle = StateCircle(membership, node_id)
        self.reader = StateReader(
            self.circle, self._ask, read_s=section.read_ms / 1000, here=self._chunks_here
        )
        is_ground = kind in GROUND_KINDS
        self.sky = StateSky(membership)
        self.moves = StateMoves(self.circle, self.sky, node_id)
        self.replicas = StateReplicas(
            self.store,
            self.circle,
            self.sky,
            self._exchange,
            node_id=node_id,
            copies=section.replicas,
            is_ground=is_ground,
        )
        self.early = StateEarly(
            self._exchange,
            node_id=node_id,
            number=self.replicas.number,
            rate_bit_s=self.sky.rate_bit_s,
            patience_s=self.sky.patience_s,
        )
        self.store.on_large = self.early.going
        self.leaving = StateLeaving(self.store, self.circle, self.sky, self.replicas)
        self.replicas.is_alone = not membership.is_on
        self.replicas.on_taken = self.circle.holds
        self.views = StateViews(self.store, self.circle, self.reader, node_id=node_id, is_ground=is_ground)
        self.service = StateService(
            self.views,
            self.replicas,
            ask=self._ask,
            mode_of=self.mode_of,
            value_bytes_max=section.value_bytes_max,
            run_ttl_ms=section.run_ttl_ms,
        )
        self.service.on_damage = self._mend_soon
        self.ground: StateGround | None = None
        self._mending: set[str] = set()
        self._evict_after = 0  # of the store's feed
        self.usage = Usage(bytes=0, keys=0, chunks=0, inbound_bytes=0)
        self._gauges(meters)

    # -- life ------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Raises StoreFailed, with the command that mends a damaged store, StorageFull, BadConfig."""
        try:
            await self._open()
        except (DamagedStore, DamagedValue) as error:
            await self.close()
            raise DamagedStore(error.message, hint=repair_hint(self.store.directory)) from None

    async def _open(self) -> None:
        await self.store.open()
        self.usage = await self.store.usage()
        await self._known_groups()
        self.replicas.used(self.usage.bytes)
        if self._section.ground_url:
            self.ground = StateGround(
                self.store,
                self._section.ground_url,
                queue_bytes=self._section.ground_queue_bytes,
                settled=self.replicas.grounded,
            )
            await self.ground.start()
            self.replicas.ground = self.views.ground = self.ground
        await self.replicas.open()

    async def _known_groups(self) -> None:
        """What is held here since before; of a large store the newest are enough."""
        seq = 0
        while rows := await self.store.entries_since(seq, _FEED, bare=True):
            seq = rows[-1][0]
            self.circle.holds(entry.key for _, entry in rows if not entry.deleted)

    async def start(self) -> None:
        """Tell the mesh, hand over, keep up."""
        self.circle.begin()
        self._tasks = [
            asyncio.ensure_future(self._tell()),
            asyncio.ensure_future(self._keep_up()),
            asyncio.ensure_future(self.replicas.run()),
        ]

    async def close(self) -> None:
        """Idempotent."""
        tasks = [*self._tasks, *self._work]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks = []
        await self.service.close()
        await self.early.close()
        await self.replicas.close()
        if self.ground is not None:
            await self.ground.close()
        await self.store.close()

    async def _tell(self) -> None:
        while True:
            self.circle.tell()
            with contextlib.suppress(EdgeError):  # writes meet it, and say so
                self.usage = await self.store.usage()
                self.replicas.used(self.usage.bytes)
                await self.leaving.look()
            await asyncio.sleep(TELL_S)

    async def _keep_up(self) -> None:
        """Drop what has expired, read everything again now and then, mend what is damaged."""
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.store.sweep()
                await self._make_room()
                if self.ground is not None:
                    await self.ground.tidy()
                budget = int(self._section.scrub_bytes_per_s * SWEEP_S)
                if budget:
                    await self._mend(await self.store.scrub(budget))
            except EdgeError as error:
                log.warning("state could not be kept up", why=error.message)

    async def _make_room(self) -> None:
        """Nearly full: what was changed longest ago goes, to the ground store or where enough others answer for it."""
        if self.usage.bytes < EVICT_ABOVE * (self._section.bytes_max - self._section.inbound_bytes):
            self._evict_after = 0
            return
        rows = await self.store.entries_since(self._evict_after, EVICT_KEYS, bare=True)
        self._evict_after = rows[-1][0] if rows else 0  # what cannot go does not keep the rest
        entries = [entry for _, entry in rows if not entry.deleted]
        with contextlib.suppress(Busy, StorageFull):  # some are on their way
            if self.ground is not None and not self.ground.server.is_away:
                self.ground.evict(entries)
            else:
                self.replicas.evict(entries)

    async def _mend(self, report: ScrubReport) -> None:
        for key, chunk in report.damaged:
            log.error("a value is damaged on this disk", key=key)
            await self.mend(key, chunk)

    def _mend_soon(self, key: str, chunk: bytes) -> None:
        """A reader has met it."""
        if key not in self._mending:
            self._mending.add(key)
            self._spawn(self._mend_now(key, chunk))

    async def _mend_now(self, key: str, chunk: bytes) -> None:
        try:
            await self.mend(key, chunk)
        finally:
            self._mending.discard(key)

    async def mend(self, key: str, chunk: bytes) -> bool:
        """Bring a damaged value back from another member or the ground store; whether it could be. ``chunk``: the
        digest of what is damaged, b"": the row itself.
        """
        try:
            entry = await self.store.look(key) if key else None
        except DamagedValue as error:
            entry = None
            if not (chunk := bytes.fromhex(str(error.details.get("chunk", "")))):
                self.replicas.damaged([key])  # what comes takes the row's place
                return False
            rows = await self.store.held([key])  # not compared with its hash
            entry = rows[0] if rows else None
        if entry is None:
            return False
        deadline_s = asyncio.get_running_loop().time() + self._section.read_ms / 1000
        rows_there = await self.reader.held_by(key, deadline_s=deadline_s)
        nodes = [node for node, held, _ in rows_there if held.entry.version == entry.version]
        try:
            value = await self._sound_value(entry, nodes, deadline_s)
            pieces = {entry.sha256: memoryview(value)}
            if entry.chunks:
                pieces = dict(zip(entry.chunks, chunks_of(value), strict=True))
            for sha256, piece in pieces.items():
                if chunk in (sha256, b""):
                    await self.store.heal(sha256, bytes(piece))
        except EdgeError as error:
            log.warning("a damaged value has no sound copy now", key=key, why=error.message)
            return False
        log.warning("a damaged value was brought back", key=key)
        return True

    async def _sound_value(self, entry: Entry, nodes: Sequence[str], deadline_s: float) -> bytes:
        if not nodes and self.ground is not None:
            there = (await self.ground.find([entry.key])).get(entry.key)
            if there is not None and there[0].sha256 == entry.sha256 and there[1] is not None:
                return there[1]
        sound = await self.reader.entry_at(entry, nodes, deadline_s=deadline_s)
        return await self.reader.value_of(sound, nodes, deadline_s=deadline_s + 60.0)

    # -- what callers ask ------------------------------------------------------------------------------------

    async def group(self, wanted: Group, *, run: str = "", epoch: int = 0) -> GroupDone:
        """As :meth:`StateService.group`."""
        return await self.service.group(wanted, run=run, epoch=epoch)

    async def list(self, prefix: str, after: str, limit: int) -> ListOf[Listed]:
        """As :meth:`StateViews.listed`."""
        return await self.views.listed(prefix, after, limit)

    async def transfer(self, peer: str, data: bytes) -> bytes:
        """Another node's message of the hand-over; the reply."""
        return await self.replicas.answer(peer, data)

    def durability_of(self, key: str, holders: Sequence[Where]) -> Durability:
        """What the holders come to."""
        newest = [one for one in holders if one.version == holders[0].version]
        if any(one.node == GROUND_STORE for one in newest):
            return Durability.GROUND
        if any(one.is_ground for one in newest) and len(newest) > 1:
            return Durability.GROUND
        return Durability.PEER if len(newest) > 1 else Durability.LOCAL

    def ahead(self, prefixes: Sequence[str], run: str, needed: Needed) -> None:
        """What a step of a run will read begins to move to where it will run, and what is written until then is copied
        there.
        """
        self.sky.mark(needed.nodes[0])
        if needed.is_next:
            self.early.run_goes_to(needed.nodes[0], run)
        self.replicas.look_around()
        self._spawn(self._ahead((*prefixes, f"{RUNS}{run}/"), run, needed))

    def bound_for(self, nodes: Sequence[str], keys: Sequence[str] = ()) -> None:
        """What is written here now is read there next: copies go there first, and these keys while they are written."""
        near = self.circle.reachable() if keys else ()
        there = next((node for node in nodes if node != self._node_id and node in near), "")
        if there and self._node_id not in nodes:
            self.early.bound_for(there, keys)
        new = [node for node in nodes if node != self._node_id and self.sky.mark(node)]
        if new:
            self.replicas.look_around()

    async def _ahead(self, prefixes: Sequence[str], run: str, needed: Needed) -> None:
        try:
            entries = {
                entry.key: entry
                for prefix in prefixes
                for entry in await self.store.list(prefix, "", GROUP_ITEMS_MAX)
            }
            for going in self.moves.plan(run, needed, list(entries.values())) if entries else ():
                self.replicas.push(going.entries, going.node, by_utc_ms=going.by_utc_ms)
        except EdgeError as error:
            log.info("state did not go ahead", step=needed.step, why=error.message)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    # -- the wire --------------------------------------------------------------------------------------------

    async def _ask(self, node: str, path: str, body: bytes, timeout_s: float) -> bytes:
        assert self._remote is not None  # who is in no mesh has nobody to ask
        reply = await self._remote.ask(node, "POST", path, body, _MSGPACK, timeout_s=timeout_s)
        return reply.body

    async def _exchange(self, node: str, data: bytes, timeout_s: float) -> bytes:
        assert self._remote is not None
        reply = await self._remote.exchange(node, "/v1/state:transfer", data, timeout_s)
        return reply.body

    async def _chunks_here(self, chunks: Sequence[bytes], deadline_s: float) -> dict[bytes, bytes]:
        """What is on its way is waited for: asking for it would send it twice."""
        await self.replicas.arrived(chunks, deadline_s)
        return await self.store.sound_chunks(chunks)

    def _gauges(self, meters: Meters) -> None:
        service, reader = self.service, self.reader

        def _of(field: str) -> Callable[[], int]:
            return lambda: int(getattr(self.replicas.status(), field))

        for name, doc, read in (
            ("state_reads", "keys read", lambda: service.reads),
            ("state_reads_local", "of them, answered without another node", lambda: service.local_reads),
            ("state_writes", "keys written", lambda: service.writes),
            ("state_fetched", "values that came from other nodes for a reader", lambda: reader.fetched),
            ("state_fetched_bytes", "their bytes", lambda: reader.fetched_bytes),
            (
                "state_groups_early",
                "groups that travelled while they were written",
                lambda: self.early.groups,
            ),
        ):
            meters.counter(name, doc, read)
        for name, doc, read_now in (
            ("state_bytes", "disk used by values", lambda: self.usage.bytes),
            ("state_keys", "keys kept", lambda: self.usage.keys),
            ("state_ground_waiting", "keys that wait for the ground store", self._ground_waiting),
            ("state_keys_owed", "keys that other members are to hold and do not yet", _of("keys_owed")),
            ("state_errands", "moves of keys under way or waiting", _of("errands")),
            ("state_transfers", "transfers to other members that run", _of("sending")),
            ("state_transfer_bytes", "of them, on the way and not acknowledged", _of("flying_bytes")),
            ("state_offers", "offers of other members that are open", _of("open_offers")),
            ("state_leaving", "keys that are being forgotten here", _of("leaving")),
            ("state_damaged", "keys whose rows are damaged, asked for elsewhere", _of("damaged")),
        ):
            meters.gauge(name, doc, read_now)
        for name, doc in _COUNTED.items():
            meters.counter(f"state_{name}", doc, partial(self._count, name))

    def _count(self, name: str) -> int:
        return int(self.replicas.status().counts.get(name, 0))

    def _ground_waiting(self) -> int:
        return 0 if self.ground is None else self.ground.server.waiting

    def view(self) -> dict[str, Any]:
        """For ``/v1/node``."""
        owed = self.replicas.status()
        told: dict[str, Any] = {
            "keys": self.usage.keys,
            "bytes": self.usage.bytes,
            "keys_owed": owed.keys_owed,
        }
        if self.ground is not None:
            server = self.ground.server
            told["ground"] = {
                "away": server.is_away,
                "waiting": server.waiting,
                "evicted": self.ground.evicted,
            }
        return told


def _utc_ms() -> int:
    return int(time.time() * 1000)
