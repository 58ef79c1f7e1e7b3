"""A simulated node that keeps state: the production replicator, and the shell that carries out its effects."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import NamedTuple

from edgeagent.model.errors import EdgeError, StorageFull
from edgeagent.simulator.clock import VirtualClock
from edgeagent.simulator.state_disk import SimDisk, SimStore
from edgeagent.simulator.wire import Wire
from edgeagent.state.calls import Op
from edgeagent.state.effects import (
    Arrived,
    Commit,
    Effect,
    ListGroup,
    Load,
    Look,
    MayDrop,
    NetworkView,
    Persist,
    ReadPieces,
    Send,
    Settled,
    StoreChunks,
    Summarize,
)
from edgeagent.state.entry import Durability, Entry, Mode
from edgeagent.state.errors import ClockAhead
from edgeagent.state.messages import REQUESTS, Refusal, Request
from edgeagent.state.replicator import Replicator
from edgeagent.state.wire import decode, encode

__all__ = ["StateNode", "StateSurroundings"]

TICK_S = 0.5
_READ_S = (0.0002, 0.005)
_TIMEOUT_S = 3.0


class StateSurroundings(NamedTuple):
    """``hear(node, effect)``: Settled, Arrived and MayDrop; ``utc_ms``: of a node's clock."""

    clock: VirtualClock
    wire: Wire
    chance: random.Random
    view: Callable[[str], NetworkView]
    hear: Callable[[StateNode, Effect], None]
    copies: int


class StateNode:
    """See the module. ``name`` is its address too."""

    def __init__(self, name: str, around: StateSurroundings, *, is_ground: bool, utc_at_zero_ms: int) -> None:
        self.name = name
        self.is_ground = is_ground
        self.disk = SimDisk()
        self.store: SimStore | None = None
        self.core: Replicator | None = None
        self.free_bytes = 1 << 30
        self.lives = 0
        self._around = around
        self._utc_at_zero_ms = utc_at_zero_ms
        self._asked: dict[int, Request] = {}

    @property
    def is_running(self) -> bool:
        return self.core is not None

    def utc_ms(self) -> int:
        return self._utc_at_zero_ms + int(self._around.clock.now_s * 1000)

    def start(self) -> None:
        around = self._around
        self.lives += 1
        self.store = SimStore(self.name, self.disk, around.clock, around.chance, self.utc_ms)
        self.core = Replicator(
            self.name, life=around.chance.getrandbits(39), copies=around.copies, is_ground=self.is_ground
        )
        around.wire.attach(self.name, self)
        self._asked.clear()
        notes = dict(self.disk.notes)
        self._carry(self.core.tick(around.clock.now_s, self.utc_ms(), free_bytes=self.free_bytes))
        self._carry(self.core.network(around.view(self.name)))
        self._carry(self.core.restore(notes, self.store.feed(Replicator.mark_of(notes))))
        around.clock.after(TICK_S * around.chance.random(), self._tick, self.lives)

    def crash(self) -> list[list[Entry]]:
        """Without a word; the transactions that are durable although their callers were not told (SimStore.crash)."""
        assert self.store is not None
        survived = self.store.crash()
        self.store = self.core = None
        self._around.wire.detach(self.name)
        return survived

    def lose_disk(self) -> None:
        """It comes back with an empty one."""
        self.disk = SimDisk()

    def _tick(self, life: int) -> None:
        if self.core is None or life != self.lives:
            return
        around = self._around
        damaged = (
            [key for key in self.disk.rows if not self.disk.is_good(key)]
            if around.chance.random() < 0.1
            else []
        )
        self._carry(self.core.tick(around.clock.now_s, self.utc_ms(), free_bytes=self.free_bytes))
        self._carry(self.core.network(around.view(self.name)))
        if damaged:
            self._carry(self.core.damaged(damaged))
        around.clock.after(TICK_S, self._tick, life)

    def tell(self, what: Callable[[Replicator], list[Effect]]) -> None:
        """Say something to the core."""
        if self.core is not None:
            self._carry(what(self.core))

    def write(
        self,
        ops: Sequence[Op],
        durable: Callable[[list[Entry]], None],
        failed: Callable[[EdgeError], None],
        *,
        mode: Mode,
        level: Durability,
        epoch: int = 0,
    ) -> None:
        """``durable`` hears when it is on this disk."""
        assert self.store is not None

        def done(entries: list[Entry]) -> None:
            durable(entries)
            seq = max((self.disk.order.get(entry.key, 0) for entry in entries), default=0)
            self.tell(lambda core: core.wrote(entries, seq=seq, durability=level))

        self.store.write(ops, done, failed, mode=mode, epoch=epoch)

    # -- the wire ---------------------------------------------------------------------------------------------------

    def datagram(self, source: str, data: bytes) -> None:
        message = decode(data)
        if not isinstance(message, REQUESTS):
            self._asked.pop(message.ask, None)
        self.tell(lambda core: core.message(source, message))

    def frame(self, stream: Hashable, data: bytes) -> None:
        raise NotImplementedError

    def stream_closed(self, stream: Hashable) -> None:
        raise NotImplementedError

    def _send(self, send: Send) -> None:
        if isinstance(send.message, REQUESTS):
            self._asked[send.message.ask] = send.message
            self._around.clock.after(_TIMEOUT_S, self._timed_out, self.lives, send.message)
        self._around.wire.send(self, self.name, send.peer, encode(send.message, send.level))

    def _timed_out(self, life: int, request: Request) -> None:
        if life == self.lives and self._asked.pop(request.ask, None) is not None:
            self.tell(lambda core: core.failed(request))

    # -- effects ----------------------------------------------------------------------------------------------------

    def _carry(self, effects: Sequence[Effect]) -> None:
        for place, effect in enumerate(effects):
            if self.store is None:
                return
            if isinstance(effect, Persist):
                self.store.put_notes(effect.notes, partial(self._go_on, self.lives, effects[place + 1 :]))
                return
            self._carry_one(effect, self.store)

    def _go_on(self, life: int, rest: Sequence[Effect]) -> None:
        if life == self.lives:
            self._carry(rest)

    def _carry_one(self, effect: Effect, store: SimStore) -> None:
        match effect:
            case Send():
                self._send(effect)
            case StoreChunks():
                self._store_chunks(effect, store)
            case Commit():
                self._commit(effect, store)
            case MayDrop():
                self._around.hear(self, effect)
                store.drop(effect.names, lambda: self.tell(lambda core: core.dropped(effect.token)))
            case Settled() | Arrived():
                self._around.hear(self, effect)
            case _:
                self._around.clock.after(
                    self._around.chance.uniform(*_READ_S), self._read, self.lives, effect
                )

    def _store_chunks(self, effect: StoreChunks, store: SimStore) -> None:
        try:
            store.put_chunks(effect.pieces, lambda: self.tell(lambda core: core.stored(effect.token)))
        except StorageFull:
            self.tell(lambda core: core.stored(effect.token, Refusal.QUOTA))

    def _commit(self, effect: Commit, store: SimStore) -> None:
        refused = Refusal.NONE

        def done(merged: list[Entry]) -> None:
            self.tell(lambda core: core.committed(effect.token, merged))

        try:
            store.accept(effect.entries, done)
        except StorageFull:
            refused = Refusal.QUOTA
        except ClockAhead:
            refused = Refusal.CLOCK
        except KeyError:
            refused = Refusal.UNKNOWN
        except EdgeError:
            refused = Refusal.STORE
        if refused:
            self.tell(lambda core: core.committed(effect.token, (), refused))

    def _read(self, life: int, effect: Effect) -> None:
        core, store, disk = self.core, self.store, self.disk
        if core is None or store is None or life != self.lives:
            return
        match effect:
            case Load():
                entries = store.held(effect.keys)
                is_good = all(entry.chunks or disk.is_good(entry.key) for entry in entries)
                self._carry(core.loaded(effect.token, entries if is_good else None))
            case Look():
                missing = [sha256 for sha256 in effect.chunks if disk.chunk(sha256) is None]
                good = [disk.rows[key] for key in effect.keys if disk.is_good(key)]
                self._carry(core.looked(effect.token, good, missing))
            case ReadPieces():
                pieces = [self._piece(*one) for one in effect.pieces]
                whole = [piece for piece in pieces if piece is not None]
                self._carry(core.read(effect.token, whole if len(whole) == len(pieces) else None))
            case Summarize():
                self._carry(core.summed(effect.token, store.sums()))
            case ListGroup():
                self._carry(core.listed(effect.token, store.names_of(effect.group)))

    def _piece(self, sha256: bytes, key: str) -> bytes | None:
        if not key:
            return self.disk.chunk(sha256)
        entry = self.disk.rows.get(key)
        return (
            entry.inline if entry is not None and entry.sha256 == sha256 and self.disk.is_good(key) else None
        )
