"""What comes from other hosts: the hose listener of a node, the tickets that invite to it, and the parcels."""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time

from edgeagent.hose.errors import NoRoom, PlainLinkRefused
from edgeagent.hose.remote import Delivery, RemoteListener, RemoteSettings, Scope
from edgeagent.model.errors import BadConfig, StorageFull, TooLarge
from edgeagent.node.hose_lines import Invitation
from edgeagent.node.meters import Meters
from edgeagent.node.parcels import Parcels
from edgeagent.node.shipments import NoHoses
from edgeagent.runtime.port import Engine, Payload

__all__ = ["RETURN_USES", "HoseInbox"]

TICKET_S = 60.0
PARCELS_MAX = 1024
RETURN_USES = 3  # connections for one output: after a cut there is nobody to ask for another ticket
_WILDCARDS = frozenset(("0.0.0.0", "::"))  # noqa: S104 - compared with


class HoseInbox:
    """On the event loop's thread, but for the engine's leases and for what arrives."""

    def __init__(
        self,
        engine: Engine,
        meters: Meters,
        *,
        transfer_bytes_max: int,
        held_bytes_max: int,
        keep_s: float,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.parcels: Parcels[Payload] = Parcels(
            count_max=PARCELS_MAX, bytes_max=held_bytes_max, keep_s=keep_s
        )
        self._transfer_bytes_max = transfer_bytes_max
        self._keep_s = keep_s
        self._expiring: asyncio.Task[None] | None = None
        self._listener = RemoteListener(
            RemoteSettings(held_bytes_max=held_bytes_max, keep_s=keep_s),
            engine.lease,
            self._deliver,
            clock=time.monotonic,
            random_bytes=secrets.token_bytes,
            tls=tls,
        )
        self._speaks_tls = tls is not None
        self.is_open = False
        self._gauges(meters)

    async def start(self, host: str, port: int) -> None:
        """Raises BadConfig where it cannot listen there, or where that is beyond loopback and there is no TLS."""
        try:
            await self._listener.start(host, port)
        except PlainLinkRefused as fault:
            raise BadConfig(
                f"hose.listen: {fault.message}",
                hint="make keys with edgeagent keys and name them in mesh.keys, or set hose.tls_cert, hose.tls_key "
                "and hose.tls_ca, or listen on 127.0.0.1",
            ) from None
        except OSError as error:
            raise BadConfig(
                f"hose.listen: cannot listen on {host}:{port}: {error.strerror or error}",
                hint="another process may have the port; port 0 takes any free one",
            ) from None
        self.is_open = True
        self._expiring = asyncio.create_task(self._expire())

    @property
    def host(self) -> str:
        """Where it listens; "" on all addresses of this machine, or nowhere."""
        host = self._listener.host if self.is_open else ""
        return "" if host in _WILDCARDS else host

    @property
    def port(self) -> int:
        """0 without a listener."""
        return self._listener.port if self.is_open else 0

    async def close(self) -> None:
        """Idempotent."""
        self.is_open = False
        if self._expiring is not None:
            self._expiring.cancel()
            await asyncio.gather(self._expiring, return_exceptions=True)
        await self._listener.stop()
        self.parcels.clear()

    def invite(self, peer: str, *, count: int = 0, uses: int = 1) -> Invitation:
        """A ticket for ``uses`` connections of this peer, which is about to send ``count`` bytes.

        Raises NoHoses, TooLarge and StorageFull where they would not fit, TooManyPeers.
        """
        if not self.is_open:
            raise NoHoses(
                "this node takes no hoses from other hosts", hint="its configuration has hose.listen = ''"
            )
        if count > self._transfer_bytes_max:
            raise TooLarge(
                f"{count} bytes are more than one transfer may have here: {self._transfer_bytes_max}",
                hint="hose.frame_bytes_max",
            )
        self.parcels.check_room(count)
        ticket = self._listener.issue_ticket(Scope(peer, self._transfer_bytes_max), ttl_s=TICKET_S, uses=uses)
        return Invitation(
            ticket=ticket.id.hex(),
            secret=ticket.secret.hex(),
            host=self.host,
            port=self.port,
            transfer_bytes_max=self._transfer_bytes_max,
            expires_s=TICKET_S,
            tls=self._speaks_tls,
        )

    def revoke(self, invitation: Invitation) -> None:
        """It will not be used any more."""
        self._listener.revoke_ticket(bytes.fromhex(invitation.ticket))

    async def _expire(self) -> None:
        """Drop what nobody came for."""
        while True:
            await asyncio.sleep(min(1.0, self._keep_s))
            self.parcels.expire(time.monotonic())

    def _deliver(self, delivery: Delivery) -> None:
        """On a thread of the listener's."""
        try:
            self.parcels.add(delivery.transfer.hex(), delivery.payload, time.monotonic())
        except StorageFull as error:
            raise NoRoom(error.message, retry_after_s=error.retry_after_s) from None

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
