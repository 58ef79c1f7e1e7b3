"""Suspicion, refutation, death and farewell, sentence by sentence."""

from __future__ import annotations

import pytest

from edgeagent.gossip.codec import Accusation, Death, Kind, encode_item
from edgeagent.gossip.commands import Leave, Publish, Restore
from edgeagent.gossip.effects import Dial, Effect, NameFree, NameTaken, Notice, Notify, Persist, Send
from edgeagent.gossip.errors import RecordRefused
from edgeagent.gossip.records import Digests, Place, Section, Trust, first_version, write_payload
from edgeagent.gossip.states import State
from edgeagent.gossip.suspicion import suspicion_bounds_s
from tests.unit.gossip.parts import (
    EPOCH_MS,
    Driver,
    changes,
    driver,
    identity,
    knobs_with,
    mesh,
    packet,
    packets,
    record,
    sent,
)

NAMES = tuple("abcdefgh")
LAN = knobs_with()
INCARNATION = first_version(EPOCH_MS) + 1


def _group(*, knobs: dict[str, float] | None = None, names: tuple[str, ...] = NAMES) -> Driver:
    one = driver(knobs=knobs_with(**{"probe_interval_s": 100.0, "probe_timeout_s": 50.0, **(knobs or {})}))
    for name in names:
        one.receive(f"{name}:1", packet(Kind.GOSSIP, name, 0, "", identity(name).blob))
    return one


def _claim(
    one: Driver, kind: type[Accusation | Death], name: str, accuser: str, count: int = 1
) -> list[Effect]:
    item = encode_item(kind(name, first_version(EPOCH_MS) + count, accuser))
    return list(one.receive(f"{accuser}:1", packet(Kind.GOSSIP, accuser, 0, "", item)))


def _state(one: Driver, name: str) -> State:
    return one.mesh.states()[name]


def _about(name: str, effects: list[Effect]) -> list[tuple[str, str, str]]:
    """The changes of one member: the others, which answer nothing either, come into suspicion as well."""
    return [change for change in changes(effects) if change[0] == name]


def _told(effects: list[Effect]) -> list[bytes]:
    """All items sent."""
    return [blob for _, one in sent(effects) for blob in one.items]


def test_an_accusation_makes_suspect_and_is_passed_on() -> None:
    one = _group()
    assert changes(_claim(one, Accusation, "a", "b")) == [("a", "alive", "suspect")]
    assert encode_item(Accusation("a", INCARNATION, "b")) in _told(list(one.run(1.0)))


@pytest.mark.parametrize(
    ("count", "accuser"),
    [(0, "b"), (2, "b"), (1, "nobody"), (1, "a")],
    ids=["stale", "unproven", "by-unknown", "by-itself"],
)
def test_claims_that_do_not_count(count: int, accuser: str) -> None:
    one = _group()
    item = encode_item(Accusation("a", first_version(EPOCH_MS) + count, accuser))
    death = encode_item(Death("a", first_version(EPOCH_MS) + count, accuser))
    assert changes(one.receive("b:1", packet(Kind.GOSSIP, "b", 0, "", item, death))) == []
    assert one.mesh.counters.accusations_ignored == 2


def test_unverified_members_cannot_accuse() -> None:
    one = driver(verify=lambda record: Trust.UNVERIFIED if record.name == "b" else Trust.VERIFIED)
    for name in "ab":
        one.receive(f"{name}:1", packet(Kind.GOSSIP, name, 0, "", identity(name).blob))
    assert changes(_claim(one, Accusation, "a", "b")) == []


def test_who_accuses_a_former_incarnation_is_set_right() -> None:
    one = _group()
    newer = identity("a", 5)
    one.receive("a:1", packet(Kind.GOSSIP, "a", 0, "", newer.blob))
    one.run(1.0)
    effects = _claim(one, Accusation, "a", "b", 1)
    answers = [packet for address, packet in sent(effects) if address == "b:1"]
    assert newer.blob in answers[0].items
    assert not sent(_claim(one, Accusation, "a", "c", 1))  # at most one in a while


def test_a_suspicion_runs_out_and_the_death_is_told() -> None:
    one = _group(knobs={"buddy": False})
    _claim(one, Accusation, "a", "b")
    _, longest_s = suspicion_bounds_s(one.mesh.knobs, 9)
    assert _about("a", one.run(longest_s - 1.0)) == []
    effects = one.run(2.0)
    assert _about("a", effects) == [("a", "suspect", "dead")]
    assert encode_item(Death("a", INCARNATION, "me")) in _told([*effects, *one.run(1.0)])


def test_accusers_shorten_a_suspicion_each_once() -> None:
    one = _group(knobs={"buddy": False})
    shortest_s, _ = suspicion_bounds_s(one.mesh.knobs, 9)
    for accuser in ("b", "b", "c", "c", "d", "e"):
        _claim(one, Accusation, "a", accuser)
    assert _about("a", one.run(shortest_s - 1.0)) == []
    assert _about("a", one.run(1.01)) == [("a", "suspect", "dead")]


def test_the_suspect_is_asked_once_more_and_its_answer_saves_it() -> None:
    one = _group(knobs={"probe_interval_s": 10.0, "probe_timeout_s": 2.0, "indirect_probes": 0})
    for accuser in "bcde":
        _claim(one, Accusation, "a", accuser)
    pings = [ping for _, ping in packets(one.run(25.0), Kind.PING) if ping.target == "a"]
    assert pings
    assert all(
        encode_item(Accusation("a", INCARNATION, "b")) == ping.items[0] for ping in pings
    )  # told first
    assert changes(one.receive("a:1", packet(Kind.ACK, "a", pings[-1].seq, "a"))) == [
        ("a", "suspect", "alive")
    ]


def test_a_refutation_wins_over_suspicion_and_death() -> None:
    one = _group()
    _claim(one, Accusation, "a", "b")
    assert changes(one.receive("c:1", packet(Kind.GOSSIP, "c", 0, "", identity("a", 2).blob))) == [
        ("a", "suspect", "alive")
    ]
    _claim(one, Accusation, "a", "b", 2)
    _claim(one, Death, "a", "b", 2)
    assert _state(one, "a") is State.DEAD
    assert changes(one.receive("c:1", packet(Kind.GOSSIP, "c", 0, "", identity("a", 3).blob))) == [
        ("a", "dead", "alive")
    ]


def test_an_older_record_never_replaces_a_newer_one() -> None:
    one = _group()
    one.receive("a:1", packet(Kind.GOSSIP, "a", 0, "", identity("a", 5).blob))
    one.receive("b:1", packet(Kind.GOSSIP, "b", 0, "", identity("a", 4).blob))
    held = one.mesh.member("a")
    assert held is not None
    assert held.incarnation == identity("a", 5).version


def test_a_writer_without_memory_is_shown_its_own_newer_record() -> None:
    one = _group()
    newer = record("a", Section.PLACE, 9, Place(latitude_deg=1.0))
    one.receive("a:1", packet(Kind.GOSSIP, "a", 0, "", newer.blob))
    one.run(1.0)
    older = record("a", Section.PLACE, 3, Place(latitude_deg=2.0))
    assert newer.blob in _told(list(one.receive("a:1", packet(Kind.GOSSIP, "a", 0, "", older.blob))))


def test_told_dead_but_alive_here_is_probed_and_told() -> None:
    one = _group()
    effects = [*_claim(one, Death, "a", "b"), *one.run(0.1)]
    assert _state(one, "a") is State.ALIVE
    pings = [ping for _, ping in packets(effects, Kind.PING) if ping.target == "a"]
    assert encode_item(Death("a", INCARNATION, "b")) in pings[0].items


def test_told_dead_and_suspect_here_is_dead() -> None:
    one = _group()
    _claim(one, Accusation, "a", "c")
    assert changes(_claim(one, Death, "a", "b")) == [("a", "suspect", "dead")]


def test_the_dead_who_speak_are_told_and_compared_with() -> None:
    one = _group()
    _claim(one, Accusation, "a", "c")
    _claim(one, Death, "a", "b")
    one.run(200.0)
    effects = one.receive("a:1", packet(Kind.PING, "a", 5, "me"))
    assert any(encode_item(Death("a", INCARNATION, "me")) in ping.items for _, ping in sent(effects))
    assert [effect.address for effect in effects if isinstance(effect, Dial)] == ["a:1"]
    assert not [it for it in one.receive("a:1", packet(Kind.PING, "a", 6, "me")) if isinstance(it, Dial)]


def test_the_dead_are_asked_now_and_then() -> None:
    one = _group(names=("a", "b", "c"))
    _claim(one, Accusation, "a", "c")
    _claim(one, Death, "a", "b")
    pings = [ping for _, ping in packets(one.run(20.0), Kind.PING) if ping.target == "a"]
    assert 2 <= len(pings) <= 6
    assert _state(one, "a") is State.DEAD


def test_accused_we_refute_persist_first_and_answer_the_accuser() -> None:
    one = _group()
    before = one.mesh.incarnation
    effects = _claim_me(one, "b", before)
    assert one.mesh.incarnation > before
    kinds = [type(effect) for effect in effects]
    assert kinds.index(Persist) < kinds.index(Send)
    persisted = next(effect.incarnation for effect in effects if isinstance(effect, Persist))
    assert persisted == one.mesh.incarnation
    assert [address for address, _ in sent(effects)] == ["b:1"]
    assert one.mesh.health == 1
    # An echo of the former accusation changes nothing; an unproven one neither.
    assert not any(isinstance(it, Persist) for it in _claim_me(one, "c", before))
    assert not any(isinstance(it, Persist) for it in _claim_me(one, "c", before + 10**6))
    assert one.mesh.counters.refutations == 1


def _claim_me(one: Driver, accuser: str, incarnation: int) -> list[Effect]:
    item = encode_item(Accusation("me", incarnation, accuser))
    return list(one.receive(f"{accuser}:1", packet(Kind.GOSSIP, accuser, 0, "", item)))


def test_our_record_of_a_former_life_is_outdone() -> None:
    one = mesh()
    one.on_command(0.0, Publish(Section.FUNCTIONS, write_payload(Digests((b"1234",)))))
    former = identity("me", 70_000)
    effects = one.on_datagram(1.0, "a:1", packet(Kind.GOSSIP, "a", 0, "", former.blob))
    assert one.incarnation > former.version
    mine = one.member("me")
    assert mine is not None
    assert mine.version_of(Section.FUNCTIONS) > former.version
    assert any(isinstance(effect, Persist) for effect in effects)


def test_a_forged_record_of_ours_is_ignored() -> None:
    one = mesh(verify=lambda _: Trust.REFUSED)
    before = one.incarnation
    one.on_datagram(1.0, "a:1", packet(Kind.GOSSIP, "a", 0, "", identity("me", 70_000).blob))
    assert one.incarnation == before
    assert one.counters.records_refused == 1


def test_a_second_process_of_our_name_is_noticed() -> None:
    one = mesh()
    notices = []
    for turn in range(1, 8):
        blob = identity("me", turn * 100_000).blob
        effects = one.on_datagram(turn, "a:1", packet(Kind.GOSSIP, "a", 0, "", blob))
        notices += [
            it.notice for it in effects if isinstance(it, Notify) and isinstance(it.notice, NameTaken)
        ]
    assert len(notices) == 4  # the first few may be leftovers of a former life


def _names(effects: list[Effect]) -> list[type[Notice]]:
    """Which notices about our own name there are."""
    notices = [effect.notice for effect in effects if isinstance(effect, Notify)]
    return [type(one) for one in notices if isinstance(one, NameTaken | NameFree)]


def test_a_name_is_free_again_when_the_other_one_is_quiet() -> None:
    one = _group()
    quiet_s = 4 * one.mesh.knobs.push_pull_interval_s

    def claimed(*counts: int) -> list[type[Notice]]:
        """The other one has written records of our name."""
        heard = [
            one.receive("b:1", packet(Kind.GOSSIP, "b", 0, "", identity("me", count * 100_000).blob))
            for count in counts
        ]
        return _names([effect for effects in heard for effect in effects])

    assert claimed(1, 2, 3, 4) == [NameTaken]
    assert _names(one.run(quiet_s - 1.0)) == []
    assert claimed(5) == [NameTaken]  # it is still there, and the wait begins anew
    assert _names(one.run(quiet_s - 1.0)) == []
    assert _names(one.run(2.0)) == [NameFree]
    assert _names(one.run(3 * quiet_s)) == []  # once
    assert claimed(6, 7, 8) == []  # leftovers, as at the start
    assert claimed(9) == [NameTaken]
    assert _names(one.run(quiet_s + 1.0)) == [NameFree]


def test_a_farewell_is_told_at_once_and_is_no_death() -> None:
    leaver, other = _group(), _group()
    effects = leaver.take(leaver.mesh.on_command(leaver.now_s, Leave()))
    farewell = [blob for _, one in sent(effects) for blob in one.items]
    assert farewell
    assert not any(isinstance(it, Persist) for it in _claim_me(leaver, "b", leaver.mesh.incarnation))
    other.receive("a:1", packet(Kind.GOSSIP, "a", 0, "", identity("a", 3, left=True).blob))
    assert _state(other, "a") is State.LEFT
    assert changes(other.receive("a:1", packet(Kind.GOSSIP, "a", 0, "", identity("a", 4).blob))) == [
        ("a", "left", "alive")
    ]


def test_tombstones_are_forgotten() -> None:
    one = _group(knobs={"tombstone_s": 800.0})
    _claim(one, Accusation, "a", "c")
    _claim(one, Death, "a", "b")
    one.receive("b:1", packet(Kind.GOSSIP, "b", 0, "", identity("b", 3, left=True).blob))
    effects = one.run(1000.0)
    assert ("a", "dead", "-") in changes(effects)
    assert ("b", "left", "-") in changes(effects)
    assert "a" not in one.mesh.states()


def test_sections_of_strangers_wait_for_their_identity() -> None:
    one = _group(names=())
    one.receive("x:1", packet(Kind.GOSSIP, "x", 0, "", record("x", 1, 1, Place()).blob))
    assert one.mesh.states() == {}


def test_what_was_known_is_restored_without_an_exchange() -> None:
    one = _group()
    blobs = tuple(it.blob for it in one.mesh.records() if it.name != "me")
    again = driver("me")
    again.take(again.mesh.on_command(0.0, Restore((*blobs, b"nonsense"))))
    assert again.mesh.states() == one.mesh.states()
    assert again.mesh.counters.items_refused == 1
    # It is no news to anybody else: after a restart nobody is told a thousand old records.
    assert not set(_told(again.run(5.0))) & set(blobs)


def test_only_the_core_writes_the_identity() -> None:
    with pytest.raises(RecordRefused, match="identity"):
        mesh().on_command(0.0, Publish(Section.IDENTITY, b""))
    with pytest.raises(RecordRefused, match="no record"):
        mesh().on_command(0.0, Publish(Section.STATE, bytes(5000)))


def test_many_writes_persist_the_counter_again() -> None:
    one = mesh()
    payload = write_payload(Digests())
    persisted = 0
    for _ in range(66_000):
        persisted += any(
            isinstance(it, Persist) for it in one.on_command(0.0, Publish(Section.STATE, payload))
        )
    assert persisted == 1
