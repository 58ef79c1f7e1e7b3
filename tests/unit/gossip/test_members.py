"""The table: bounded whatever comes, and its sums."""

from __future__ import annotations

import random
import sys

from hypothesis import given
from hypothesis import strategies as st

from edgeagent.gossip.codec import Items, Kind
from edgeagent.gossip.members import BUCKETS, Members
from edgeagent.gossip.records import Place, Record, Trust
from edgeagent.gossip.states import State
from tests.unit.gossip.parts import changes, identity, introduce, knobs_with, mesh, packet, record


def _table(members_max: int = 8) -> Members:
    return Members("me", random.Random(1), members_max)


def test_unverified_names_get_a_quarter_and_displace_nobody() -> None:
    table = _table(8)
    assert all(table.admit(f"u{n}", Trust.UNVERIFIED, 0.0)[0] for n in range(2))
    assert table.admit("u2", Trust.UNVERIFIED, 0.0) == (None, None)
    for n in range(5):
        member, gone = table.admit(f"v{n}", Trust.VERIFIED, 0.0)
        assert member is not None
        assert gone is None
    assert len(table.by_name) == 8  # ourselves included
    for n in range(5, 7):  # verified names take the places of unverified ones
        member, gone = table.admit(f"v{n}", Trust.VERIFIED, 0.0)
        assert member is not None
        assert gone is not None
        assert gone[0].trust is Trust.UNVERIFIED
    assert table.admit("v7", Trust.VERIFIED, 0.0) == (None, None)  # and displace no verified one
    assert table.admit("u9", Trust.UNVERIFIED, 0.0) == (None, None)


def test_tombstones_make_room() -> None:
    table = _table(4)
    members = [table.admit(f"v{n}", Trust.VERIFIED, 0.0)[0] for n in range(3)]
    assert members[1] is not None
    table.move(members[1], State.DEAD)
    member, gone = table.admit("v3", Trust.VERIFIED, 0.0)
    assert member is not None
    assert gone == (members[1], State.DEAD)
    assert "v1" not in table.by_name


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(1, 50)), max_size=80),
    st.integers(0, 99),
)
def test_sums_depend_on_what_is_held_and_not_on_the_way_there(
    puts: list[tuple[int, int, int]], seed: int
) -> None:
    """Two tables that took the same records in different orders, with deaths and returns between, agree."""
    records = [identity(f"n{name}", 1) for name in range(6)] + [
        identity(f"n{name}", count) if not section else record(f"n{name}", section, count, Place())
        for name, section, count in puts
    ]

    def filled(order: list[Record], chance: random.Random) -> Members:
        table = _table(64)
        for one in sorted(order, key=lambda it: it.section != 0):
            member = table.by_name.get(one.name)
            if member is None:
                member, _ = table.admit(one.name, Trust.VERIFIED, 0.0)
            assert member is not None
            state = member.state
            if chance.random() < 0.3:
                table.move(member, chance.choice(list(State)))
            if one.version > member.version_of(one.section):
                table.put(member, one)
            table.move(member, state)
        return table

    chance = random.Random(seed)
    shuffled = records[:]
    chance.shuffle(shuffled)
    one, other = filled(records, chance), filled(shuffled, chance)
    assert one.marks == other.marks
    for count in (1, 16, BUCKETS):
        assert one.sums(count) == other.sums(count)
    for member in list(one.by_name.values()):
        if member is not one.me:
            one.forget(member)
    assert one.marks == [0] * BUCKETS


def test_a_million_forged_names_leave_the_table_as_it_was() -> None:
    """Records that nobody signed, claims about nobody, and a wire's worth of each: no entry, no memory."""
    one = mesh(
        verify=lambda record: Trust.VERIFIED if record.signature == b"good" else Trust.REFUSED,
        items=Items(512),
    )
    for name in ("a", "b"):
        blob = identity(name, signature=b"good").blob
        one.on_datagram(0.0, f"{name}:1", packet(Kind.GOSSIP, name, 0, "", blob))
    assert set(one.states()) == {"a", "b"}
    before = 0
    for turn in range(50_000):
        if turn == 5_000:
            before = sys.getallocatedblocks()
        names = [f"x{turn:08d}{place:02d}" for place in range(20)]
        blobs = [_TEMPLATE.replace(b"x0000000000", name.encode()) for name in names]
        one.on_datagram(1.0, "a:1", packet(Kind.GOSSIP, names[0], 0, "", *blobs))
    assert set(one.states()) == {"a", "b"}
    assert one.counters.records_refused == 1_000_000
    assert sys.getallocatedblocks() - before < 5_000  # blocks of any size; 900,000 names came between


_TEMPLATE = identity("x0000000000").blob


def test_a_million_unverified_names_fill_a_quarter_and_no_more() -> None:
    one = mesh(
        knobs=knobs_with(members_max=64, rumours_max=64),
        verify=lambda record: Trust.VERIFIED if record.signature == b"good" else Trust.UNVERIFIED,
        items=Items(64),
    )
    for name in ("a", "b"):
        one.on_datagram(
            0.0, f"{name}:1", packet(Kind.GOSSIP, name, 0, "", identity(name, signature=b"good").blob)
        )
    for turn in range(1000):
        blobs = [_TEMPLATE.replace(b"x0000000000", b"x%08d%02d" % (turn, place)) for place in range(20)]
        one.on_datagram(1.0, "a:1", packet(Kind.GOSSIP, "a", 0, "", *blobs))
    assert len(one.states()) == 2 + 16
    assert one.counters.table_full == 20_000 - 16
    # A forged record of a verified name does not replace the true one either.
    effects = one.on_datagram(2.0, "a:1", packet(Kind.GOSSIP, "a", 0, "", identity("b", 9).blob))
    assert changes(effects) == []
    held = one.member("b")
    assert held is not None
    assert held.trust is Trust.VERIFIED
    assert held.incarnation == identity("b").version


def test_what_was_unverified_becomes_verified_by_a_newer_record() -> None:
    one = mesh(verify=lambda record: Trust.VERIFIED if record.signature == b"good" else Trust.UNVERIFIED)
    introduce(one, "a")
    held = one.member("a")
    assert held is not None
    assert held.trust is Trust.UNVERIFIED
    one.on_datagram(1.0, "a:1", packet(Kind.GOSSIP, "a", 0, "", identity("a", 2, signature=b"good").blob))
    assert one.member("a") is held
    assert int(held.trust) == Trust.VERIFIED


def test_a_member_forgotten_for_another_is_told_of() -> None:
    one = mesh(
        knobs=knobs_with(members_max=4),
        verify=lambda record: Trust.VERIFIED if record.signature == b"good" else Trust.UNVERIFIED,
    )
    introduce(one, "u")
    told = []
    for name in ("a", "b", "c"):
        effects = one.on_datagram(
            1.0, "x:1", packet(Kind.GOSSIP, name, 0, "", identity(name, signature=b"good").blob)
        )
        told += changes(effects)
    assert ("u", "alive", "-") in told
