"""What the core asks of the shell that drives it, and what it tells those who listen.

Effects are carried out in their order. ``Persist`` comes before the ``Send`` that makes the number public: a shell
that writes it down first never gives one incarnation two meanings.
"""

from __future__ import annotations

from collections.abc import Hashable

import msgspec

from edgeagent.gossip.records import Record
from edgeagent.gossip.states import State

__all__ = [
    "Arm",
    "Dial",
    "Effect",
    "Hangup",
    "MemberChanged",
    "NameFree",
    "NameTaken",
    "Notice",
    "Notify",
    "Persist",
    "RecordChanged",
    "RoundTrip",
    "Send",
    "StreamSend",
]


class Send(msgspec.Struct, frozen=True, gc=False):
    """One datagram to an address."""

    address: str
    data: bytes


class Dial(msgspec.Struct, frozen=True, gc=False):
    """Open a stream to an address and send ``data`` on it as its first frame. Frames that come back go to
    ``on_stream`` under ``stream``; failure and the end go to ``on_stream_closed``.
    """

    stream: int
    address: str
    data: bytes


class StreamSend(msgspec.Struct, frozen=True, gc=False):
    """One frame on an open stream."""

    stream: Hashable
    data: bytes


class Hangup(msgspec.Struct, frozen=True, gc=False):
    """The stream is over: send what is queued, then close it. ``on_stream_closed`` need not follow."""

    stream: Hashable


class Arm(msgspec.Struct, frozen=True, gc=False):
    """Call ``on_timer`` with ``token`` at ``at_s`` (monotonic). It replaces every earlier one."""

    token: int
    at_s: float


class Persist(msgspec.Struct, frozen=True, gc=False):
    """Our incarnation is now this: the next life must begin above it."""

    incarnation: int


class MemberChanged(msgspec.Struct, frozen=True):
    """A member is new (``before`` None), changed its state, or was forgotten (``after`` None). ``returns_at_s``: UTC
    time at which an occluded member is expected back, None where the plan names none.
    """

    name: str
    before: State | None
    after: State | None
    incarnation: int
    returns_at_s: float | None = None


class RecordChanged(msgspec.Struct, frozen=True):
    """A member's record of some section is new here."""

    record: Record


class NameTaken(msgspec.Struct, frozen=True):
    """Another process writes records under our name with our key: two nodes share one identity."""

    version: int


class NameFree(msgspec.Struct, frozen=True):
    """After ``NameTaken``: nobody else has written under our name for so long that the other one is gone."""


class RoundTrip(msgspec.Struct, frozen=True):
    """A member itself answered a probe of ours, after this time; its and our own slowness is in it."""

    name: str
    seconds: float


Notice = MemberChanged | RecordChanged | NameTaken | NameFree | RoundTrip


class Notify(msgspec.Struct, frozen=True):
    """For whoever listens: views, placement, logs."""

    notice: Notice


Effect = Send | Dial | StreamSend | Hangup | Arm | Persist | Notify
