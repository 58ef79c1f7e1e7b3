"""Offers whose pieces another offer is bringing: they wait for these, and not for ever."""

from __future__ import annotations

import msgspec

from edgeagent.state.effects import Look, StoreChunks
from edgeagent.state.entry import Entry, chunks_of
from edgeagent.state.hlc import Version
from edgeagent.state.messages import Chunks, Have, Offer, Part
from edgeagent.state.receiving import COMING_S
from tests.unit.state.replicator_rig import BIG, LARGE, UTC_MS, core, only, sent


def _offer(number: int, entry: Entry = LARGE) -> Offer:
    return Offer(number, number, (entry,))


def test_an_offer_waits_for_what_another_one_of_its_peer_brings() -> None:
    made = core("one", "two")
    again = msgspec.structs.replace(LARGE, version=Version(UTC_MS, 1, "me"))
    look = only(made.message("one", _offer(1)), Look)
    assert sent(made.looked(look.token, [], look.chunks)) == Have(1, 1, b"\x07")
    assert made.brings(LARGE.chunks[:1])
    look = only(made.message("one", _offer(2, again)), Look)
    assert not made.looked(look.token, [], look.chunks), "its pieces are coming"
    look = only(made.message("two", _offer(3, again)), Look)
    assert sent(made.looked(look.token, [], look.chunks)).missing == b"\x07", "this peer brings nothing yet"
    parts = tuple(Part(place, bytes(piece)) for place, piece in enumerate(chunks_of(BIG)))
    store = only(made.message("one", Chunks(4, 1, parts)), StoreChunks)
    look = only(made.stored(store.token), Look)
    assert sent(made.looked(look.token, [], ())) == Have(2, 2, b"\x00")


def test_an_offer_does_not_wait_for_a_peer_that_brings_nothing() -> None:
    made = core("one")
    look = only(made.message("one", _offer(1)), Look)
    made.looked(look.token, [], look.chunks)
    look = only(made.message("one", _offer(2)), Look)
    assert not made.looked(look.token, [], look.chunks)
    effects = made.tick(2.0, UTC_MS, free_bytes=10 << 20)
    assert not any(isinstance(effect, Look) for effect in effects)
    look = only(made.tick(2.0 + COMING_S, UTC_MS, free_bytes=10 << 20), Look)
    assert not made.brings(look.chunks)
    assert sent(made.looked(look.token, [], look.chunks)) == Have(2, 2, b"\x07")
