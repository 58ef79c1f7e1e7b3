"""Load: to neighbours, at once, at a bounded pace, as far as its hops."""

from __future__ import annotations

from edgeagent.gossip.codec import Items, Kind, decode_item
from edgeagent.gossip.commands import Publish, SetNeighbours
from edgeagent.gossip.effects import Effect
from edgeagent.gossip.records import Load, Record, Section, write_payload
from tests.unit.gossip.parts import Driver, driver, identity, knobs_with, packet, record, sent


def _group(*names: str, **knobs: float) -> Driver:
    one = driver("m", knobs=knobs_with(**{"probe_interval_s": 500.0, "probe_timeout_s": 5.0, **knobs}))
    for name in names:
        one.receive(f"{name}:1", packet(Kind.GOSSIP, name, 0, "", identity(name).blob))
    one.run(60.0)  # the introductions have been passed on
    return one


def _load(one: Driver, cpu: float) -> list[Effect]:
    return one.take(one.mesh.on_command(one.now_s, Publish(Section.LOAD, write_payload(Load(cpu=cpu)))))


def _told(effects: list[Effect]) -> list[tuple[str, Record]]:
    items = [(address, Items().read(blob)) for address, one in sent(effects) for blob in one.items]
    return [(address, it) for address, it in items if isinstance(it, Record) and it.section == Section.LOAD]


def test_neighbours_are_told_at_once_and_nobody_else() -> None:
    one = _group("a", "b", "c", "d", load_hops=2)
    one.take(one.mesh.on_command(one.now_s, SetNeighbours(("b", "d", "unknown"))))
    told = _told(_load(one, 0.5))
    assert [(address, it.hops) for address, it in told] == [("b:1", 1), ("d:1", 1)]


def test_changes_in_quick_order_are_told_at_the_pace_and_the_last_one_is_not_lost() -> None:
    one = _group("a", load_interval_s=0.5)
    assert len(_told(_load(one, 0.1))) == 1
    assert _told(_load(one, 0.2)) == []
    assert _told(_load(one, 0.3)) == []
    told = _told(one.run(0.51))
    assert [it.payload for _, it in told] == [write_payload(Load(cpu=0.3))]
    assert _told(one.run(5.0)) == []


def test_where_nobody_names_neighbours_the_next_names_in_order_are_taken() -> None:
    one = _group("a", "k", "l", "n", "o", "p", "q", neighbours_max=3)
    assert [address for address, _ in _told(_load(one, 0.5))] == ["n:1", "o:1", "p:1"]
    one.receive("n:1", packet(Kind.GOSSIP, "n", 0, "", identity("n", 2, left=True).blob))
    one.run(5.0)
    assert [address for address, _ in _told(_load(one, 0.6))] == ["o:1", "p:1", "q:1"]
    few = _group("a", "b")  # around the end of the order
    assert [address for address, _ in _told(_load(few, 0.5))] == ["a:1", "b:1"]


def test_others_load_goes_on_in_batches_with_fewer_hops_and_not_back() -> None:
    one = _group("a", "b", "c", load_forward_interval_s=2.0, load_hops=3)
    for name, hops in (("a", 2), ("b", 0)):
        one.receive(
            f"{name}:1", packet(Kind.GOSSIP, name, 0, "", record(name, 6, 7, Load(cpu=0.1), hops=hops).blob)
        )
    told = _told(one.run(2.1))
    assert [(address, it.name, it.hops) for address, it in told] == [("b:1", "a", 1), ("c:1", "a", 1)]
    assert _told(one.run(10.0)) == []


def test_hops_beyond_ours_are_cut() -> None:
    one = _group("a", "b", load_hops=1)
    one.receive("a:1", packet(Kind.GOSSIP, "a", 0, "", record("a", 6, 7, Load(), hops=15).blob))
    assert [it.hops for _, it in _told(one.run(5.0))] == [0]


def test_many_loads_go_in_several_datagrams() -> None:
    names = [f"n{place}" for place in range(60)]
    one = _group(*names, load_forward_interval_s=2.0, load_hops=3, neighbours_max=1)
    for name in names:
        one.receive("n5:1", packet(Kind.GOSSIP, "n5", 0, "", record(name, 6, 7, Load(cpu=0.1), hops=2).blob))
    told = _told(one.run(2.1))
    assert {it.name for _, it in told} >= set(names) - {"n0", "n5"}


def test_load_can_be_switched_off() -> None:
    one = _group("a", load_hops=0)
    assert _told(_load(one, 0.5)) == []


def test_forwarded_records_keep_their_signed_part() -> None:
    one = _group("a", "b", load_forward_interval_s=2.0, load_hops=3)
    first = record("a", 6, 7, Load(cpu=0.1), signature=b"s" * 64, hops=2)
    one.receive("a:1", packet(Kind.GOSSIP, "a", 0, "", first.blob))
    passed = next(it for _, it in _told(one.run(2.1)))
    assert passed.signed() == first.signed()
    assert passed.signature == first.signature
    again = decode_item(passed.blob)
    assert isinstance(again, Record)
    assert again.hops == 1
