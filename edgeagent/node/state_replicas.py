"""Copies at other members: the shell that drives :mod:`edgeagent.state.replicator` with this node's store and wire.

1. Effects are carried out in their order. What follows a note waits until the note is on the disk; a note that cannot
   be written (the disk is full) is tried again, and holds what follows: nobody is promised what a restart would forget.
2. A request of ours is one HTTP request, its answer the reply. A request that fails is told so at once.
3. A few times a second the core hears the time and who can be reached.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from edgeagent.model.errors import EdgeError, StorageFull, Unavailable
from edgeagent.node.state_circle import StateCircle
from edgeagent.node.state_ledger import StateLedger
from edgeagent.node.state_sky import StateSky
from edgeagent.state import effects as fx
from edgeagent.state.entry import Durability, Entry
from edgeagent.state.errors import BadTransfer
from edgeagent.state.hlc import Version
from edgeagent.state.keystore_types import Written
from edgeagent.state.messages import REQUESTS, Message, Refusal, Request
from edgeagent.state.obligations import SPACE
from edgeagent.state.replicator import Replicator
from edgeagent.state.wire import decode, encode, is_heavy

if TYPE_CHECKING:
    from edgeagent.node.state_ground import StateGround
    from edgeagent.state.keystore import KeyStore

__all__ = ["StateReplicas"]

log = structlog.get_logger("state")

TICK_S = 0.2
LOOK_S = 1.0
ANSWER_S = 60.0
AGAIN_S = 1.0
_FEED = 1024
_ARRIVED_LOOK_S = 0.005
ARRIVED_S = 5.0  # then it is asked for, and comes twice
_LEVELS_MAX = 65_536
_ANSWERING_MAX = 1024

Exchange = Callable[[str, bytes, float], Awaitable[bytes]]


class StateReplicas:
    """On the event loop's thread. ``copies``: other members that are to hold each write."""

    def __init__(
        self,
        store: KeyStore,
        circle: StateCircle,
        sky: StateSky,
        exchange: Exchange,
        *,
        node_id: str,
        copies: int,
        is_ground: bool,
    ) -> None:
        self._store = store
        self._circle = circle
        self._sky = sky
        self._exchange = exchange
        self._ledger = StateLedger(store)
        self._is_ground = is_ground
        self._core = Replicator(node_id, life=secrets.randbits(39), copies=1 + copies, is_ground=is_ground)
        self._queue: deque[fx.Effect] = deque()
        self._noting = False
        self._work: set[asyncio.Task[None]] = set()
        self._levels: OrderedDict[str, tuple[Version, Durability]] = OrderedDict()
        self._waiting: dict[str, list[tuple[Version, Durability, asyncio.Future[None]]]] = {}
        self._answering: dict[tuple[str, int], asyncio.Future[bytes]] = {}
        self._is_open = self._restamping = False
        # In no mesh there is nobody to owe anything to: the feed of the store says later what was written meanwhile.
        self.is_alone = False
        self.ground: StateGround | None = None
        self.on_taken: Callable[[Sequence[str]], None] = lambda _: None

    # -- life ------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """What was owed before the last end is owed again. Raises StoreFailed."""
        notes = await self._store.notes(SPACE)
        feed: list[tuple[int, Entry]] = []
        seq = Replicator.mark_of(notes)
        self._is_open = True
        self._tick()
        self.look_around()
        while not self.is_alone and (rows := await self._store.entries_since(seq, _FEED, bare=True)):
            seq = rows[-1][0]
            feed += [(number, msgspec.structs.replace(entry, chunks=())) for number, entry in rows]
        self._do(self._core.restore(notes, feed))

    async def run(self) -> None:
        """Tick, until it is cancelled."""
        looked_s = 0.0
        while True:
            await asyncio.sleep(TICK_S)
            self._tick()
            if (now_s := time.monotonic()) - looked_s >= LOOK_S:
                looked_s = now_s
                self.look_around()

    def _tick(self) -> None:
        free = self._ledger.free_bytes()
        self._do(self._core.tick(time.monotonic(), int(time.time() * 1000), free_bytes=free))

    def look_around(self) -> None:
        """Who can be reached now, and where copies are wanted; it looks at every member."""
        self._do(self._core.network(self._sky.view(self._circle)))

    async def close(self) -> None:
        """Idempotent. What is owed is on the disk, or is found in the feed at the next start."""
        self._is_open = False
        for task in list(self._work):
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        for future in self._answering.values():
            future.cancel()

    # -- what the service asks -------------------------------------------------------------------------------

    def wrote(self, written: Sequence[Written], wanted: Durability) -> None:
        """One transaction of this node is on the disk. What was there before, and is not known to be as durable as is
        ``wanted`` now, is owed anew.
        """
        entries = [
            one.entry
            for one in written
            if one.entry is not None
            and (one.changed or self.reached(one.entry.key, one.entry.version).rank < wanted.rank)
        ]
        if not entries:
            return
        if not self.is_alone:
            to_members = Durability.PEER if self.ground is not None else wanted
            seq = max(one.seq for one in written)
            self._do(
                self._core.wrote(entries, seq=seq, durability=max(to_members, Durability.PEER, key=_rank))
            )
        if self.ground is not None:
            # A deletion goes there in any case: what was moved there before is not to come back.
            self._to_ground([one for one in entries if wanted is Durability.GROUND or one.deleted])

    def _to_ground(self, entries: Sequence[Entry]) -> None:
        try:
            if entries and self.ground is not None:
                self.ground.put(entries)
        except StorageFull as error:
            # Room was looked for before, others were faster: the caller hears what is reached.
            log.warning("a write does not go to the ground", keys=len(entries), why=error.message)

    def check_room(self, size_bytes: int, wanted: Durability) -> None:
        """Before a write: raises StorageFull where it could not even wait for the durability that is wanted."""
        if self.ground is not None and wanted is Durability.GROUND:
            self.ground.check_room(size_bytes)

    def used(self, used_bytes: int) -> None:
        """What the store holds: the rest is room for what others hand over."""
        self._ledger.used_bytes = used_bytes

    async def arrived(self, chunks: Sequence[bytes], deadline_s: float) -> None:
        """Until nobody is bringing any of these chunks, or the deadline (of the loop's clock), or for ARRIVED_S."""
        loop = asyncio.get_running_loop()
        deadline_s = min(deadline_s, loop.time() + ARRIVED_S)
        while self._core.brings(chunks) and loop.time() < deadline_s:  # noqa: ASYNC110 - other nodes bring it about
            await asyncio.sleep(_ARRIVED_LOOK_S)

    def number(self) -> int:
        """For a request of another part of this node: unlike every other one."""
        return self._core.number()

    def reached(self, key: str, version: Version) -> Durability:
        """How durable a version is, as far as this node knows."""
        known = self._levels.get(key)
        level = known[1] if known is not None and known[0] >= version else Durability.LOCAL
        owed = self._core.level_of(key, version) or Durability.LOCAL
        return max(level, owed, key=_rank)

    async def wait(self, entries: Sequence[Entry], wanted: Durability, deadline_s: float) -> Durability:
        """Until all of them are so durable, or the deadline (of the loop's clock); what is reached then."""
        loop = asyncio.get_running_loop()
        futures = []
        for entry in entries:
            if self.reached(entry.key, entry.version).rank < wanted.rank:
                future: asyncio.Future[None] = loop.create_future()
                self._waiting.setdefault(entry.key, []).append((entry.version, wanted, future))
                futures.append(future)
        if futures:
            try:
                await asyncio.wait(futures, timeout=max(0.0, deadline_s - loop.time()))
            finally:
                for future in futures:
                    future.cancel()
                for entry in entries:
                    self._forget_waiting(entry.key)
        return min((self.reached(one.key, one.version) for one in entries), key=_rank, default=wanted)

    def _forget_waiting(self, key: str) -> None:
        left = [one for one in self._waiting.pop(key, ()) if not one[2].done()]
        if left:
            self._waiting[key] = left

    def push(self, entries: Sequence[Entry], node: str, *, by_utc_ms: int = 0) -> None:
        """Send these ahead to a node. Raises Busy."""
        names = {one.key: one.version for one in entries}
        size = sum(one.size_bytes + len(one.key) for one in entries)
        self._do(self._core.push(names, node, by_utc_ms=by_utc_ms, size_bytes=size))

    def hand_off(self, entries: Sequence[Entry], set_utc_ms: int, *, before_bytes: int = 0) -> None:
        """The node sets then: what only it holds goes to somebody who stays. ``before_bytes`` are to go first."""
        names = {one.key: one.version for one in entries}
        size = sum(one.size_bytes for one in entries)
        self._do(
            self._core.hand_off(names, size_bytes=size, set_utc_ms=set_utc_ms, before_bytes=before_bytes)
        )

    def unsettled(self) -> list[str]:
        """Members in reach that may hold something newer than this node does: it has not compared with them yet."""
        return self._core.unsettled(self._circle.reachable())

    def evict(self, entries: Sequence[Entry]) -> None:
        """Forget these here as soon as enough others answer for them. Raises Busy."""
        names = {one.key: one.version for one in entries}
        self._do(self._core.evict(names, size_bytes=sum(one.size_bytes for one in entries)))

    def damaged(self, keys: Sequence[str]) -> None:
        """Ask others for sound copies."""
        self._do(self._core.damaged(keys))

    def grounded(self, key: str, version: Version) -> None:
        """The ground store has it."""
        self._settled(fx.Settled(key, version, Durability.GROUND))

    def status(self) -> Any:
        """See :class:`replicator.Status`."""
        return self._core.status()

    # -- what other nodes say --------------------------------------------------------------------------------

    async def answer(self, peer: str, data: bytes) -> bytes:
        """The reply to another node's request. Raises BadTransfer, Unavailable."""
        message = await asyncio.to_thread(decode, data) if len(data) > 1 << 16 else decode(data)
        if not isinstance(message, REQUESTS):
            raise BadTransfer("a reply that nobody asked for")
        key = (peer, message.ask)
        if key in self._answering or len(self._answering) >= _ANSWERING_MAX or not self._is_open:
            raise Unavailable("too many transfers at once, or this one twice", retry_after_s=1.0)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answering[key] = future
        try:
            self._do(self._core.message(peer, message))
            async with asyncio.timeout(ANSWER_S):
                return await future
        except TimeoutError:
            raise Unavailable("the transfer could not be answered in time", retry_after_s=1.0) from None
        finally:
            del self._answering[key]

    # -- effects ---------------------------------------------------------------------------------------------

    def _do(self, effects: Sequence[fx.Effect]) -> None:
        self._queue.extend(effects)
        while self._queue and not self._noting:
            self._carry_out(self._queue.popleft())

    def _carry_out(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Send(peer, message, level):
                self._spawn(self._send(peer, message, level))
            case fx.Settled():
                self._settled(effect)
            case fx.Arrived(peer, names):
                log.debug("state arrived ahead", node=peer, keys=len(names))
            case fx.Persist(space, notes):
                self._noting = True
                self._spawn(self._note(space, notes))
            case _:
                self._spawn(self._ask_store(effect))

    async def _note(self, space: str, notes: dict[str, bytes | None]) -> None:
        while True:
            try:
                await self._store.put_notes(space, notes)
                break
            except EdgeError as error:
                log.warning("what is owed to others cannot be noted now", why=error.message)
                await asyncio.sleep(AGAIN_S)
        self._noting = False
        self._do(())

    async def _send(self, peer: str, message: Message, level: int) -> None:
        heavy = is_heavy(message)
        data = await asyncio.to_thread(encode, message, level) if heavy else encode(message, level)
        if not isinstance(message, REQUESTS):
            future = self._answering.get((peer, message.ask))
            if future is not None and not future.done():
                future.set_result(data)
            return
        await self._request(peer, message, data)

    async def _request(self, peer: str, message: Request, data: bytes) -> None:
        began_s = time.monotonic()
        try:
            raw = await self._exchange(peer, data, self._sky.patience_s(peer, len(data)))
            self._sky.took(peer, len(data), time.monotonic() - began_s)
            reply = await asyncio.to_thread(decode, raw) if len(raw) > 1 << 16 else decode(raw)
        except EdgeError as error:
            log.debug("a transfer was not answered", node=peer, why=error.message)
            self._do(self._core.failed(message))
            return
        if getattr(reply, "refused", None) is Refusal.CLOCK and not self._restamping:
            self._restamping = True
            self._spawn(self._restamp())
        self._do(self._core.message(peer, reply))

    async def _restamp(self) -> None:
        """Another member finds our versions ahead; where our clock does, too, it was wrong when they were made."""
        try:
            entries, seq = await self._store.restamp()
            if entries:
                log.warning(
                    "what was written while this clock was ahead has versions of now", keys=len(entries)
                )
                for entry in entries:
                    self._levels.pop(entry.key, None)
                self._do(self._core.restamped(entries, seq=seq))
        except EdgeError as error:  # when it is refused again
            log.warning("what was written while this clock was ahead stays so", why=error.message)
        finally:
            self._restamping = False

    async def _ask_store(self, effect: Any) -> None:
        effects = await self._ledger.carry_out(effect, self._core)
        if isinstance(effect, fx.Commit):
            self.on_taken([entry.key for entry in effect.entries])
        self._do(effects)

    def _settled(self, effect: fx.Settled) -> None:
        key, version, level = effect.key, effect.version, effect.durability
        known = self._levels.pop(key, None)
        if known is not None and known[0] == version:
            level = max(level, known[1], key=_rank)
        if known is None or version >= known[0]:
            known = (version, level)
        self._levels[key] = known
        while len(self._levels) > _LEVELS_MAX:
            self._levels.popitem(last=False)
        left = []
        for wanted, at_least, future in self._waiting.pop(key, ()):
            if future.done():
                continue
            if wanted <= version and level.rank >= at_least.rank:
                future.set_result(None)
            else:
                left.append((wanted, at_least, future))
        if left:
            self._waiting[key] = left

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a hand-over broke", error=repr(error))


def _rank(level: Durability) -> int:
    return level.rank
