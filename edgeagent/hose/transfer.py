"""One stripe of a transfer, both ends, without a socket, a clock or the bytes themselves.

Theory of operation. A ``Sender`` and a ``Receiver`` face each other over one connection at a time and may outlive
it. The Sender offers; the Receiver answers with the offset up to which it has verified bytes, and a credit; the Sender
sends frames in order, below the credit; the Receiver verifies each and raises the credit with what is verified. A
damaged frame becomes a *hole* that is asked for once more while the following frames still come; the credit does not
pass a hole by more than the window. When all is verified the application gets the whole; its acceptance is the ACK.

Rules:
1. The bytes do not change from the first offer to ``Released``; after a failure, an id with other bytes needs a
   higher generation.
2. A frame lies exactly where the previous one ended: what is reordered, overlaps or goes past the end or the credit
   is refused, and the connection with it.
3. What is verified stays so over a cut; what is not verified is sent again.
4. A frame that is damaged twice ends the transfer.

Methods return effects for the shell to carry out in order, or raise a ``HoseFault``: then the connection is to be
ended, with an ABORT unless the fault came from the peer, and ``on_cut`` to be called. ``now_s`` is monotonic.
"""

from __future__ import annotations

from enum import Enum, auto

import msgspec

from edgeagent.hose.errors import ChecksumFailed, FrameRefused, LinkStalled, StaleGeneration, fault_of
from edgeagent.hose.frames import (
    NO_ID,
    RESENT,
    Abort,
    Accept,
    Ack,
    Again,
    Data,
    Done,
    Frame,
    Offer,
    Window,
)

__all__ = [
    "HOLES_MAX",
    "Complete",
    "Effect",
    "Progress",
    "Receiver",
    "Released",
    "Run",
    "Send",
    "SendData",
    "Sender",
    "Take",
    "stripe_of",
]

HOLES_MAX = 4  # damaged frames at once; more is a broken link, not a flipped bit


class Send(msgspec.Struct, frozen=True):
    """Send this frame."""

    frame: Frame


class SendData(msgspec.Struct, frozen=True):
    """Send bytes ``offset`` to ``offset + length`` of the buffer as one DATA frame, or as several where they are
    more than one may hold.
    """

    offset: int
    length: int
    flags: int = 0


class Take(msgspec.Struct, frozen=True):
    """Read the payload of this frame to its place, check it, and call ``on_payload``."""

    frame: Data


class Progress(msgspec.Struct, frozen=True):
    """All bytes of the stripe below this offset are verified."""

    verified: int


class Complete(msgspec.Struct, frozen=True):
    """The stripe is whole; when the application has accepted the transfer, call ``on_accepted``."""


class Released(msgspec.Struct, frozen=True):
    """The peer's application has the transfer; the sender's bytes may change again."""

    transfer: bytes


Effect = Send | SendData | Take | Progress | Complete | Released


class Run(msgspec.Struct, frozen=True):
    """Frames that follow each other from ``next`` may come, none beyond ``credit`` or of more than
    ``payload_bytes_max``; from ``stop`` on there is something to say, or where it ``is_last`` the end follows.
    """

    next: int
    stop: int
    credit: int
    payload_bytes_max: int
    is_last: bool = False


def stripe_of(total: int, stripes: int, stripe: int) -> tuple[int, int]:
    """(base, length) of a stripe. The split is fixed, so that stripes neither overlap nor leave gaps."""
    base = total * stripe // stripes
    return base, total * (stripe + 1) // stripes - base


class _State(Enum):
    APART = auto()  # no connection
    OFFERED = auto()  # Sender: waiting for ACCEPT
    MOVING = auto()
    WHOLE = auto()  # Sender: DONE is sent; Receiver: all is verified
    ENDED = auto()  # released; acknowledged


_SENDING = (_State.MOVING, _State.WHOLE)
_OPEN = (_State.OFFERED, *_SENDING)


def _check_identity(offer: Offer, frame: Accept | Data | Window | Again | Done | Ack) -> None:
    if frame.transfer != offer.transfer:
        raise FrameRefused("a frame of another transfer")
    if frame.generation != offer.generation:
        raise StaleGeneration(f"generation {frame.generation}, not {offer.generation}")


def _out_of_turn(frame: Frame) -> FrameRefused:
    return FrameRefused(f"{type(frame).__name__} is out of turn")


class Sender:
    """The sending end of ``offer``. ``pump`` is called whenever the shell can send; it returns one frame at most.

    ``eager``: nobody has offered this before, so the receiver's answer is known, but for a refusal: one frame of data
    goes along with the offer. On later connections, the answer is waited for.
    """

    def __init__(
        self, offer: Offer, *, chunk_bytes: int, stall_s: float, ack_s: float, eager: bool = False
    ) -> None:
        self.offer = offer
        self.chunk_bytes = self._chunk_wanted = chunk_bytes
        self._stall_s = stall_s
        self._ack_s = ack_s
        self.deadline_s: float | None = None
        self.resumed = offer.base  # where the receiver let us start, on this connection
        self._eager = eager
        self._apart()

    def _apart(self) -> None:
        self._state = _State.APART
        self._is_answered = False
        self._next = self._credit = self.offer.base
        self._again: list[Again] = []
        self._asked: set[int] = set()
        self.deadline_s = None

    @property
    def sent(self) -> int:
        """The offset after the last byte sent on this connection."""
        return self._next

    @property
    def is_apart(self) -> bool:
        """True where ``start`` is to be called."""
        return self._state is _State.APART

    @property
    def is_sent(self) -> bool:
        """True from the end on, until something is asked for again."""
        return self._state is _State.WHOLE and not self._again

    @property
    def owes(self) -> bool:
        """True while something was asked for again."""
        return bool(self._again)

    @property
    def released(self) -> bool:
        """True once the peer has acknowledged."""
        return self._state is _State.ENDED

    def limit_chunk(self, payload_bytes_max: int) -> None:
        """The most bytes of a frame on the next connection, as its WELCOME says."""
        self.chunk_bytes = min(self._chunk_wanted, payload_bytes_max)

    def start(self, now_s: float) -> list[Effect]:
        """A connection is there: offer, again if need be."""
        if self._state is not _State.APART:
            raise RuntimeError("start is called once a connection")
        self._state = _State.OFFERED
        if self._eager:
            self._state = _State.MOVING
            self._credit = min(self.offer.end, self.offer.base + self.chunk_bytes)
        self.deadline_s = now_s + self._stall_s
        return [Send(self.offer)]

    def start_along(self, now_s: float, run_bytes: int) -> Done | None:
        """``start`` of what is new, and ``pump`` of at most ``run_bytes``: the bytes up to ``sent`` go along with the
        offer, and so does the end if it is returned.
        """
        if not self._eager:
            raise RuntimeError("the answer to an offer that may be known is waited for")
        self.start(now_s)
        self._next = min(self._credit, self._next + run_bytes)
        return self.finish(now_s)

    def on_cut(self) -> None:
        """The connection is gone; ``start`` may follow on another."""
        if self._state is not _State.ENDED:
            self._eager = False
            self._apart()

    def on_timer(self, now_s: float) -> None:
        """Raises LinkStalled when the deadline is over."""
        if self.deadline_s is not None and now_s >= self.deadline_s:
            what = "acknowledgement" if self._state is _State.WHOLE and self._is_answered else "answer"
            raise LinkStalled(f"no {what} in time")

    def pump(self, now_s: float, run_bytes: int = 0) -> list[Effect]:
        """The next frame that may be sent now, or nothing. ``run_bytes``: so many bytes at most instead, where they are
        to be sent for the first time; the shell makes frames of them.
        """
        if self._state is not _State.MOVING and self._state is not _State.WHOLE:
            return []
        if self._again:
            hole = self._again.pop(0)
            return [SendData(hole.offset, hole.length, RESENT)]
        if (done := self.finish(now_s)) is not None:
            return [Send(done)]
        most = run_bytes or self.chunk_bytes
        length = min(most, self.offer.end - self._next, self._credit - self._next)
        if length <= 0:
            return []
        offset, self._next = self._next, self._next + length
        return [SendData(offset, length)]

    def finish(self, now_s: float) -> Done | None:
        """The end, once, where nothing is left to be sent: it may go along with the last payload."""
        if self._state is not _State.MOVING or self._again or self._next != self.offer.end:
            return None
        self._state = _State.WHOLE
        self.deadline_s = now_s + (self._ack_s if self._is_answered else self._stall_s)
        return Done(self.offer.transfer, self.offer.generation, self.offer.end)

    def on_message(self, frame: Frame, now_s: float) -> list[Effect]:
        """What the receiver says."""
        match frame:
            case Abort(transfer, code, text):
                if transfer not in {NO_ID, self.offer.transfer}:
                    raise FrameRefused("a frame of another transfer")
                raise fault_of(code, text)
            case Accept() | Window() | Again() | Ack():
                _check_identity(self.offer, frame)
            case _:
                raise _out_of_turn(frame)
        if isinstance(frame, Accept) is self._is_answered:  # it comes first, and once
            raise _out_of_turn(frame)
        if self._state is not _State.WHOLE:
            self.deadline_s = now_s + self._stall_s
        match frame:
            case Accept() if self._state in _OPEN:
                return self._on_accept(frame, now_s)
            case Window() if self._state in _SENDING:
                return self._on_window(frame)
            case Again() if self._state in _SENDING:
                return self._on_again(frame)
            case Ack() if self._state is _State.WHOLE and not self._again:
                self._state, self.deadline_s = _State.ENDED, None
                return [Released(self.offer.transfer)]
        raise _out_of_turn(frame)

    def _on_accept(self, frame: Accept, now_s: float) -> list[Effect]:
        if not self.offer.base <= frame.resume <= self.offer.end or frame.credit > self.offer.end:
            raise FrameRefused("the receiver wants to go on outside of the stripe")
        self._is_answered = True
        if self._state is _State.OFFERED:
            self._next = self.resumed = frame.resume
            self._state = _State.MOVING
        elif frame.resume != self.offer.base or frame.credit < self._next:
            raise FrameRefused("the receiver knows what was not offered before")
        elif self._state is _State.WHOLE:
            self.deadline_s = now_s + self._ack_s
        self._credit = frame.credit
        return []

    def _on_window(self, frame: Window) -> list[Effect]:
        if not self._credit <= frame.credit <= self.offer.end:
            raise FrameRefused("a credit only grows, to the end of the stripe")
        self._credit = frame.credit
        return []

    def _on_again(self, frame: Again) -> list[Effect]:
        if frame.offset in self._asked:
            raise ChecksumFailed("the same frame came damaged twice")
        if frame.offset < self.resumed or frame.offset + frame.length > self._next:
            raise FrameRefused("asked again for what was not sent")
        if frame.length > self.chunk_bytes or len(self._again) >= HOLES_MAX:
            raise FrameRefused("asked again for too much")
        self._asked.add(frame.offset)
        self._again.append(frame)
        return []


class Receiver:
    """The receiving end of ``offer``. Between ``Take`` and ``on_payload`` no other method is called but on_cut."""

    def __init__(self, offer: Offer, *, window_bytes: int, payload_bytes_max: int) -> None:
        self.offer = offer
        self._window = max(window_bytes, payload_bytes_max)
        self._payload_max = payload_bytes_max
        self._next = offer.base
        self._credit = offer.base
        self._holes: dict[int, int] = {}
        self._taken: Data | None = None
        self._done = False
        self._state = _State.APART

    @property
    def verified(self) -> int:
        """All bytes of the stripe below this offset are verified."""
        return min(self._holes, default=self._next)

    @property
    def whole(self) -> bool:
        """True when every byte is verified and the sender has said that it was the last."""
        return self._state in {_State.WHOLE, _State.ENDED} or self._complete

    @property
    def _complete(self) -> bool:
        return self._done and not self._holes and self._next == self.offer.end

    def on_offer(self, offer: Offer) -> list[Effect]:
        """A connection offers this stripe, for the first time or again: say where to go on."""
        if offer != self.offer:
            raise FrameRefused("the offer is not the one that was made before")
        if self._state is not _State.APART:
            raise RuntimeError("on_cut is called before the next on_offer")
        self._state = _State.MOVING
        self._done = False
        self._credit = min(offer.end, self.verified + self._window)
        return [Send(Accept(offer.transfer, offer.generation, self.verified, self._credit))]

    def on_whole(self) -> None:
        """It was offered for the first time, and came whole."""
        self._state, self._done = _State.WHOLE, True
        self._next = self._credit = self.offer.end

    def on_cut(self) -> None:
        """The connection is gone. What came after a hole is given up."""
        self._next = self.verified
        self._holes.clear()
        self._taken = None
        self._state = _State.APART

    def run(self) -> Run | None:
        """What may come without a word between, if anything may."""
        if self._state is not _State.MOVING or self._done or self._taken is not None:
            return None
        stop = min(self._credit, self._next + self._window // 4)
        if stop <= self._next:
            return None
        return Run(self._next, stop, self._credit, self._payload_max, stop == self.offer.end)

    def on_run(self, end: int) -> list[Effect]:
        """Whole frames, as ``run`` allowed them, are in their places and right up to ``end``."""
        self._next = end
        return self._progress()

    def on_message(self, frame: Frame) -> list[Effect]:
        """What the sender says."""
        if isinstance(frame, Abort):
            if frame.transfer not in {NO_ID, self.offer.transfer}:
                raise FrameRefused("a frame of another transfer")
            raise fault_of(frame.code, frame.text)
        if not isinstance(frame, Data | Done) or self._state is not _State.MOVING:
            raise _out_of_turn(frame)
        if self._taken is not None:
            raise RuntimeError("on_payload is called before the next on_message")
        _check_identity(self.offer, frame)
        return self._on_data(frame) if isinstance(frame, Data) else self._on_done(frame)

    def _on_data(self, frame: Data) -> list[Effect]:
        if frame.length > self._payload_max or frame.stored > self._payload_max:
            raise FrameRefused(f"payloads have at most {self._payload_max} bytes here")
        if frame.flags & RESENT:
            if self._holes.get(frame.offset) != frame.length:
                raise FrameRefused("sent again what was not asked for")
        elif self._done:
            raise FrameRefused("data after the end")
        elif frame.offset != self._next:
            raise FrameRefused(f"offset {frame.offset} where {self._next} was to come")
        elif frame.offset + frame.length > self.offer.end:
            raise FrameRefused("data past the end of the stripe")
        elif frame.offset + frame.length > self._credit:
            raise FrameRefused("data beyond the credit")
        self._taken = frame
        return [Take(frame)]

    def on_payload(self, *, good: bool) -> list[Effect]:
        """The payload is in its place; ``good`` says whether its checksum was right."""
        frame, self._taken = self._taken, None
        if frame is None:
            raise RuntimeError("on_payload follows a Take")
        if not frame.flags & RESENT:
            self._next = frame.offset + frame.length
        if not good:
            return self._damaged(frame)
        if frame.flags & RESENT:
            del self._holes[frame.offset]
        return self._progress()

    def _progress(self) -> list[Effect]:
        effects: list[Effect] = [Progress(self.verified)]
        credit = min(self.offer.end, self.verified + self._window)
        # A quarter at a time: few frames, and the sender never runs dry on a link that the window was made for.
        if credit - self._credit >= self._window // 4 or credit == self.offer.end != self._credit:
            self._credit = credit
            effects.append(Send(Window(self.offer.transfer, self.offer.generation, credit)))
        return effects + self._if_complete()

    def _damaged(self, frame: Data) -> list[Effect]:
        if frame.flags & RESENT:
            raise ChecksumFailed("the same frame came damaged twice")
        if len(self._holes) >= HOLES_MAX:
            raise ChecksumFailed(f"more than {HOLES_MAX} frames came damaged")
        self._holes[frame.offset] = frame.length
        return [Send(Again(frame.transfer, frame.generation, frame.offset, frame.length))]

    def _on_done(self, frame: Done) -> list[Effect]:
        if self._done:
            raise _out_of_turn(frame)
        if frame.end != self.offer.end or self._next != self.offer.end:
            raise FrameRefused(f"the sender ends at {self._next}, and offered {self.offer.end}")
        self._done = True
        return self._if_complete()

    def _if_complete(self) -> list[Effect]:
        if not self._complete:
            return []
        self._state = _State.WHOLE
        return [Complete()]

    def on_accepted(self) -> list[Effect]:
        """The application has accepted the transfer."""
        if self._state is not _State.WHOLE:
            raise RuntimeError("on_accepted follows a Complete")
        self._state = _State.ENDED
        return [Send(Ack(self.offer.transfer, self.offer.generation))]
