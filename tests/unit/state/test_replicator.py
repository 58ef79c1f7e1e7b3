"""The replicator by itself: what it asks for, whom it believes, and what it does not let others make it do."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from edgeagent.model.errors import Busy
from edgeagent.state.effects import (
    Arrived,
    Commit,
    Effect,
    Load,
    Look,
    MayDrop,
    NetworkView,
    PeerView,
    Persist,
    ReadPieces,
    Send,
    Settled,
    StoreChunks,
)
from edgeagent.state.entry import Durability, Entry, chunks_of, entry_of
from edgeagent.state.hlc import Version
from edgeagent.state.keys import CHUNK_BYTES
from edgeagent.state.messages import (
    Ack,
    Chunks,
    Coming,
    CommitRequest,
    Custody,
    Have,
    Offer,
    Part,
    Refusal,
    Release,
    Released,
    Want,
    seal_of,
)
from edgeagent.state.obligations import ERRANDS_MAX
from edgeagent.state.receiving import IDLE_S, OFFERS_PER_PEER_MAX
from edgeagent.state.replicator import MARK, Replicator
from edgeagent.state.targets import choose, hand_off_begins_ms, ranked
from tests.unit.state.replicator_rig import AT, BIG, LARGE, UTC_MS, core, only, sent

ENTRY = entry_of("a/k", b"v", AT)


def load(made: Replicator, effects: list[Effect], *entries: Entry) -> list[Effect]:
    return made.loaded(only(effects, Load).token, entries)


def give(
    made: Replicator, peer: str, effects: list[Effect], *entries: Entry, is_ground: bool = False
) -> list[Effect]:
    """The peer takes what it is asked to."""
    request = sent(effects)
    assert isinstance(request, CommitRequest)
    seal = seal_of(request.transfer, entries)
    return made.message(peer, Custody(request.ask, request.transfer, seal, is_ground))


def test_a_write_goes_to_one_other_node_and_is_settled_there() -> None:
    made = core("one")
    effects = load(made, made.wrote([ENTRY]), ENTRY)
    assert made.level_of("a/k", AT) is Durability.LOCAL
    settled = only(give(made, "one", effects, ENTRY), Settled)
    assert settled == Settled("a/k", AT, Durability.PEER)
    assert made.level_of("a/k", AT) is None
    assert made.status().keys_owed == 0


def test_ground_is_reached_on_the_ground_alone() -> None:
    made = core("one", "earth", ground="earth")
    effects = made.wrote([ENTRY], durability=Durability.GROUND)
    effects = load(made, effects, ENTRY)
    assert only(effects, Send).peer == "earth"
    assert only(give(made, "earth", effects, ENTRY, is_ground=True), Settled).durability is Durability.GROUND


def test_one_copy_is_enough_where_the_configuration_says_so() -> None:
    assert not core("one", copies=1).wrote([ENTRY])


@pytest.mark.parametrize("refused", [Refusal.QUOTA, Refusal.CLOCK, Refusal.STORE])
def test_what_one_refuses_another_is_asked(refused: Refusal) -> None:
    made = core("one", "two")
    effects = load(made, made.wrote([ENTRY]), ENTRY)
    first = only(effects, Send)
    assert isinstance(first.message, CommitRequest)
    made.message(first.peer, Custody(first.message.ask, first.message.transfer, refused=refused))
    effects = load(made, made.tick(5.0, UTC_MS, free_bytes=0), ENTRY)
    assert only(effects, Send).peer == ({"one", "two"} - {first.peer}).pop()


def test_of_several_that_are_refused_together_each_is_tried_by_itself() -> None:
    made = core("one")
    other = entry_of("a/other", b"w", AT)
    made.network(NetworkView({}))
    made.wrote([ENTRY])
    made.wrote([other])
    effects = made.network(NetworkView({"one": PeerView()}))
    request = sent(load(made, effects, ENTRY, other))
    assert [entry.key for entry in request.entries] == ["a/k", "a/other"]
    effects = made.message("one", Custody(request.ask, request.transfer, refused=Refusal.CLOCK))
    assert [effect.keys for effect in effects if isinstance(effect, Load)] == [("a/k",), ("a/other",)]


def test_custody_counts_only_from_whom_was_asked_for_what_was_asked() -> None:
    made = core("one")
    effects = load(made, made.wrote([ENTRY]), ENTRY)
    request = sent(effects)
    good = Custody(request.ask, request.transfer, seal_of(request.transfer, (ENTRY,)))
    assert not made.message("mallory", good)
    assert not made.message("one", Custody(request.ask + 1, request.transfer, good.seal))
    assert not made.message("one", Ack(request.ask, request.transfer))
    assert made.status().counts["replies_unasked"] == 3
    assert not made.message("one", Custody(request.ask, request.transfer, bytes(16)))
    assert made.status().counts["custody_forged"] == 1
    assert not made.message("one", good)  # it was answered already
    assert made.status().keys_owed == 1


def test_a_request_that_fails_is_made_again_later_and_not_for_ever() -> None:
    made = core("one")
    effects = load(made, made.wrote([ENTRY]), ENTRY)
    now_s, tries = 1.0, 0
    while now_s < 600.0:
        sends = [
            effect
            for effect in effects
            if isinstance(effect, Send) and isinstance(effect.message, CommitRequest)
        ]
        for one in sends:
            tries += 1
            assert isinstance(one.message, CommitRequest)
            made.failed(one.message)
        now_s += 0.5
        effects = made.tick(now_s, UTC_MS, free_bytes=0)
        if any(isinstance(effect, Load) for effect in effects):
            effects = load(made, effects, ENTRY)
    assert 10 < tries < 30
    # A new contact begins anew.
    made.network(NetworkView({}))
    effects = made.network(NetworkView({"one": PeerView()}))
    assert only(effects, Load).keys == ("a/k",)


def test_what_is_not_held_any_more_is_not_owed() -> None:
    made = core("one")
    expired = msgspec.structs.replace(ENTRY, expires_ms=UTC_MS - 1)
    assert not load(made, made.wrote([ENTRY]), expired)
    assert made.status().keys_owed == 0


def test_large_values_go_in_pieces_and_only_those_that_are_missing() -> None:
    made = core("one")
    effects = load(made, made.wrote([LARGE]), LARGE)
    offer = sent(effects)
    assert isinstance(offer, Offer)
    effects = made.message("one", Have(offer.ask, offer.transfer, b"\x06"))
    wanted = only(effects, ReadPieces)
    assert wanted.pieces == ((LARGE.chunks[1], ""), (LARGE.chunks[2], ""))
    pieces = [bytes(piece) for piece in chunks_of(BIG)]
    chunks = sent(made.read(wanted.token, pieces[1:]))
    assert chunks.parts == (Part(1, pieces[1]), Part(2, pieces[2]))
    effects = made.message("one", Ack(chunks.ask, chunks.transfer, (1, 2)))
    assert only(give(made, "one", effects, LARGE), Settled).key == "a/large"
    assert made.status().flying_bytes == 0


def test_what_cannot_be_read_here_is_tried_again() -> None:
    made = core("one")
    effects = made.wrote([LARGE])
    assert not made.loaded(only(effects, Load).token, None)
    effects = load(made, made.tick(9.0, UTC_MS, free_bytes=0), LARGE)
    offer = sent(effects)
    effects = made.message("one", Have(offer.ask, offer.transfer, b"\x07"))
    assert not made.read(only(effects, ReadPieces).token, None)
    assert made.status().counts["transfers_failed_store"] == 2
    assert only(made.tick(30.0, UTC_MS, free_bytes=0), Load).keys == ("a/large",)


def test_writes_that_share_a_key_become_one() -> None:
    made = core()
    later = Version(UTC_MS + 1, 0, "me")
    made.wrote([ENTRY, entry_of("a/x", b"1", AT)])
    made.wrote([entry_of("a/k", b"w", later), entry_of("a/y", b"2", later)])
    effects = made.network(NetworkView({"one": PeerView()}))
    assert set(only(effects, Load).keys) == {"a/k", "a/x", "a/y"}
    assert made.status().keys_owed == 3


def test_what_is_owed_outlives_the_process() -> None:
    made = core()
    made.wrote([ENTRY], seq=5)
    assert not made.tick(1.5, UTC_MS, free_bytes=0)
    notes = only(made.tick(2.5, UTC_MS, free_bytes=0), Persist).notes
    assert {name: note for name, note in notes.items() if name != MARK}
    kept = {name: note for name, note in notes.items() if note is not None}
    assert Replicator.mark_of(kept) == 5
    assert Replicator.mark_of({}) == 0

    again = Replicator("me", life=8)
    again.restore({**kept, "0" * 16: b"nonsense", "short": b""}, [(6, entry_of("a/new", b"n", AT))])
    assert again.status().keys_owed == 2
    assert again.status().counts["notes_damaged"] == 2
    again.tick(1.0, UTC_MS, free_bytes=0)
    effects = again.network(NetworkView({"one": PeerView()}))
    effects = again.loaded(only(effects, Load).token, [ENTRY, entry_of("a/new", b"n", AT)])
    give(again, "one", effects, ENTRY, entry_of("a/new", b"n", AT))
    gone = only(again.tick(9.0, UTC_MS, free_bytes=0), Persist).notes
    assert all(gone[name] is None for name in kept if name != MARK)


def test_a_push_arrives_and_counts_as_a_copy() -> None:
    made = core("one", "two")
    first = ranked("a", ["one", "two"])[0]
    other = ({"one", "two"} - {first}).pop()
    effects = made.wrote([ENTRY])
    effects = made.push({"a/k": AT}, other)
    effects = give(made, other, load(made, effects, ENTRY), ENTRY)
    assert only(effects, Arrived) == Arrived(other, (("a/k", AT),))
    assert made.status().keys_owed == 0


def test_pushes_are_bounded() -> None:
    made = core()
    for at in range(ERRANDS_MAX):
        made.push({f"a/{at}": AT}, "nobody")
    with pytest.raises(Busy):
        made.push({"a/x": AT}, "nobody")
    with pytest.raises(Busy):
        made.evict({"a/x": AT})


def test_a_push_that_is_far_too_late_is_given_up() -> None:
    made = core()
    made.push({"a/k": AT}, "one", by_utc_ms=UTC_MS + 1000)
    made.tick(9000.0, UTC_MS + 9_000_000, free_bytes=0)
    assert made.status().errands == 0
    assert made.status().counts["errands_given_up"] == 1


def test_a_hand_off_begins_in_time_and_goes_to_who_stays() -> None:
    made = core()
    set_ms = UTC_MS + 100_000
    leaves = PeerView(rate_bit_s=8e6, rtt_s=0.1, until_utc_ms=set_ms - 50_000)
    stays = PeerView(rate_bit_s=8e6, rtt_s=0.1, until_utc_ms=set_ms + 50_000)
    made.network(NetworkView({"leaves": leaves, "stays": stays}))
    begins_ms = hand_off_begins_ms(1_000_000, stays, set_ms)
    assert begins_ms == set_ms - 2 * (1300 + 400)
    effects = made.hand_off({"a/k": AT}, size_bytes=1_000_000, set_utc_ms=set_ms)
    assert not [effect for effect in effects if isinstance(effect, Load)]
    effects = made.tick(90.0, begins_ms - 1000, free_bytes=0)
    assert not [effect for effect in effects if isinstance(effect, Load)]
    effects = made.tick(120.0, begins_ms + 1, free_bytes=0)
    one = only(load(made, effects, ENTRY), Send)
    assert one.peer == "stays"
    assert isinstance(one.message, CommitRequest)
    assert one.message.custody


def test_targets_marked_first_short_contacts_last() -> None:
    view = NetworkView(
        {
            "short": PeerView(until_utc_ms=UTC_MS + 10, marked=True),
            "plain": PeerView(),
            "marked": PeerView(marked=True),
            "away": PeerView(reachable=False, marked=True),
        }
    )
    ranking = ranked("g", list(view.peers))

    def chosen(*without: str) -> str:
        return choose(ranking, view, size_bytes=1000, utc_ms=UTC_MS, without=without, ground=False)

    assert chosen() == "marked"
    assert chosen("marked") == "plain"
    assert chosen("marked", "plain") == "short"
    assert chosen("marked", "plain", "short") == ""


def _evicting(made: Replicator) -> list[Send]:
    """Both have taken it; the releases that are asked for."""
    releases: list[Send] = []
    effects = made.evict({"a/k": AT})
    while effects:
        effect = effects.pop(0)
        if isinstance(effect, Load):
            effects += load(made, [effect], ENTRY)
        elif isinstance(effect, Send) and isinstance(effect.message, CommitRequest):
            effects += give(made, effect.peer, [effect], ENTRY)
        elif isinstance(effect, Send):
            assert isinstance(effect.message, Release)
            releases.append(effect)
    return releases


def test_a_copy_is_forgotten_when_enough_others_answer_for_it() -> None:
    made = core("one", "two")
    first, second = _evicting(made)
    assert not made.message(first.peer, Released(first.message.ask, b"\x01"))
    may = only(made.message(second.peer, Released(second.message.ask, b"\x01")), MayDrop)
    assert may.names == (("a/k", AT),)
    # Until it is gone, and while it was asked about, it answers for nothing.
    look = only(made.message("one", Release(5, (("a/k", AT),))), Look)
    assert sent(made.looked(look.token, [ENTRY], [])) == Released(5, b"\x00")
    made.dropped(may.token)
    assert made.status().leaving == 0


def test_a_copy_stays_when_one_of_them_has_it_no_more() -> None:
    made = core("one", "two")
    first, second = _evicting(made)
    made.message(first.peer, Released(first.message.ask, b"\x00"))
    assert isinstance(second.message, Release)
    assert not made.failed(second.message)
    assert made.status().leaving == 0
    effects = made.tick(9.0, UTC_MS, free_bytes=0)
    assert only(effects, Load).keys == ("a/k",)  # they are asked to take it once more


def test_who_holds_it_says_so_and_answers_for_it() -> None:
    made = core("one")
    look = only(made.message("one", Release(5, (("a/k", AT), ("a/x", AT)), copies=2)), Look)
    effects = made.looked(look.token, [ENTRY], [])
    # Nobody else has it: this node owes the next copy, and has written that down before it answers.
    assert [type(effect) for effect in effects][:2] == [Persist, Send]
    assert sent([effect for effect in effects if isinstance(effect, Send)]) == Released(5, b"\x01")
    assert made.level_of("a/k", AT) is Durability.LOCAL
    look = only(made.message("one", Release(6, (("a/k", AT),))), Look)
    assert sent(made.looked(look.token, None, None)).refused is Refusal.STORE


def _offer(number: int, *entries: Entry) -> Offer:
    return Offer(number, number, entries or (LARGE,))


def test_pieces_come_in_are_durable_and_are_committed() -> None:
    made = core("one")
    mid = msgspec.structs.replace(entry_of("a/mid", b"m" * 3000, AT), inline=None)
    look = only(made.message("one", Offer(1, 1, (LARGE, mid), custody=True)), Look)
    assert sent(made.looked(look.token, [], look.chunks)) == Have(1, 1, b"\x0f")
    # The same offer again is answered the same.
    assert sent(made.message("one", Offer(2, 1, (LARGE, mid), custody=True))) == Have(2, 1, b"\x0f")
    pieces = [*map(bytes, chunks_of(BIG)), b"m" * 3000]
    parts = tuple(Part(place, piece) for place, piece in enumerate(pieces))
    store = only(made.message("one", Chunks(3, 1, parts)), StoreChunks)
    assert [sha256 for sha256, _ in store.pieces] == [hashlib.sha256(piece).digest() for piece in pieces]
    # Nothing is answered for before it is on disk.
    assert sent(made.message("one", CommitRequest(4, 1))).refused is Refusal.UNKNOWN
    assert sent(made.stored(store.token)) == Ack(3, 1, (0, 1, 2, 3))
    assert sent(made.message("one", Chunks(5, 1, parts))) == Ack(5, 1, (0, 1, 2, 3))
    read = only(made.message("one", CommitRequest(6, 1, custody=True)), ReadPieces)
    commit = only(made.read(read.token, [b"m" * 3000]), Commit)
    whole = entry_of("a/mid", b"m" * 3000, AT)
    assert commit.entries == (LARGE, whole)
    assert not made.message("one", CommitRequest(6, 1, custody=True))  # twice; it will be answered
    effects = made.committed(commit.token, [LARGE, whole])
    custody = next(effect.message for effect in effects if isinstance(effect, Send))
    assert custody == Custody(6, 1, seal_of(1, (LARGE, whole)))
    assert made.status().open_offers == 0


def test_pieces_that_nobody_asked_for_are_refused() -> None:
    made = core("one")
    assert sent(made.message("one", Chunks(1, 9, (Part(0, b"x"),)))).refused is Refusal.UNKNOWN
    look = only(made.message("one", _offer(2)), Look)
    made.looked(look.token, [], [LARGE.chunks[0]])
    for part in (Part(1, b"x" * CHUNK_BYTES), Part(0, b"x"), Part(99, b"x")):
        assert sent(made.message("one", Chunks(3, 2, (part,)))).refused is Refusal.UNASKED
    assert sent(made.message("two", Chunks(3, 2, (Part(0, b"x" * CHUNK_BYTES),)))).refused is Refusal.UNKNOWN
    assert made.status().counts["refused_unasked"] == 3


def test_offers_over_the_room_are_refused_whatever_they_add_up_from() -> None:
    made = core("one")
    made.tick(2.0, UTC_MS, free_bytes=len(BIG) + 10)
    look = only(made.message("one", _offer(1)), Look)
    assert not sent(made.looked(look.token, [], look.chunks)).refused
    look = only(made.message("two", _offer(1)), Look)
    assert sent(made.looked(look.token, [], look.chunks)).refused is Refusal.QUOTA
    request = CommitRequest(5, 5, (entry_of("a/z", b"z" * 1000, AT),))
    assert sent(made.message("two", request)).refused is Refusal.QUOTA


def test_offers_are_bounded_and_forgotten_when_idle() -> None:
    made = core("one")
    for number in range(OFFERS_PER_PEER_MAX):
        only(made.message("one", _offer(number + 1)), Look)
    assert sent(made.message("one", _offer(99))).refused is Refusal.BUSY
    made.tick(2.0 + IDLE_S, UTC_MS, free_bytes=0)
    assert made.status().open_offers == 0


@pytest.mark.parametrize(
    ("entry", "refused"),
    [
        (entry_of("a/k", b"v", Version(UTC_MS + 61_000, 0, "x")), Refusal.CLOCK),
        (entry_of("a/k", b"v", AT, expires_ms=UTC_MS - 1), Refusal.EXPIRED),
    ],
)
def test_what_is_ahead_or_over_is_refused(entry: Entry, refused: Refusal) -> None:
    made = core("one")
    assert sent(made.message("one", Offer(1, 1, (entry,)))).refused is refused
    assert sent(made.message("one", CommitRequest(1, 1, (entry,)))).refused is refused


def test_a_clock_that_was_never_set_believes_others() -> None:
    made = core("one")
    made.tick(2.0, 1000, free_bytes=1 << 20)
    only(made.message("one", CommitRequest(1, 1, (ENTRY,))), Commit)


@pytest.mark.parametrize("refused", [Refusal.QUOTA, Refusal.CLOCK, Refusal.UNKNOWN])
def test_what_the_store_refuses_is_not_answered_for(refused: Refusal) -> None:
    made = core("one")
    commit = only(made.message("one", CommitRequest(1, 1, (ENTRY,), custody=True)), Commit)
    assert sent(made.committed(commit.token, (), refused)) == Custody(1, 1, refused=refused)
    look = only(made.message("one", _offer(2)), Look)
    made.looked(look.token, [], look.chunks)
    store = only(made.message("one", Chunks(3, 2, (Part(0, BIG[:CHUNK_BYTES]),))), StoreChunks)
    assert sent(made.stored(store.token, refused)) == Ack(3, 2, (), refused)
    look = only(made.message("one", _offer(4)), Look)
    assert sent(made.looked(look.token, None, None)).refused is Refusal.STORE


def test_damaged_copies_are_asked_for_and_given() -> None:
    made = core("one")
    made.damaged(["a/k"])
    effects = made.tick(1.5, UTC_MS, free_bytes=1 << 20)
    want = next(
        effect.message for effect in effects if isinstance(effect, Send) and isinstance(effect.message, Want)
    )
    assert want.keys == ("a/k",)
    made.message("one", Coming(want.ask, want.keys))
    assert made.status().damaged == 1
    commit = only(made.message("one", CommitRequest(1, 1, (ENTRY,))), Commit)
    made.committed(commit.token, [ENTRY])
    assert made.status().damaged == 0

    giver = core("one")
    effects = giver.message("one", Want(3, ("a/k",)))
    effects = giver.loaded(only(effects, Load).token, [ENTRY])
    assert sent(effects) == Coming(3, ("a/k",))
    assert only(effects, Load).keys == ("a/k",)
