"""Mailboxes: the queue of messages between those who send to a name and the runs that take them. Pure.

Rules:
1. Messages keep the order in which they were accepted. Each is given to one taker.
2. A mailbox is bounded in messages and in bytes (one message larger than the bound fits where it is alone). Who sends
   to a full one waits, or is told AGAIN.
3. Runs that take (they have accepted the name, or asked for its next message) come first. Where there is none, and a
   function belongs to the mailbox, a run of it is started with the oldest message, one at a time; that run is a taker
   for as long as it lasts.
4. A stream ends for its takers when nothing is queued and everybody who sent to it, or opened it, has closed it or is
   over; not before somebody has opened it.
5. Nothing here is durable: messages of a run that fails, and those of a mailbox that nobody takes from, are gone.

Everything returns effects, to be carried out in their order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from enum import Enum
from typing import Generic, TypeVar

import msgspec

__all__ = ["Drop", "Effect", "Give", "Mailbox", "Outcome", "Start", "Tell"]

M = TypeVar("M")


class Outcome(Enum):
    """What a sender or a taker is told."""

    ACCEPTED = "accepted"
    AGAIN = "again"
    END = "end"


class Tell(msgspec.Struct, frozen=True):
    """The one who asked gets this answer."""

    who: Hashable
    outcome: Outcome


class Give(msgspec.Struct, Generic[M], frozen=True):
    """The taker gets the message."""

    who: Hashable
    message: M


class Start(msgspec.Struct, Generic[M], frozen=True):
    """A run of the mailbox's function begins with the message; ``run_over`` follows."""

    message: M


class Drop(msgspec.Struct, Generic[M], frozen=True):
    """Nobody will take the message."""

    message: M


Effect = Tell | Give[M] | Start[M] | Drop[M]


class _Put(msgspec.Struct, Generic[M]):
    who: Hashable
    message: M
    size_bytes: int


class Mailbox(Generic[M]):
    """One name's queue. ``has_function``: whether runs can be started for it. Senders and takers are told apart by
    whatever names them; one sender or taker waits for at most one thing at a time.
    """

    def __init__(self, *, messages_max: int, bytes_max: int, has_function: bool) -> None:
        if messages_max < 1 or bytes_max < 0:
            raise ValueError("a mailbox holds at least one message, and no negative number of bytes")
        self.has_function = has_function
        self.bytes = 0
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._queue: deque[tuple[M, int]] = deque()
        self._putting: deque[_Put[M]] = deque()
        self._takers: set[Hashable] = set()
        self._asking: deque[Hashable] = deque()
        self._senders: set[Hashable] = set()
        self._was_opened = False
        self._is_running = False

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def has_takers(self) -> bool:
        """Whether a run takes from it now."""
        return bool(self._takers) or self._is_running

    @property
    def is_idle(self) -> bool:
        """Whether it can be forgotten."""
        return not (self._queue or self._putting or self._takers or self._senders or self._is_running)

    def takes_at_once(self, size_bytes: int) -> bool:
        """Whether ``put`` would not have to wait."""
        return bool(self._asking) or (not self._putting and self._has_room(size_bytes))

    def open(self, who: Hashable) -> list[Effect[M]]:
        """``who`` may send: until it closes, the stream does not end."""
        self._senders.add(who)
        self._was_opened = True
        return []

    def close(self, who: Hashable) -> list[Effect[M]]:
        """``who`` sends no more."""
        self._senders.discard(who)
        return self._moved()

    def put(self, who: Hashable, message: M, size_bytes: int, *, may_wait: bool = True) -> list[Effect[M]]:
        """Send; ACCEPTED follows when there is room, at once or later. A message that is not accepted is dropped."""
        self.open(who)
        if not may_wait and not self.takes_at_once(size_bytes):
            return [Tell(who, Outcome.AGAIN), Drop(message)]
        self._putting.append(_Put(who, message, size_bytes))
        return self._moved()

    def accept(self, who: Hashable) -> list[Effect[M]]:
        """The run takes from this mailbox until it is over."""
        self._takers.add(who)
        return []

    def next(self, who: Hashable, *, may_wait: bool = True) -> list[Effect[M]]:
        """Ask for the next message: a message, END or AGAIN follows, at once or later."""
        self.accept(who)
        self._asking.append(who)
        effects = self._moved()
        if not may_wait and who in self._asking:
            self._asking.remove(who)
            effects.append(Tell(who, Outcome.AGAIN))
        return effects

    def left(self, who: Hashable) -> list[Effect[M]]:
        """A run or a sender is over: it neither sends, takes nor waits any more."""
        dropped: list[Effect[M]] = [Drop(put.message) for put in self._putting if put.who == who]
        self._putting = deque(put for put in self._putting if put.who != who)
        self._asking = deque(asking for asking in self._asking if asking != who)
        self._takers.discard(who)
        self._senders.discard(who)
        return dropped + self._moved()

    def run_over(self) -> list[Effect[M]]:
        """The run that ``Start`` asked for is over."""
        self._is_running = False
        return self._moved()

    def clear(self) -> list[Effect[M]]:
        """Its function is gone, or the node ends: what waits is dropped, those who wait are told END or AGAIN."""
        effects: list[Effect[M]] = [Drop(message) for message, _ in self._queue]
        for put in self._putting:
            effects += [Tell(put.who, Outcome.AGAIN), Drop(put.message)]
        effects += [Tell(who, Outcome.END) for who in self._asking]
        self._queue.clear()
        self._putting.clear()
        self._asking.clear()
        self.bytes = 0
        return effects

    def _has_room(self, size_bytes: int) -> bool:
        if not self._queue:
            return True
        return len(self._queue) < self._messages_max and self.bytes + size_bytes <= self._bytes_max

    def _moved(self) -> list[Effect[M]]:
        """Everything that can go on, in order: room for senders, messages for takers, a run, the end."""
        effects: list[Effect[M]] = []
        while True:
            if self._putting and self._has_room(self._putting[0].size_bytes):
                put = self._putting.popleft()
                self._queue.append((put.message, put.size_bytes))
                self.bytes += put.size_bytes
                effects.append(Tell(put.who, Outcome.ACCEPTED))
            elif self._queue and self._asking:
                effects.append(Give(self._asking.popleft(), self._pop()))
            elif self._queue and self.has_function and not self.has_takers:
                self._is_running = True
                effects.append(Start(self._pop()))
            else:
                break
        if self._was_opened and not self._senders and not self._queue:
            effects += [Tell(who, Outcome.END) for who in self._asking]
            self._asking.clear()
            if not self.has_takers:
                self._was_opened = False  # the next stream of this name begins
        return effects

    def _pop(self) -> M:
        message, size_bytes = self._queue.popleft()
        self.bytes -= size_bytes
        return message
