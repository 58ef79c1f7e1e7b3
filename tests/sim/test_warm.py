"""A warm world is what a world is whose members have all met; only faster to be had."""

from __future__ import annotations

import pytest

from edgeagent.gossip.commands import Publish
from edgeagent.gossip.records import Digests, Section, write_payload
from edgeagent.gossip.states import State
from edgeagent.simulator.gossip_checks import converges, finds_the_dead, nobody_alive_is_dead
from edgeagent.simulator.gossip_warm import WarmMembers, WarmWorld
from edgeagent.simulator.gossip_world import GossipWorld

NAMES = [f"n{place}" for place in range(20)]


def _warm(seed: int | str = 1) -> WarmWorld:
    world = WarmWorld(seed, NAMES)
    world.start_warm()
    return world


def _table(world: GossipWorld, name: str) -> WarmMembers:
    mesh = world.nodes[name].mesh
    assert mesh is not None
    table = mesh._context.members
    assert isinstance(table, WarmMembers)
    return table


def test_everybody_knows_everybody_from_the_start() -> None:
    world = _warm()
    for name, node in world.nodes.items():
        table = _table(world, name)
        assert table.count == len(table.by_name) == 20
        table.make_all()
        assert table.unmade == 0
        assert node.mesh is not None
        assert set(node.mesh.states().values()) == {State.ALIVE}
    assert world.unconverged() == ""


def test_a_view_is_what_it_would_be_had_all_been_told() -> None:
    warm, cold = _warm(), GossipWorld(1, NAMES)
    cold.start_all()
    cold.run(60.0)
    converges(cold, 60.0)
    for name in NAMES:
        table, told = _table(warm, name), cold.nodes[name].mesh
        assert told is not None
        assert table.sums(4) == _table(warm, "n0").sums(4)
        members = table.in_buckets(set(range(256)), 256)
        expected = told._context.members.in_buckets(set(range(256)), 256)
        assert {one.name for one in members} == {one.name for one in expected}
        assert {(one.name, one.address, one.trust) for one in members} == {
            (one.name, one.address, one.trust) for one in expected
        }
        assert sorted(one.slot for one in members) == [-1, *range(19)]


def test_each_is_visited_once_a_round() -> None:
    table = _table(_warm(), "n7")
    for _ in range(3):
        seen = [table.ring.next() for _ in range(19)]
        assert {one.name for one in seen if one is not None} == set(NAMES) - {"n7"}
        assert [table.ring[place].slot for place in range(19)] == list(range(19))
    assert type(table.ring._list) is list  # all are made
    assert type(table.by_name) is dict
    assert table.by_name["n3"].name == "n3"
    assert len(table.by_name) == 20


def test_who_is_not_in_it_is_not_made() -> None:
    table = _table(_warm(), "n7")
    assert table.by_name.get("stranger") is None
    with pytest.raises(KeyError):
        table.by_name["stranger"]
    assert table.by_name["n3"].name == "n3"
    table.forget(table.by_name["n3"])
    assert table.by_name.get("n3") is None
    assert len(table.by_name) == 19


def test_it_lives_on_as_any_other() -> None:
    world = _warm("lives")
    world.run(10.0)
    world.nodes["n4"].command(Publish(Section.FUNCTIONS, write_payload(Digests((b"12345678",)))))
    world.nodes["n5"].crash()
    finds_the_dead(world, ["n5"])
    nobody_alive_is_dead(world)
    world.start("n5")  # a second life begins with nothing
    mesh = world.nodes["n5"].mesh
    assert mesh is not None
    assert mesh.states() == {}
    converges(world, 60.0)
    for name in NAMES:
        if name != "n5":
            _table(world, name).make_all()
    converges(world, 60.0)


def test_it_is_for_groups() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        WarmWorld(1, ["a", "b"])
