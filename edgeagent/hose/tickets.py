"""Tickets: who may connect to the hose port, decided by the HTTP side, proven without sending the secret.

Rules:
1. A ticket is an id, a secret and a scope (which peer, how many bytes a transfer); it expires, and is good for a
   stated number of connections.
2. The client proves that it holds the secret by HMAC-SHA256 over both sides' nonces; so does the listener in return,
   under another label, so that neither proof can be played back to its maker.
3. Unknown, forged, expired and used-up tickets get one answer, after the same work.
4. Only a correct proof uses a ticket up; guessing cannot burn another's.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

import msgspec

from edgeagent.hose.errors import TicketRefused, TooManyPeers
from edgeagent.hose.frames import ID_BYTES, NONCE_BYTES

__all__ = ["SECRET_BYTES", "Scope", "Ticket", "TicketBook", "client_proof", "listener_proof", "proofs_equal"]

SECRET_BYTES = 32
_CLIENT = b"edgeagent hose client 1\0"
_LISTENER = b"edgeagent hose listener 1\0"
REFUSED = "the ticket is not accepted"


class Scope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a ticket is good for: the peer's node id, and the most bytes of one transfer."""

    peer: str
    transfer_bytes_max: int


class Ticket(msgspec.Struct, frozen=True):
    """What the HTTP side hands to the invited peer, over its own protected channel. The secret is never logged."""

    id: bytes
    secret: bytes
    expires_s: float  # by the clock of the issuing book
    scope: Scope

    def __repr__(self) -> str:
        return f"Ticket(id={self.id.hex()}, peer={self.scope.peer!r}, secret=...)"


def _proof(label: bytes, ticket: bytes, secret: bytes, client_nonce: bytes, listener_nonce: bytes) -> bytes:
    if len(ticket) != ID_BYTES or len(client_nonce) != NONCE_BYTES or len(listener_nonce) != NONCE_BYTES:
        raise ValueError("an id or a nonce of another length")  # lengths are fixed, so the parts cannot shift
    return hmac.new(secret, label + ticket + client_nonce + listener_nonce, hashlib.sha256).digest()


def client_proof(ticket: bytes, secret: bytes, client_nonce: bytes, listener_nonce: bytes) -> bytes:
    """What HELLO carries."""
    return _proof(_CLIENT, ticket, secret, client_nonce, listener_nonce)


def listener_proof(ticket: bytes, secret: bytes, client_nonce: bytes, listener_nonce: bytes) -> bytes:
    """What WELCOME carries."""
    return _proof(_LISTENER, ticket, secret, client_nonce, listener_nonce)


def proofs_equal(one: bytes, other: bytes) -> bool:
    """Compared in constant time."""
    return hmac.compare_digest(one, other)


class _Issued:
    __slots__ = ("ticket", "uses_left")

    def __init__(self, ticket: Ticket, uses_left: int) -> None:
        self.ticket = ticket
        self.uses_left = uses_left


class TicketBook:
    """The tickets that are out, at most ``tickets_max``. ``random_bytes(n)`` is ``secrets.token_bytes`` in a node."""

    def __init__(self, random_bytes: Callable[[int], bytes], *, tickets_max: int = 4096) -> None:
        self._random = random_bytes
        self._max = tickets_max
        self._out: dict[bytes, _Issued] = {}
        # The secret that a proof for an unknown ticket is compared with: nobody has it.
        self._nobody = random_bytes(SECRET_BYTES)

    def __len__(self) -> int:
        return len(self._out)

    def issue(self, scope: Scope, now_s: float, *, ttl_s: float = 60.0, uses: int = 1) -> Ticket:
        """A new ticket. Raises TooManyPeers when the book is full of tickets that still hold."""
        if uses < 1 or ttl_s <= 0 or scope.transfer_bytes_max < 0:
            raise ValueError("a ticket has at least one use, some time to live and no negative size")
        if len(self._out) >= self._max:
            self.expire(now_s)
        if len(self._out) >= self._max:
            raise TooManyPeers(f"{self._max} tickets are out", retry_after_s=ttl_s)
        ticket = Ticket(self._random(ID_BYTES), self._random(SECRET_BYTES), now_s + ttl_s, scope)
        if ticket.id in self._out:
            raise TooManyPeers("the source of chance repeats itself")
        self._out[ticket.id] = _Issued(ticket, uses)
        return ticket

    def admit(
        self, ticket: bytes, proof: bytes, client_nonce: bytes, listener_nonce: bytes, now_s: float
    ) -> Ticket:
        """The ticket that the proof is good for, with one use less. Raises TicketRefused; then nothing changed."""
        issued = self._out.get(ticket)
        secret = issued.ticket.secret if issued is not None else self._nobody
        good = proofs_equal(client_proof(ticket, secret, client_nonce, listener_nonce), proof)
        if issued is None or not good or now_s >= issued.ticket.expires_s:
            raise TicketRefused(REFUSED, hint="ask the node for a new one over HTTP")
        issued.uses_left -= 1
        if not issued.uses_left:
            del self._out[ticket]
        return issued.ticket

    def revoke(self, ticket: bytes) -> bool:
        """Take a ticket back; True if it was out."""
        return self._out.pop(ticket, None) is not None

    def expire(self, now_s: float) -> int:
        """Forget what has expired; returns how many."""
        gone = [id_ for id_, issued in self._out.items() if now_s >= issued.ticket.expires_s]
        for id_ in gone:
            del self._out[id_]
        return len(gone)
