"""What a shell can ask of the core."""

from __future__ import annotations

import msgspec

__all__ = [
    "Adopt",
    "Ask",
    "Command",
    "Join",
    "Leave",
    "PlanChanged",
    "Publish",
    "ReportLag",
    "Restore",
    "SetNeighbours",
    "SetUtc",
]


class Ask(msgspec.Struct, frozen=True):
    """Exchange with a member now: it may have records that are newer than ours."""

    name: str


class Join(msgspec.Struct, frozen=True):
    """Exchange with the nodes at these addresses, now, and again while we are alone or nobody from there is known."""

    addresses: tuple[str, ...]


class Leave(msgspec.Struct, frozen=True):
    """Say farewell. The shell goes on driving the core for a second or two, so that it is heard, then stops."""


class Publish(msgspec.Struct, frozen=True):
    """Our record of a section (not the identity) is now ``payload`` (:func:`records.write_payload`)."""

    section: int
    payload: bytes


class SetNeighbours(msgspec.Struct, frozen=True):
    """The nodes that the link graph has next to us, for load; None where nobody knows."""

    names: tuple[str, ...] | None


class SetUtc(msgspec.Struct, frozen=True):
    """UTC now is monotonic now plus this, seconds; None while the clock is not synchronised (no predictions then).
    Repeated when the clock is set.
    """

    utc_minus_monotonic_s: float | None


class PlanChanged(msgspec.Struct, frozen=True):
    """The contact plan answers differently than before about these members (new elements of theirs), or about everybody
    (None: ours are new): returns that were computed are looked up again.
    """

    names: tuple[str, ...] | None = None


class ReportLag(msgspec.Struct, frozen=True):
    """The event loop was late by this, seconds: our own slowness, not others' deaths."""

    lag_s: float


class Restore(msgspec.Struct, frozen=True):
    """Records that were known before a restart, as their ``blob``: they need no exchange."""

    blobs: tuple[bytes, ...]


class Adopt(msgspec.Struct, frozen=True):
    """A record that somebody else wrote for a member and that the shell got by another way: an ephemeris."""

    blob: bytes


Command = Adopt | Ask | Join | Leave | PlanChanged | Publish | SetNeighbours | SetUtc | ReportLag | Restore
