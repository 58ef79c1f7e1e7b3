"""Anti-entropy: two members end with the same records, whatever each had; and the streams' bounds."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Hashable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.gossip.antientropy import interval_s
from edgeagent.gossip.codec import Accusation, Death, Items, Kind, encode_item
from edgeagent.gossip.commands import Ask, Join, Publish
from edgeagent.gossip.core import Mesh
from edgeagent.gossip.effects import Dial, Effect, Hangup, StreamSend
from edgeagent.gossip.frames import (
    FRAME_BYTES_MAX,
    Digest,
    Summary,
    Transfer,
    Want,
    decode_frame,
    encode_frame,
)
from edgeagent.gossip.records import Digests, Load, Place, Record, Section, write_payload
from edgeagent.gossip.states import State
from tests.unit.gossip.parts import driver, identity, introduce, knobs_with, mesh, packet, record


def _exchange(a: Mesh, b: Mesh, now_s: float = 1.0) -> list[int]:
    """Let ``a`` dial ``b`` and carry the frames; returns their sizes."""
    effects = a.on_command(now_s, Join(("b:1",)))
    dial = next(it for it in effects if isinstance(it, Dial))
    sizes: list[int] = []
    frames = deque([(b, "in", dial.data)])
    over = False
    while frames:
        to, stream, data = frames.popleft()
        assert len(data) <= FRAME_BYTES_MAX
        sizes.append(len(data))
        for effect in to.on_stream(now_s, stream, data):
            if isinstance(effect, StreamSend):
                other: tuple[Mesh, Hashable] = (a, dial.stream) if to is b else (b, "in")
                frames.append((*other, effect.data))  # type: ignore[arg-type]
            over = over or isinstance(effect, Hangup)
    assert over
    b.on_stream_closed(now_s, "in")
    a.on_stream_closed(now_s, dial.stream)
    return sizes


def _held(one: Mesh) -> dict[tuple[str, int], int]:
    return {(it.name, it.section): it.version for it in one.records() if it.section != Section.LOAD}


def _give(one: Mesh, *records: Record) -> None:
    for it in records:
        one.on_datagram(0.0, "x:1", packet(Kind.GOSSIP, "x", 0, "", it.blob))


def test_a_newcomer_gets_everything_and_is_known() -> None:
    a, b = mesh("a"), mesh("b")
    introduce(b, *(f"n{place}" for place in range(40)))
    b.on_command(0.0, Publish(Section.FUNCTIONS, write_payload(Digests((b"1234",)))))
    _exchange(a, b)
    assert _held(a) == _held(b)
    assert len(a.states()) == 41
    assert a.counters.exchanges == 1
    assert a.counters.exchanges_failed == 0
    assert b.counters.exchanges_failed == 0


def test_equals_end_after_two_short_frames() -> None:
    a, b = mesh("a"), mesh("b")
    introduce(b, *(f"n{place}" for place in range(300)))
    _exchange(a, b)
    sizes = _exchange(a, b)
    assert len(sizes) == 2
    assert sum(sizes) < 1200  # 128 sums of 8 bytes


def test_a_few_differences_among_many_cost_a_few_buckets() -> None:
    a, b = mesh("a"), mesh("b")
    introduce(b, *(f"n{place}" for place in range(300)))
    _exchange(a, b)
    _give(a, record("n7", 1, 5, Place(latitude_deg=7.0)), identity("n8", 9))
    _give(b, record("n9", 2, 6, Place(latitude_deg=7.0)))
    sizes = _exchange(a, b, 2.0)
    assert _held(a) == _held(b)
    assert sum(sizes) < 2500


def test_thousands_of_members_go_in_bounded_frames() -> None:
    a, b = mesh("a", items=Items(100_000)), mesh("b", items=Items(100_000))
    introduce(a, *(f"a{place}" for place in range(2000)))
    introduce(b, *(f"b{place}" for place in range(2000)))
    sizes = _exchange(a, b)
    assert len(a.states()) == len(b.states()) == 4001
    assert _held(a) == _held(b)
    assert len(sizes) > 6


_some = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4), st.integers(1, 9)), max_size=40)


@settings(max_examples=60)
@given(_some, _some, _some)
def test_any_two_tables_become_equal(
    both: list[tuple[int, int, int]], first: list[tuple[int, int, int]], second: list[tuple[int, int, int]]
) -> None:
    a, b = mesh("a"), mesh("b")

    def records(drawn: list[tuple[int, int, int]]) -> list[Record]:
        made = [
            identity(f"n{name}", count) if not section else record(f"n{name}", section, count, Place())
            for name, section, count in drawn
        ]
        return sorted(made, key=lambda it: it.section != 0)

    _give(a, *records(both), *records(first))
    _give(b, *records(both), *records(second))
    _exchange(a, b)
    expected = {**_held(a)}
    for key, version in _held(b).items():
        expected[key] = max(version, expected.get(key, -1))
    assert _held(a) == _held(b) == expected


def test_load_stays_nearby() -> None:
    a, b = mesh("a"), mesh("b")
    introduce(b, "n")
    _give(b, record("n", Section.LOAD, 3, Load(cpu=0.5), hops=0))
    _exchange(a, b)
    assert "n" in a.states()
    assert not [it for it in a.records() if it.section == Section.LOAD]


def _bury(one: Mesh, name: str) -> None:
    version = identity(name).version
    for item in (Accusation(name, version, "x"), Death(name, version, "x")):
        one.on_datagram(0.0, "x:1", packet(Kind.GOSSIP, "x", 0, "", encode_item(item)))
    assert one.states()[name] is State.DEAD


@pytest.mark.parametrize("dialled_by_the_one_who_knows", [True, False])
def test_a_death_that_one_has_missed_is_told_and_looked_into(dialled_by_the_one_who_knows: bool) -> None:
    a, b = mesh("a"), mesh("b")
    for one in (a, b):
        introduce(one, "n", "x")
    knows, missed = (a, b) if dialled_by_the_one_who_knows else (b, a)
    _bury(knows, "n")
    _exchange(a, b)
    assert missed.states()["n"] is State.ALIVE  # others' word alone buries nobody who is alive here
    assert "n" in missed._context.to_verify


@pytest.mark.parametrize("dialled_by_the_one_who_knows", [True, False])
def test_a_farewell_that_one_has_missed_is_told(dialled_by_the_one_who_knows: bool) -> None:
    a, b = mesh("a"), mesh("b")
    for one in (a, b):
        introduce(one, "n")
    knows, missed = (a, b) if dialled_by_the_one_who_knows else (b, a)
    _give(knows, identity("n", 5, left=True))
    _exchange(a, b)
    assert missed.states()["n"] is State.LEFT


def test_tombstones_are_no_news() -> None:
    a, b = mesh("a"), mesh("b")
    introduce(b, "n", "x")
    _bury(b, "n")
    _exchange(a, b)
    assert "n" not in a.states()
    assert len(_exchange(a, b, 2.0)) == 2  # and no difference either


def test_one_who_came_back_is_raised_by_the_exchange() -> None:
    a, b = mesh("a"), mesh("b")
    for one in (a, b):
        introduce(one, "n", "x")
    _bury(a, "n")
    _give(b, identity("n", 4))
    _exchange(a, b)
    assert a.states()["n"] is State.ALIVE


@pytest.mark.parametrize(
    "frame",
    [
        encode_frame(Digest(b"", [], True)),
        encode_frame(Transfer([], [], True)),
        b"nonsense",
        b"",
    ],
)
def test_frames_out_of_order_end_the_stream(frame: bytes) -> None:
    one = mesh()
    assert any(isinstance(it, Hangup) for it in one.on_stream(1.0, "in", frame))
    # Also on a stream that has begun well.
    one.on_stream(1.0, "in", encode_frame(Summary("a", bytes(8))))
    assert any(
        isinstance(it, Hangup) for it in one.on_stream(1.0, "in", encode_frame(Summary("a", bytes(8))))
    )
    assert one.counters.datagrams_refused == 2


def test_a_transfer_of_nonsense_ends_the_stream() -> None:
    one = mesh()
    one.on_stream(1.0, "in", encode_frame(Summary("a", bytes(8))))
    assert any(
        isinstance(it, Hangup) for it in one.on_stream(1.0, "in", encode_frame(Transfer([b"x"], [], True)))
    )


def test_a_digest_of_buckets_that_were_not_asked_for_ends_the_stream() -> None:
    one = mesh()
    dial = next(it for it in one.on_command(1.0, Join(("b:1",))) if isinstance(it, Dial))
    effects = one.on_stream(1.0, dial.stream, encode_frame(Digest(b"\xff", [], True)))
    assert any(isinstance(it, Hangup) for it in effects)


def test_streams_are_bounded() -> None:
    one = mesh()
    accepted = sum(
        not any(
            isinstance(it, Hangup)
            for it in one.on_stream(1.0, f"in-{n}", encode_frame(Summary("a", bytes(8))))
        )
        for n in range(100)
    )
    assert accepted == 32
    assert not any(isinstance(it, Dial) for it in one.on_command(1.0, Join(("b:1",))))


def test_silent_streams_are_given_up() -> None:
    one = driver()
    one.take(one.mesh.on_command(0.0, Join(("b:1",))))
    effects = one.run(one.mesh.knobs.stream_timeout_s + 1.0)
    assert any(isinstance(it, Hangup) for it in effects)
    assert one.mesh.counters.exchanges_failed >= 1


def test_a_stream_that_breaks_is_counted_where_it_was_dialled() -> None:
    one = mesh()
    dial = next(it for it in one.on_command(1.0, Join(("b:1",))) if isinstance(it, Dial))
    one.on_stream_closed(1.0, dial.stream)
    one.on_stream_closed(1.0, dial.stream)
    one.on_stream(1.0, "in", encode_frame(Summary("a", bytes(8))))
    one.on_stream_closed(1.0, "in")
    assert one.counters.exchanges_failed == 1


def _dialled(effects: list[Effect]) -> set[str]:
    return {it.address for it in effects if isinstance(it, Dial)}


def test_alone_we_knock_at_the_seeds_again_and_again() -> None:
    one = driver(knobs=knobs_with(stream_timeout_s=1.0))
    assert _dialled(one.take(one.mesh.on_command(0.0, Join(("s:1", "t:1"))))) == {"s:1", "t:1"}
    one.run(30.0)
    assert _dialled(one.run(10.0)) == {"s:1", "t:1"}


def test_a_seed_that_starts_with_us_is_met_a_moment_later() -> None:
    one = driver(knobs=knobs_with(stream_timeout_s=0.2))
    one.take(one.mesh.on_command(0.0, Join(("s:1",))))
    dials = [it for it in one.run(2.0) if isinstance(it, Dial)]
    assert [it.address for it in dials] == ["s:1", "s:1"]  # after 0.5 s, and a second later
    one.receive("s:1", packet(Kind.GOSSIP, "s", 0, "", identity("s").blob))
    one.receive("t:1", packet(Kind.GOSSIP, "t", 0, "", identity("t").blob))
    assert one.mesh.states().keys() == {"s", "t"}
    assert not [it for it in one.run(0.9) if isinstance(it, Dial)]  # no knock any more


def test_a_member_is_asked_for_its_records_on_demand() -> None:
    one = driver(knobs=knobs_with(stream_timeout_s=0.2))
    one.receive("s:1", packet(Kind.GOSSIP, "s", 0, "", identity("s").blob))
    assert _dialled(one.take(one.mesh.on_command(one.now_s, Ask("s")))) == {"s:1"}
    assert _dialled(one.take(one.mesh.on_command(one.now_s, Ask("nobody")))) == set()


def test_seeds_that_nobody_has_met_are_asked_until_somebody_has() -> None:
    one = driver(knobs=knobs_with(stream_timeout_s=1.0, probe_interval_s=1000.0))
    one.take(one.mesh.on_command(0.0, Join(("s:1", "a:1"))))
    one.receive("a:1", packet(Kind.GOSSIP, "a", 0, "", identity("a").blob))
    one.run(40.0)
    assert _dialled(one.run(60.0)) >= {"s:1"}
    one.receive("s:1", packet(Kind.GOSSIP, "s", 0, "", identity("s").blob))
    one.receive("a:1", packet(Kind.GOSSIP, "a", 0, "", identity("a", left=True, count=2).blob))
    one.run(40.0)
    assert _dialled(one.run(60.0)) == {"s:1"}  # the regular one


@pytest.mark.parametrize(("members", "times"), [(1, 1), (32, 1), (33, 2), (64, 2), (1000, 6), (4472, 9)])
def test_exchanges_are_rarer_in_large_groups(members: int, times: int) -> None:
    assert interval_s(30.0, members) == 30.0 * times


def test_an_exchange_answers_wants_for_members_that_it_forgot() -> None:
    """A digest may be older than the table: what is gone meanwhile is left out."""
    one = mesh()
    introduce(one, "n", "x")
    one.on_stream(1.0, "in", encode_frame(Summary("a", random.Random(1).randbytes(8))))
    _bury(one, "n")
    effects = one.on_stream(
        1.0, "in", encode_frame(Transfer([], [Want("n", 31), Want("x", 31), Want("y", 31)], True))
    )
    frames = [decode_frame(it.data) for it in effects if isinstance(it, StreamSend)]
    assert [len(frame.items) for frame in frames if isinstance(frame, Transfer)] == [1]
