"""Exchanges over streams: push-pull anti-entropy in at most four messages.

    A  summary   sums of its buckets
    B  transfer  everything in buckets that are empty at A, then
       digest    versions in the other buckets that differ
    A  transfer  what B lacks, and what A wants
    B  transfer  what A wants, and corrections

Whoever has nothing to say ends it. A long message goes in several frames; only its last one says ``last``. Every
exchange has a deadline, and there are at most a few at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from edgeagent.gossip.antientropy import AntiEntropy, interval_s
from edgeagent.gossip.codec import Accusation, Death
from edgeagent.gossip.context import Context
from edgeagent.gossip.effects import Dial, Hangup, StreamSend
from edgeagent.gossip.errors import WireRefused
from edgeagent.gossip.frames import (
    ENTRIES_MAX,
    Digest,
    Entry,
    Summary,
    Transfer,
    Want,
    decode_frame,
    encode_frame,
)
from edgeagent.gossip.members import Member
from edgeagent.gossip.states import State
from edgeagent.gossip.timers import Timer
from edgeagent.gossip.view import View

__all__ = ["Exchange"]

_STREAMS_MAX = 32
_SEEDS_MAX = 16
_KNOCKS_S = (0.5, 1.0, 2.0, 4.0)  # between tries of seeds that did not answer at first
_TRANSFER_BYTES = 48 * 1024  # of items a frame
_TRANSFER_ITEMS = 1024


class _Talk:
    """One stream. ``count`` is 0 until the other one's summary, or our own, has named it."""

    __slots__ = ("buckets", "corrections", "count", "deadline_s", "dialled", "entries", "wants")

    def __init__(self, *, dialled: bool, count: int, deadline_s: float) -> None:
        self.dialled = dialled
        self.count = count
        self.deadline_s = deadline_s
        self.buckets: set[int] = set()
        self.entries: list[Entry] = []
        self.wants: list[Want] = []
        self.corrections: list[bytes] = []


class Exchange:
    """See the module."""

    def __init__(self, context: Context, view: View) -> None:
        self._context = context
        self._view = view
        self._compare = AntiEntropy(context)
        self._talks: dict[Hashable, _Talk] = {}
        self._dialled = 0
        self._caught_up_s = -1e9
        self._seeds: tuple[str, ...] = ()
        self._unmet: tuple[str, ...] = ()  # seeds that no member here has the address of
        self._knocks = 0

    def join(self, addresses: tuple[str, ...]) -> None:
        """Exchange with these addresses now, and again while we are alone or nobody from there is known here."""
        self._seeds = self._unmet = addresses[:_SEEDS_MAX]
        for address in self._seeds:
            self.dial(address)
        self._knocks += 1
        self._context.timers.at(self._context.now_s + _KNOCKS_S[0], Timer.KNOCK, (self._knocks, 1))

    def knock_due(self, which: tuple[int, int]) -> None:
        """A seed that starts together with us is there a moment later. The last join's knocks count."""
        joined, times = which
        context = self._context
        if joined != self._knocks or len(context.members.ring):
            return
        for address in self._seeds:
            self.dial(address)
        if times < len(_KNOCKS_S):
            context.timers.at(context.now_s + _KNOCKS_S[times], Timer.KNOCK, (joined, times + 1))

    def due(self) -> None:
        """The regular exchange with a random member, and with seeds that were never met."""
        context = self._context
        members = context.members
        alone = not len(members.ring)
        base_s = context.knobs.push_pull_interval_s
        # Alone, we knock more often; otherwise half an interval of chance keeps the group from marching in step.
        wait_s = (
            min(base_s, 5.0)
            if alone
            else interval_s(base_s, members.count) * (0.75 + context.chance.random() / 2)
        )
        context.timers.at(context.now_s + wait_s, Timer.PUSH_PULL)
        if self._unmet and not alone:  # two groups may have begun apart
            met = {member.address for member in members.by_name.values()}
            self._unmet = tuple(address for address in self._unmet if address not in met)
        for address in self._seeds if alone else self._unmet:
            self.dial(address)
        if alone:
            return
        for member in members.ring.sample(3):
            if member.state is State.ALIVE and context.reachable(member.name):
                self.dial(member.address)
                return

    def catch_up(self, member: Member) -> None:
        """Somebody is back who has missed our news, and we its: at most a few such exchanges an interval."""
        context = self._context
        if context.now_s - self._caught_up_s >= context.knobs.push_pull_interval_s / 8:
            self._caught_up_s = context.now_s
            self.dial(member.address)

    def dial(self, address: str) -> None:
        """Begin an exchange."""
        context = self._context
        if len(self._talks) >= _STREAMS_MAX or not context.active:
            return
        self._dialled += 1
        sums = self._compare.sums()
        self._talks[self._dialled] = self._talk(self._dialled, dialled=True, count=len(sums) // 8)
        context.counters.exchanges += 1
        context.out.append(Dial(self._dialled, address, encode_frame(Summary(context.name, sums))))

    def frame(self, stream: Hashable, data: bytes) -> None:
        """A frame has come in; what does not fit the order ends the exchange."""
        talk = self._talks.get(stream)
        try:
            frame = decode_frame(data)
            if isinstance(frame, Summary) and talk is None and len(self._talks) < _STREAMS_MAX:
                self._summary(stream, frame)
            elif isinstance(frame, Digest) and talk is not None and talk.dialled:
                self._digest(stream, talk, frame)
            elif isinstance(frame, Transfer) and talk is not None:
                self._transfer(stream, talk, frame)
            else:
                raise WireRefused(f"a {type(frame).__name__.lower()} out of order")
        except WireRefused:
            self._context.counters.datagrams_refused += 1
            self._end(stream)

    def closed(self, stream: Hashable) -> None:
        """The stream is gone. For those who were dialled that is a good end too: the other one had no more to say."""
        talk = self._talks.pop(stream, None)
        if talk is not None and talk.dialled:
            self._context.counters.exchanges_failed += 1

    def deadline_due(self, stream: Hashable) -> None:
        talk = self._talks.get(stream)
        if talk is None:
            return
        if self._context.now_s < talk.deadline_s - 1e-6:
            self._context.timers.at(talk.deadline_s, Timer.STREAM, stream)
            return
        self._context.counters.exchanges_failed += 1
        self._end(stream)

    def _talk(self, stream: Hashable, *, dialled: bool, count: int) -> _Talk:
        deadline_s = self._context.now_s + self._context.knobs.stream_timeout_s
        self._context.timers.at(deadline_s, Timer.STREAM, stream)
        return _Talk(dialled=dialled, count=count, deadline_s=deadline_s)

    def _summary(self, stream: Hashable, frame: Summary) -> None:
        count, differing, empty_there = self._compare.compare(frame.sums)
        self._talks[stream] = self._talk(stream, dialled=False, count=count)
        if empty_there:
            self._send_items(stream, self._compare.everything(empty_there, count), [], last=False)
        asked = differing - empty_there
        entries = list(self._compare.entries(asked, count)) if asked else []
        buckets = bytes(sorted(asked))
        while len(entries) > ENTRIES_MAX:
            part, entries = entries[:ENTRIES_MAX], entries[ENTRIES_MAX:]
            self._send(stream, Digest(b"", part, False))
        self._send(stream, Digest(buckets, entries, True))

    def _digest(self, stream: Hashable, talk: _Talk, frame: Digest) -> None:
        if len(talk.entries) > self._context.knobs.members_max or any(
            bucket >= talk.count for bucket in frame.buckets
        ):
            raise WireRefused("a digest beyond all bounds")
        self._live(talk)
        talk.entries += frame.entries
        talk.buckets.update(frame.buckets)
        if not frame.last:
            return
        items, wants = self._compare.answer(talk.entries, talk.buckets, talk.count)
        items += talk.corrections
        talk.entries, talk.corrections = [], []
        if items or wants:
            self._send_items(stream, items, wants, last=True)
        if not wants:
            self._end(stream)

    def _transfer(self, stream: Hashable, talk: _Talk, frame: Transfer) -> None:
        if len(talk.wants) > self._context.knobs.members_max:
            raise WireRefused("wants beyond all bounds")
        self._live(talk)
        talk.wants += frame.wants
        for blob in frame.items:
            self._take(talk, blob)
        if not frame.last:
            return
        if not talk.dialled:
            items = [*self._compare.wanted(talk.wants), *talk.corrections]
            if items:
                self._send_items(stream, items, [], last=True)
        self._end(stream)

    def _take(self, talk: _Talk, blob: bytes) -> None:
        item = self._context.items.read(blob)
        if isinstance(item, Death):
            self._view.condemned(item, blob)
        elif isinstance(item, Accusation):
            self._view.accused(item, blob)
        elif not self._view.merge(item) and item.identity is not None:
            talk.corrections += self._compare.correction(item.name, item.version)

    def _live(self, talk: _Talk) -> None:
        talk.deadline_s = self._context.now_s + self._context.knobs.stream_timeout_s

    def _send_items(self, stream: Hashable, items: Iterable[bytes], wants: list[Want], *, last: bool) -> None:
        batch: list[bytes] = []
        size = 0
        for blob in items:
            if size + len(blob) > _TRANSFER_BYTES or len(batch) >= _TRANSFER_ITEMS:
                self._send(stream, Transfer(batch, [], False))
                batch, size = [], 0
            batch.append(blob)
            size += len(blob)
        while len(wants) > ENTRIES_MAX:
            part, wants = wants[:ENTRIES_MAX], wants[ENTRIES_MAX:]
            self._send(stream, Transfer([], part, False))
        # Items and wants, both at their bounds, would not fit one frame.
        if batch and wants:
            self._send(stream, Transfer(batch, [], False))
            batch = []
        if batch or wants or last:
            self._send(stream, Transfer(batch, wants, last))

    def _send(self, stream: Hashable, frame: Digest | Transfer) -> None:
        self._context.out.append(StreamSend(stream, encode_frame(frame)))

    def _end(self, stream: Hashable) -> None:
        self._talks.pop(stream, None)
        self._context.out.append(Hangup(stream))
