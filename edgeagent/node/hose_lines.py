"""Connections to other nodes' hose listeners: where they lead, and the tickets that open them."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from edgeagent.hose.errors import HoseFault, LinkCut
from edgeagent.hose.frames import ID_BYTES
from edgeagent.hose.remote import RemoteClient, RemoteSettings, Scope, SendReport, Ticket
from edgeagent.hose.remote_link import is_loopback
from edgeagent.hose.tickets import SECRET_BYTES
from edgeagent.model.errors import EdgeError, PeerFailed

__all__ = [
    "Address",
    "BackLine",
    "Invitation",
    "Line",
    "NoTicket",
    "PeerLine",
    "TicketRequest",
    "address_of",
    "is_here",
]

# Who asked waits, and takes the bytes over HTTP as well: no long tries.
_BACK_SETTINGS = RemoteSettings(retries=2, retry_wait_s=0.05)


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket as it travels over HTTP: id and secret are hexadecimal; ``host`` and ``port`` are where to go with it,
    host "" for the one that was asked, or that asks.
    """

    ticket: str
    secret: str
    port: Annotated[int, Meta(ge=1, le=65535)]
    transfer_bytes_max: Annotated[int, Meta(ge=0)]
    expires_s: float  # from now
    host: Annotated[str, Meta(pattern=r"^[A-Za-z0-9.:%_-]{0,253}$(?!\n)")] = ""
    tls: bool | None = None  # None, of older nodes: as who asks has it configured

    def as_ticket(self, peer: str) -> Ticket:
        """For the hose client. Raises NoTicket where it is none."""
        try:
            id_, secret = bytes.fromhex(self.ticket), bytes.fromhex(self.secret)
        except ValueError:
            id_ = secret = b""
        if len(id_) != ID_BYTES or len(secret) != SECRET_BYTES:
            raise NoTicket(PeerFailed(f"the peer {peer} answered with no ticket", peer=peer))
        return Ticket(id_, secret, self.expires_s, Scope(peer, self.transfer_bytes_max))


class TicketRequest(msgspec.Struct, frozen=True):
    """Which node asks for a ticket, and how many bytes it is about to send."""

    peer: str
    bytes: Annotated[int, Meta(ge=0, le=1 << 62)] = 0


class Address(msgspec.Struct, frozen=True):
    """Where a listener is; ``name`` is what its certificate is for."""

    host: str
    port: int
    name: str
    tls: bool | None = None


class NoTicket(HoseFault):
    """There is no ticket for another connection, for the reason ``error``; trying again would not help."""

    def __init__(self, error: EdgeError) -> None:
        super().__init__(error.message)
        self.error = error


def is_here(host: str) -> bool:
    """Whether it is an address of this machine alone, or the name of one."""
    return host == "localhost" or is_loopback(host)


def address_of(asked: str, invitation: Invitation) -> Address | None:
    """Where the listener of the node that was asked at the host ``asked`` is; None where it cannot be reached: it
    listens on a loopback which is not ours.
    """
    host = invitation.host or asked
    if is_here(host) and not is_here(asked):
        return None
    name = asked if is_here(host) or not is_here(asked) else host
    return Address(host, invitation.port, name, invitation.tls)


class Line:
    """To one listener. A line that is retired is closed when nobody sends over it any more."""

    def __init__(
        self, address: Address, tls: ssl.SSLContext | None, settings: RemoteSettings | None = None
    ) -> None:
        self.address = address
        self._users = 0
        self._is_retired = False
        self._client = RemoteClient(
            address.host,
            address.port,
            self._ticket,
            settings or RemoteSettings(),
            random_bytes=secrets.token_bytes,
            tls=None if address.tls is False else tls,
            server_hostname=address.name,
        )

    async def send(
        self, data: bytes | memoryview, transfer: bytes | None = None, *, is_new: bool = False
    ) -> SendReport:
        """One transfer at a time; the others wait. Raises HoseFault, after which the line can be used again.

        ``is_new``: the id ``transfer`` was never sent with before.
        """
        self._users += 1
        try:
            return await self._client.send(data, transfer=transfer, is_new=is_new)
        finally:
            self._users -= 1
            if self._is_retired and not self._users:
                await self._client.close()

    async def retire(self) -> None:
        """Nobody begins to send any more."""
        self._is_retired = True
        if not self._users:
            await self._client.close()

    async def close(self) -> None:
        """The end, after the transfer that is running."""
        await self._client.close()

    async def _ticket(self) -> Ticket:
        raise NotImplementedError


class PeerLine(Line):
    """To a configured peer; ``ask`` gets a ticket from it and the address that it is for, and raises EdgeError."""

    def __init__(
        self,
        address: Address,
        first: Ticket,
        ask: Callable[[], Awaitable[tuple[Address, Ticket]]],
        tls: ssl.SSLContext | None,
    ) -> None:
        super().__init__(address, tls)
        self.has_moved = False  # the peer was started again, and listens elsewhere
        self._first: Ticket | None = first
        self._ask = ask

    async def _ticket(self) -> Ticket:
        first, self._first = self._first, None
        if first is not None:
            return first
        try:
            address, ticket = await self._ask()
        except PeerFailed as error:  # it may come back within the tries
            raise LinkCut(error.message) from None
        except EdgeError as error:
            raise NoTicket(error) from None
        if address != self.address:
            self.has_moved = True
            raise NoTicket(PeerFailed("the peer listens elsewhere now"))
        return ticket


class BackLine(Line):
    """To who asked for an output: opened by the tickets that came with the requests that are under way."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None) -> None:
        super().__init__(address, tls, _BACK_SETTINGS)
        self._tickets: list[Ticket] = []

    async def send_with(self, ticket: Ticket, uses: int, data: bytes | memoryview) -> SendReport:
        """``send``, for which the ticket may be used this often. Raises HoseFault."""
        self._tickets += [ticket] * uses
        try:
            return await self.send(data)
        finally:
            self._tickets = [one for one in self._tickets if one is not ticket]

    async def _ticket(self) -> Ticket:
        if not self._tickets:
            raise NoTicket(PeerFailed("no ticket is left for another connection"))
        return self._tickets.pop()
