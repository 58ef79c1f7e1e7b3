"""Tickets: what is admitted, what is refused, and that refusals do not differ."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.hose import checksum
from edgeagent.hose.checksum import Checksum, check_of, choose, key_of, nonce_of
from edgeagent.hose.errors import FrameRefused, TicketRefused, TooManyPeers
from edgeagent.hose.tickets import Scope, Ticket, TicketBook, client_proof, listener_proof, proofs_equal

SCOPE = Scope("node-a", 1 << 20)
CN, LN = b"c" * 16, b"l" * 16


def _book(**more: int) -> TicketBook:
    return TicketBook(random.Random(1).randbytes, **more)


def _proof(ticket: Ticket) -> bytes:
    return client_proof(ticket.id, ticket.secret, CN, LN)


def test_a_ticket_is_good_once() -> None:
    book = _book()
    ticket = book.issue(SCOPE, 10.0)
    assert book.admit(ticket.id, _proof(ticket), CN, LN, 11.0) == ticket
    assert len(book) == 0
    with pytest.raises(TicketRefused):
        book.admit(ticket.id, _proof(ticket), CN, LN, 11.0)


def test_a_ticket_is_good_as_often_as_it_says() -> None:
    book = _book()
    ticket = book.issue(SCOPE, 0.0, uses=3)
    for _ in range(3):
        assert book.admit(ticket.id, _proof(ticket), CN, LN, 1.0).scope == SCOPE
    with pytest.raises(TicketRefused):
        book.admit(ticket.id, _proof(ticket), CN, LN, 1.0)


def test_all_refusals_say_the_same() -> None:
    book = _book()
    good, used = book.issue(SCOPE, 0.0, ttl_s=10), book.issue(SCOPE, 0.0)
    book.admit(used.id, _proof(used), CN, LN, 1.0)
    revoked = book.issue(SCOPE, 0.0)
    assert book.revoke(revoked.id)
    assert not book.revoke(revoked.id)
    attempts = {
        "expired": (good.id, _proof(good), CN, LN, 10.0),
        "forged": (good.id, b"\0" * 32, CN, LN, 1.0),
        "empty": (good.id, b"", CN, LN, 1.0),
        "other nonce": (good.id, _proof(good), LN, CN, 1.0),
        "listener's proof played back": (good.id, listener_proof(good.id, good.secret, CN, LN), CN, LN, 1.0),
        "another's secret": (good.id, client_proof(good.id, used.secret, CN, LN), CN, LN, 1.0),
        "unknown": (b"?" * 16, _proof(good), CN, LN, 1.0),
        "used": (used.id, _proof(used), CN, LN, 1.0),
        "revoked": (revoked.id, _proof(revoked), CN, LN, 1.0),
    }
    said = set()
    for attempt in attempts.values():
        with pytest.raises(TicketRefused) as caught:
            book.admit(*attempt)
        said.add((caught.value.message, caught.value.hint, caught.value.status))
    assert len(said) == 1
    # And none of them used the good one up.
    assert book.admit(good.id, _proof(good), CN, LN, 9.9) == good


def test_the_book_is_bounded_and_expired_tickets_make_room() -> None:
    book = _book(tickets_max=3)
    for at in (0.0, 1.0, 2.0):
        book.issue(SCOPE, at, ttl_s=10)
    with pytest.raises(TooManyPeers):
        book.issue(SCOPE, 9.0)
    book.issue(SCOPE, 10.0)
    assert len(book) == 3
    assert book.expire(100.0) == 3
    assert len(book) == 0


def test_a_source_of_chance_that_repeats_is_noticed() -> None:
    book = TicketBook(bytes)
    book.issue(SCOPE, 0.0)
    with pytest.raises(TooManyPeers):
        book.issue(SCOPE, 0.0)


@pytest.mark.parametrize(("ttl_s", "uses", "size"), [(0.0, 1, 1), (1.0, 0, 1), (1.0, 1, -1)])
def test_a_ticket_without_use_is_a_mistake(ttl_s: float, uses: int, size: int) -> None:
    with pytest.raises(ValueError, match="at least one use"):
        _book().issue(Scope("a", size), 0.0, ttl_s=ttl_s, uses=uses)


def test_lengths_in_a_proof_are_fixed() -> None:
    with pytest.raises(ValueError, match="another length"):
        client_proof(b"x" * 15, b"s", CN, LN)


def test_a_secret_is_not_printed() -> None:
    ticket = _book().issue(SCOPE, 0.0)
    assert ticket.secret.hex() not in repr(ticket)
    assert repr(ticket.secret) not in repr(ticket)


def test_the_two_proofs_differ() -> None:
    ticket = _book().issue(SCOPE, 0.0)
    assert not proofs_equal(_proof(ticket), listener_proof(ticket.id, ticket.secret, CN, LN))
    assert proofs_equal(_proof(ticket), _proof(ticket))


NONCE = nonce_of(1, 0, resent=False)


@given(st.binary(min_size=1, max_size=5000), st.data())
@pytest.mark.parametrize("kind", [Checksum.CRC32, Checksum.GMAC])
def test_a_check_finds_a_changed_byte(kind: Checksum, payload: bytes, data: st.DataObject) -> None:
    check = check_of(kind, key_of(b"s" * 32, CN, LN))
    assert check(payload, NONCE) == check(memoryview(bytearray(payload)), NONCE)
    changed = bytearray(payload)
    changed[data.draw(st.integers(0, len(payload) - 1))] ^= 1
    assert check(payload, NONCE) != check(changed, NONCE)


def test_gmac_is_bound_to_connection_transfer_and_place() -> None:
    check, other = (check_of(Checksum.GMAC, key_of(b"s" * 32, *nonces)) for nonces in ((CN, LN), (LN, CN)))
    nonces = {
        nonce_of(n, at, resent=again) for n in (1, 2) for at in (0, 1, 1 << 48) for again in (False, True)
    }
    assert len(nonces) == 12
    assert len({check(b"x", nonce) for nonce in nonces} | {other(b"x", NONCE)}) == 13


def test_the_checksum_is_agreed_on() -> None:
    first = Checksum.CRC32_FIRST
    assert choose(3, checksum.ALL) is Checksum.GMAC
    assert choose(0xFFFD, checksum.ALL) is Checksum.CRC32
    assert choose(3, Checksum.CRC32) is Checksum.CRC32
    assert choose(7, checksum.ALL) is Checksum.GMAC
    assert choose(7, checksum.ALL | first) is Checksum.CRC32
    for nothing in (0, 4, 8):
        with pytest.raises(FrameRefused):
            choose(nothing, checksum.ALL | first)
    for unknown in (0, 3, 4, 8):
        with pytest.raises(FrameRefused):
            check_of(unknown, b"k" * 16)
