"""A simulated node: the production gossip core behind a virtual clock and wire, with a disk, pauses and crashes."""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from edgeagent.gossip.codec import Items
from edgeagent.gossip.commands import Command, SetUtc
from edgeagent.gossip.context import Ports
from edgeagent.gossip.core import Mesh
from edgeagent.gossip.effects import Arm, Dial, Effect, Hangup, Notice, Notify, Persist, Send, StreamSend
from edgeagent.gossip.knobs import Knobs
from edgeagent.gossip.members import Members
from edgeagent.gossip.occlusion import Contacts
from edgeagent.gossip.pool import Chance
from edgeagent.gossip.records import Identity, Record, Trust, epoch_ms_of, next_epoch_ms
from edgeagent.simulator.clock import VirtualClock
from edgeagent.simulator.wire import Wire

__all__ = ["SimNode", "Surroundings", "signature_of", "verify"]

_INBOX_MAX = 256  # datagrams that a socket's buffer holds while its process stands still


def signature_of(name: str, text: bytes) -> bytes:
    """A keyed digest in place of Ed25519, of its size: only the holder of the name's key makes it."""
    return hashlib.blake2b(text, key=b"key of " + name.encode()).digest()


def verify(record: Record) -> Trust:
    """The check of :func:`signature_of`."""
    good = signature_of(record.name, record.signed()) == record.signature
    return Trust.VERIFIED if good else Trust.REFUSED


class Surroundings(NamedTuple):
    """What the nodes of one world share. ``hear`` gets every notice of a core, with its node."""

    clock: VirtualClock
    wire: Wire
    knobs: Knobs
    chance: random.Random
    hear: Callable[[SimNode, Notice], None]
    contacts: Contacts
    items: Items
    utc_at_zero_s: float
    table: Callable[[str, Chance, int], Members] | None = None  # of first lives; None: an empty one


class SimNode:
    """One node."""

    def __init__(self, name: str, surroundings: Surroundings) -> None:
        self.name = name
        self.address = name
        self.mesh: Mesh | None = None
        self.lives = 0
        self.disk: int | None = None  # the incarnation that was persisted
        self.utc_skew_s = 0.0
        self._around = surroundings
        self._clock = surroundings.clock
        self._wire = surroundings.wire
        self._paused = False
        self._inbox: deque[tuple[Callable[..., list[Effect]], Hashable, bytes]] = deque()
        self._timer: int | None = None  # came up while paused

    @property
    def is_running(self) -> bool:
        return self.mesh is not None

    @property
    def is_paused(self) -> bool:
        return self._paused

    def start(self, *, address: str = "") -> None:
        """Begin a life, above the last one where the disk still knows of it."""
        assert self.mesh is None
        self.lives += 1
        self.address = address or self.address
        around = self._around
        utc_ms = round((around.utc_at_zero_s + self.utc_skew_s + self._clock.now_s) * 1000)
        ports = Ports(
            chance=random.Random(around.chance.random()),
            sign=lambda text: signature_of(self.name, text),
            verify=verify,
            contacts=around.contacts,
            items=around.items,
            table=around.table if around.table is not None and self.lives == 1 else Members,
        )
        identity = Identity((self.address,), key=self.name.encode()[:8])
        self.mesh = Mesh(self.name, identity, around.knobs, ports, epoch_ms=next_epoch_ms(self.disk, utc_ms))
        self._wire.attach(self.address, self)
        self._carry_out(self.mesh.start(self._clock.now_s))
        self.set_clock(self.utc_skew_s)

    def crash(self, *, lose_disk: bool = False) -> None:
        """The process is gone, with all that it did not write down."""
        self.mesh = None
        self._paused = False
        self._inbox.clear()
        self._timer = None
        if lose_disk:
            self.disk = None
        self._wire.detach(self.address)

    def command(self, command: Command) -> None:
        if self.mesh is not None:
            self._carry_out(self.mesh.on_command(self._clock.now_s, command))

    def set_clock(self, skew_s: float) -> None:
        """UTC here is the truth plus this."""
        self.utc_skew_s = skew_s
        self.command(SetUtc(self._around.utc_at_zero_s + skew_s))

    @property
    def epoch_ms(self) -> int:
        return 0 if self.mesh is None else epoch_ms_of(self.mesh.incarnation)

    def pause(self) -> None:
        """The process stands still; its socket's buffer does not."""
        self._paused = True

    def resume(self) -> None:
        """It goes on: as in an event loop, one waiting datagram, then the timers that are due, then the rest."""
        if self._paused:
            self.run_slice(len(self._inbox))

    def run_slice(self, datagrams: int) -> None:
        """Go on for a moment: so many of the waiting datagrams, as one timer comes up after the first. Where more wait
        than that, the process stands still again.
        """
        self._paused = False
        if self._inbox:
            self._take_waiting()
        if self._timer is not None:
            token, self._timer = self._timer, None
            self._fire(self.lives, token)
        for _ in range(datagrams - 1):
            if self._inbox and self.mesh is not None:
                self._take_waiting()
        self._paused = bool(self._inbox)

    # the wire's side

    def datagram(self, source: str, data: bytes) -> None:
        mesh = self.mesh
        if mesh is None:
            return
        if self._paused:
            if len(self._inbox) < _INBOX_MAX:
                self._inbox.append((mesh.on_datagram, source, data))
            return
        self._carry_out(mesh.on_datagram(self._clock.now_s, source, data))

    def frame(self, stream: Hashable, data: bytes) -> None:
        mesh = self.mesh
        if mesh is None:
            return
        if self._paused:
            self._inbox.append((mesh.on_stream, stream, data))
            return
        self._carry_out(mesh.on_stream(self._clock.now_s, stream, data))

    def stream_closed(self, stream: Hashable) -> None:
        if self.mesh is not None:
            self._carry_out(self.mesh.on_stream_closed(self._clock.now_s, stream))

    def _take_waiting(self) -> None:
        what, source, data = self._inbox.popleft()
        self._carry_out(what(self._clock.now_s, source, data))

    def _fire(self, life: int, token: int) -> None:
        if self.mesh is None or life != self.lives:
            return
        if self._paused:
            self._timer = max(token, self._timer or 0)  # a newer one has replaced it
            return
        self._carry_out(self.mesh.on_timer(self._clock.now_s, token))

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            kind: type[Any] = type(effect)
            if kind is Send:
                self._wire.send(self, self.address, effect.address, effect.data)  # type: ignore[union-attr]
            elif kind is Arm:
                self._clock.at(effect.at_s, self._fire, self.lives, effect.token)  # type: ignore[union-attr]
            else:
                self._carry_out_rare(effect)

    def _carry_out_rare(self, effect: Effect) -> None:
        match effect:
            case Notify():
                self._around.hear(self, effect.notice)
            case Dial():
                self._wire.dial(self, effect.stream, effect.address, effect.data)
            case StreamSend():
                self._wire.frame(self, effect.stream, effect.data)
            case Hangup():
                self._wire.hang_up(self, effect.stream)
            case Persist():
                self.disk = effect.incarnation
            case _:
                raise AssertionError(effect)
