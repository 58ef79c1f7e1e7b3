"""What comes from other hosts: the hose listener of a node, the tickets that invite to it, and the parcels."""

from __future__ import annotations

import secrets
import ssl
import time

import msgspec

from edgeagent.hose.remote import Delivery, RemoteListener, RemoteSettings, Scope
from edgeagent.model.errors import BadConfig, Unavailable
from edgeagent.node.meters import Meters
from edgeagent.node.parcels import Parcels
from edgeagent.runtime.port import Engine, Payload

__all__ = ["HoseInbox", "Invitation"]

TICKET_S = 60.0
KEEP_S = 60.0
PARCELS_MAX = 1024


class Invitation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ticket as it travels over HTTP: hexadecimal, and where to go with it, at the host that was asked."""

    ticket: str
    secret: str
    port: int
    transfer_bytes_max: int
    expires_s: float  # from now


class HoseInbox:
    """On the event loop's thread, but for the engine's leases."""

    def __init__(
        self,
        engine: Engine,
        meters: Meters,
        *,
        transfer_bytes_max: int,
        held_bytes_max: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.parcels: Parcels[Payload] = Parcels(
            count_max=PARCELS_MAX, bytes_max=held_bytes_max, keep_s=KEEP_S
        )
        self._transfer_bytes_max = transfer_bytes_max
        self._listener = RemoteListener(
            RemoteSettings(held_bytes_max=held_bytes_max),
            engine.lease,
            self._deliver,
            clock=time.monotonic,
            random_bytes=secrets.token_bytes,
            tls=tls,
        )
        self.is_open = False
        self._gauges(meters)

    async def start(self, host: str, port: int) -> None:
        """Raises BadConfig where it cannot listen there, PlainLinkRefused beyond loopback without TLS."""
        try:
            await self._listener.start(host, port)
        except OSError as error:
            raise BadConfig(
                f"hose.listen: cannot listen on {host}:{port}: {error.strerror or error}",
                hint="another process may have the port; port 0 takes any free one",
            ) from None
        self.is_open = True

    @property
    def port(self) -> int:
        """0 without a listener."""
        return self._listener.port if self.is_open else 0

    async def close(self) -> None:
        """Idempotent."""
        self.is_open = False
        await self._listener.stop()
        self.parcels.clear()

    def invite(self, peer: str) -> Invitation:
        """A ticket for one connection of this peer. Raises Unavailable, TooManyPeers."""
        if not self.is_open:
            raise Unavailable(
                "this node takes no hoses from other hosts",
                hint="its configuration has hose.listen = ''",
                no_hoses=True,
            )
        ticket = self._listener.issue_ticket(Scope(peer, self._transfer_bytes_max), ttl_s=TICKET_S)
        return Invitation(
            ticket=ticket.id.hex(),
            secret=ticket.secret.hex(),
            port=self.port,
            transfer_bytes_max=self._transfer_bytes_max,
            expires_s=TICKET_S,
        )

    def revoke(self, invitation: Invitation) -> None:
        """It will not be used any more."""
        self._listener.revoke_ticket(bytes.fromhex(invitation.ticket))

    def expire(self) -> None:
        """Drop what nobody came for."""
        self.parcels.expire(time.monotonic())

    async def _deliver(self, delivery: Delivery) -> None:
        self.parcels.add(delivery.transfer.hex(), delivery.payload, time.monotonic())

    def _gauges(self, meters: Meters) -> None:
        stats = self._listener.stats
        meters.gauge("hose_parcels", "payloads from other hosts that wait here", lambda: len(self.parcels))
        meters.gauge("hose_parcels_bytes", "their bytes", lambda: self.parcels.bytes)
        for name, doc, field in (
            ("hose_remote_received", "transfers from other hosts", "transfers"),
            ("hose_remote_received_bytes", "their bytes, verified", "bytes"),
            ("hose_remote_resumes", "transfers that went on after a cut", "resumes"),
            ("hose_remote_damaged_frames", "frames that were asked for again", "frames_again"),
            ("hose_remote_expired", "unfinished transfers that nobody came back for", "expired"),
            ("hose_remote_connections", "connections of other hosts", "connections"),
            ("hose_remote_refused", "of those that a bound refused", "connections_refused"),
            ("hose_remote_tickets_refused", "forged, expired or used-up tickets", "tickets_refused"),
            ("hose_remote_faults", "connections that ended by a fault", "faults"),
        ):
            meters.counter(name, doc, lambda field=field: getattr(stats, field))  # type: ignore[misc]
