"""The bounds of cross-host hoses, and the rule on where plain connections are allowed."""

from __future__ import annotations

from typing import Literal

import msgspec

from edgeagent.hose.errors import PlainLinkRefused
from edgeagent.hose.remote_link import is_loopback

__all__ = ["ListenerStats", "RemoteSettings", "SendReport", "check_plain"]

_MIB = 1 << 20


class RemoteSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of a listener and of a client.

    ``payload_bytes``: of one frame; larger costs fewer calls, smaller makes a damaged frame cheaper and lets a slow
    link keep ``stall_s``, within which one frame must pass (2 MiB in 30 s is 70 kB/s).
    ``window_bytes``: sent and not verified; at least the product of bandwidth and round trip.
    ``held_bytes_max``: buffers of all unfinished transfers. ``keep_s``: how long a cut transfer can be resumed.
    ``streams``: connections for one transfer of at least ``stripe_bytes_min``.
    ``retries``: connections in a row that may bring no progress before a transfer fails; the wait before each is
    ``retry_wait_s``, doubled each time.
    """

    connections_max: int = 64
    handshakes_max: int = 16
    handshakes_max_per_host: int = 8
    tickets_max: int = 4096
    transfers_max: int = 1024
    held_bytes_max: int = 1024 * _MIB
    payload_bytes: int = 2 * _MIB
    window_bytes: int = 32 * _MIB
    handshake_s: float = 5.0
    stall_s: float = 30.0
    idle_s: float = 300.0
    ack_s: float = 60.0
    keep_s: float = 60.0
    streams: int = 1
    stripe_bytes_min: int = 64 * _MIB
    retries: int = 3
    retry_wait_s: float = 0.2
    compression: Literal["auto", "never", "always"] = "auto"


class ListenerStats(msgspec.Struct):
    """What a listener has seen since its start."""

    connections: int = 0
    connections_refused: int = 0  # by a bound
    tickets_refused: int = 0
    faults: int = 0  # connections that ended by one
    transfers: int = 0  # delivered
    bytes: int = 0  # of payload, raw, verified
    resumes: int = 0
    frames_again: int = 0
    expired: int = 0


class SendReport(msgspec.Struct, frozen=True):
    """One transfer as its sender saw it: raw bytes sent (more than ``length`` after cuts), bytes on the wire, ..."""

    transfer: bytes
    length: int
    sent_bytes: int
    stored_bytes: int
    connections: int  # opened for it; 0 where all were there already
    resumes: int = 0  # times that it went on after a cut


def check_plain(host: str) -> None:
    """Raises PlainLinkRefused where ``host``, an address, is not of the loopback."""
    if not is_loopback(host):
        raise PlainLinkRefused(
            f"hoses at {host} would be open to the network without TLS",
            hint="give the node a certificate, a key and its peers' authority (see docs/hose-wire.md, TLS), "
            "or keep hoses on 127.0.0.1",
        )
