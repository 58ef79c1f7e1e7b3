"""What can go wrong between two hosts' hoses: one class a fault, one number a class on the wire.

    EdgeError
    └── HoseFault 502             base; ``code`` is what an ABORT frame carries
        ├── FrameRefused          malformed bytes, or a frame out of turn; the connection ends, transfers can resume
        ├── VersionRefused        the other side speaks another version
        ├── TicketRefused 403     forged, expired, used up or unknown: one wording for all
        ├── PeerUntrusted         TLS: the other side's certificate is not one that we trust
        ├── LinkCut               the connection ended early; a transfer can resume
        ├── LinkStalled 504       no progress in time; a transfer can resume
        ├── ChecksumFailed        a frame came damaged twice, or the whole is not what was offered
        ├── TransferTooLarge 413  over what the ticket or the node allows
        ├── NoRoom 507            the receiver has no memory for it now; nothing was taken
        ├── StaleGeneration 409   a newer generation of this transfer is known
        ├── DuplicateTransfer 409 this transfer runs on another connection, or was offered with another length
        ├── TransferRefused 422   the receiving application refused it
        ├── TooManyPeers 429      a bound on connections or transfers is reached
        └── PlainLinkRefused 400  our own configuration: beyond loopback without TLS

A fault whose ``resumable`` is True leaves the transfer as it is: another connection can go on with it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar

from edgeagent.model.errors import EdgeError

__all__ = [
    "AbortCode",
    "ChecksumFailed",
    "DuplicateTransfer",
    "FrameRefused",
    "HoseFault",
    "LinkCut",
    "LinkStalled",
    "NoRoom",
    "PeerUntrusted",
    "PlainLinkRefused",
    "StaleGeneration",
    "TicketRefused",
    "TooManyPeers",
    "TransferRefused",
    "TransferTooLarge",
    "VersionRefused",
    "fault_of",
]


class AbortCode(IntEnum):
    """The numbers of an ABORT frame; they are part of the protocol and are never used again."""

    FAULT = 0
    PROTOCOL = 1
    VERSION = 2
    TICKET = 3
    CUT = 4
    STALLED = 5
    CHECKSUM = 6
    TOO_LARGE = 7
    NO_ROOM = 8
    STALE = 9
    DUPLICATE = 10
    REFUSED = 11
    BUSY = 12


class HoseFault(EdgeError):
    """Base of all faults between hosts; the bytes verified so far stay with the receiver unless said otherwise."""

    slug, status = "hose-failed", 502
    code: ClassVar[AbortCode] = AbortCode.FAULT
    resumable: ClassVar[bool] = False  # another connection may go on where this one stopped

    def __init__(self, message: str, *, from_peer: bool = False, **more: Any) -> None:
        super().__init__(message, **more)
        self.from_peer = from_peer  # the peer told us, so it need not be told


class FrameRefused(HoseFault):
    slug = "hose-frame-refused"
    code = AbortCode.PROTOCOL


class VersionRefused(HoseFault):
    slug = "hose-version-refused"
    code = AbortCode.VERSION


class TicketRefused(HoseFault):
    slug, status = "hose-ticket-refused", 403
    code = AbortCode.TICKET


class PeerUntrusted(HoseFault):
    slug = "hose-peer-untrusted"


class LinkCut(HoseFault):
    slug = "hose-link-cut"
    code, resumable = AbortCode.CUT, True


class LinkStalled(HoseFault):
    slug, status = "hose-link-stalled", 504
    code, resumable = AbortCode.STALLED, True


class ChecksumFailed(HoseFault):
    slug = "hose-checksum-failed"
    code = AbortCode.CHECKSUM


class TransferTooLarge(HoseFault):
    slug, status = "hose-transfer-too-large", 413
    code = AbortCode.TOO_LARGE


class NoRoom(HoseFault):
    slug, status = "hose-no-room", 507
    code = AbortCode.NO_ROOM


class StaleGeneration(HoseFault):
    slug, status = "hose-stale-generation", 409
    code = AbortCode.STALE


class DuplicateTransfer(HoseFault):
    slug, status = "hose-duplicate-transfer", 409
    code = AbortCode.DUPLICATE


class TransferRefused(HoseFault):
    slug, status = "hose-transfer-refused", 422
    code = AbortCode.REFUSED


class TooManyPeers(HoseFault):
    slug, status = "hose-too-many-peers", 429
    code = AbortCode.BUSY


class PlainLinkRefused(HoseFault):
    slug, status = "hose-plain-link-refused", 400


_BY_CODE: dict[int, type[HoseFault]] = {
    kind.code: kind
    for kind in (
        FrameRefused,
        VersionRefused,
        TicketRefused,
        LinkCut,
        LinkStalled,
        ChecksumFailed,
        TransferTooLarge,
        NoRoom,
        StaleGeneration,
        DuplicateTransfer,
        TransferRefused,
        TooManyPeers,
    )
}


def fault_of(code: int, text: str) -> HoseFault:
    """The error that a peer's ABORT stands for; a number of a later version becomes a plain HoseFault."""
    return _BY_CODE.get(code, HoseFault)(
        f"the other side ended it: {text or 'no reason given'}", from_peer=True
    )
