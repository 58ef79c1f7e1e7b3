"""What is remembered of incoming transfers: bounds, resumption, doubles, and the note after delivery."""

from __future__ import annotations

import pytest

from edgeagent.hose.errors import (
    DuplicateTransfer,
    FrameRefused,
    NoRoom,
    StaleGeneration,
    TooManyPeers,
    TransferTooLarge,
)
from edgeagent.hose.frames import Data, Done, Offer
from edgeagent.hose.inbox import Entry, Inbox
from edgeagent.hose.transfer import stripe_of

ID = b"t" * 16
MAX = 1000


def _offer(
    generation: int = 0, total: int = 100, stripe: int = 0, stripes: int = 1, id_: bytes = ID
) -> Offer:
    return Offer(id_, generation, total, *stripe_of(total, stripes, stripe), stripe, stripes)


def _whole(inbox: Inbox, offer: Offer, at_s: float = 0.0) -> Entry:
    entry, receiver, _ = inbox.open("a", offer, MAX, at_s)
    receiver.on_offer(offer)
    if offer.length:
        receiver.on_message(
            Data(offer.transfer, offer.generation, offer.base, offer.length, offer.length, 0, bytes(16))
        )
        receiver.on_payload(good=True)
    receiver.on_message(Done(offer.transfer, offer.generation, offer.end))
    return entry


def test_a_suspended_transfer_is_found_again() -> None:
    inbox = Inbox(keep_s=10)
    entry, receiver, given_up = inbox.open("a", _offer(), MAX, 0.0)
    assert given_up == []
    inbox.suspend(entry, 0, 5.0)
    assert inbox.expire(14.9) == []
    again, same, _ = inbox.open("a", _offer(), MAX, 14.9)
    assert again is entry
    assert same is receiver
    assert inbox.expire(1000.0) == []  # a connection carries it
    inbox.suspend(entry, 0, 1000.0)
    assert inbox.expire(1010.0) == [entry]
    assert len(inbox) == inbox.held_bytes == 0


def test_another_peer_has_other_transfers() -> None:
    inbox = Inbox()
    one, _, _ = inbox.open("a", _offer(), MAX, 0.0)
    other, _, _ = inbox.open("b", _offer(total=50), MAX, 0.0)
    assert one is not other
    assert inbox.held_bytes == 150


@pytest.mark.parametrize(
    ("offer", "fault"),
    [
        (_offer(1), DuplicateTransfer),  # still coming in
        (_offer(0), StaleGeneration),
        (_offer(1, total=99), DuplicateTransfer),
        (_offer(1, stripes=2), DuplicateTransfer),
        (_offer(2), DuplicateTransfer),  # an earlier one is still active
        (_offer(1, total=MAX + 1), TransferTooLarge),
        (Offer(ID, 1, 100, 0, 60, 0, 2), FrameRefused),  # stripes that would overlap
    ],
)
def test_doubles_and_lies_are_refused(offer: Offer, fault: type[Exception]) -> None:
    inbox = Inbox()
    inbox.open("a", _offer(1), MAX, 0.0)
    with pytest.raises(fault):
        inbox.open("a", offer, MAX, 0.0)
    assert inbox.held_bytes == 100


def test_a_newer_generation_replaces_a_suspended_one() -> None:
    inbox = Inbox(held_bytes_max=150)
    old, _, _ = inbox.open("a", _offer(1), MAX, 0.0)
    inbox.suspend(old, 0, 0.0)
    with pytest.raises(NoRoom):
        inbox.open("a", _offer(2, total=151), MAX, 0.0)
    new, _, given_up = inbox.open("a", _offer(2, total=120), MAX, 0.0)
    assert given_up == [old]
    assert new is not old
    assert inbox.held_bytes == 120
    inbox.forget(old)  # late, and without effect
    assert inbox.held_bytes == 120


def test_memory_and_number_are_bounded() -> None:
    inbox = Inbox(transfers_max=2, held_bytes_max=150)
    inbox.open("a", _offer(), MAX, 0.0)
    with pytest.raises(NoRoom):
        inbox.open("a", _offer(id_=b"u" * 16), MAX, 0.0)
    inbox.open("a", _offer(id_=b"u" * 16, total=50), MAX, 0.0)
    with pytest.raises(TooManyPeers):
        inbox.open("a", _offer(id_=b"v" * 16, total=0), MAX, 0.0)
    assert len(inbox) == len(inbox.remembered()) == 2


def test_after_delivery_a_note_stays_and_holds_nothing() -> None:
    inbox = Inbox(held_bytes_max=100, keep_s=10)
    entry = _whole(inbox, _offer())
    assert entry.whole
    inbox.deliver(entry)
    inbox.deliver(entry)
    assert inbox.held_bytes == 0
    inbox.suspend(entry, 0, 0.0)
    again, receiver, _ = inbox.open("a", _offer(), MAX, 1.0)
    assert again.delivered
    assert receiver.verified == 100
    inbox.suspend(again, 0, 1.0)
    # The sender goes on to something else, so it knows.
    inbox.confirm(again, 0)
    assert len(inbox) == 0
    assert inbox.held_bytes == 0


def test_a_transfer_is_whole_when_all_stripes_are() -> None:
    inbox = Inbox()
    first = _whole(inbox, _offer(stripes=2))
    was_whole = first.whole
    assert _whole(inbox, _offer(stripes=2, stripe=1)) is first
    assert (was_whole, first.whole) == (False, True)
    assert inbox.held_bytes == 100
    inbox.deliver(first)
    inbox.confirm(first, 0)
    assert len(inbox) == 1
    inbox.confirm(first, 1)
    assert len(inbox) == 0


def test_what_is_here_already_is_taken_noted_and_acknowledged_again() -> None:
    inbox = Inbox(keep_s=10)
    entry = inbox.take("a", _offer(), MAX, 0.0)
    assert entry is not None
    assert inbox.held_bytes == 100
    assert inbox.take("a", _offer(), MAX, 0.0) is None  # it is known now
    assert inbox.take("b", _offer(id_=b"u" * 16), MAX, 0.0) is not None
    with pytest.raises(DuplicateTransfer, match="another connection"):
        inbox.open("a", _offer(), MAX, 1.0)
    inbox.deliver(entry)
    inbox.settle(entry, 5.0)
    assert inbox.held_bytes == 100  # the other's
    assert inbox.expire(14.9) == []
    again, receiver, _ = inbox.open("a", _offer(), MAX, 14.9)
    assert (again, receiver.verified) == (entry, 100)


def test_bounds_hold_for_what_is_here_already() -> None:
    inbox = Inbox(transfers_max=2, held_bytes_max=150)
    with pytest.raises(TransferTooLarge, match="101 bytes"):
        inbox.take("a", _offer(total=101), 100, 0.0)
    first = inbox.take("a", _offer(), MAX, 0.0)
    assert first is not None
    with pytest.raises(NoRoom):
        inbox.take("a", _offer(id_=b"u" * 16), MAX, 0.0)
    inbox.forget(first)
    assert inbox.held_bytes == 0
    for letter in (b"u", b"v"):
        assert inbox.take("a", _offer(total=10, id_=letter * 16), MAX, 0.0) is not None
    with pytest.raises(TooManyPeers):
        inbox.take("a", _offer(total=10), MAX, 0.0)
