"""Workflows whose state travels: links by hand, a tiny case by hand, books that balance, and the shell's geometry."""

from __future__ import annotations

import math
import random
from functools import cache, partial
from itertools import pairwise

import numpy as np
import pytest

from edgeagent.model.errors import Unavailable
from edgeagent.simulator.clock import VirtualClock
from edgeagent.simulator.state_flow import Flow, Played, play, two_hops_ms
from edgeagent.simulator.state_flow_links import CHUNK_BYTES, Leg, Network, unloaded_s
from edgeagent.simulator.state_flow_policies import POLICY_NAMES, Ahead
from edgeagent.simulator.state_flow_sky import CLOUD, GROUND, FlowSky, Places, Way
from edgeagent.simulator.state_flow_world import FlowSettings, World, start
from edgeagent.state.ways import Ways
from edgeagent.topology.graph import Graph

MB = 1_000_000
SMALL = FlowSettings(size_bytes=MB, clients=2, workflows=3)
RATE = CHUNK_BYTES * 8.0  # a chunk a second


@cache
def shell() -> FlowSky:
    return FlowSky()


# -- links ---------------------------------------------------------------------------------------------------


def ends(*sent: tuple[list[Leg], int]) -> list[float]:
    """When transfers that begin at once are at their ends."""
    clock = VirtualClock()
    network = Network(clock)
    found: dict[int, float] = {}

    def ended(number: int) -> None:
        found[number] = clock.now_s

    for number, (legs, size) in enumerate(sent):
        network.send(legs, size, partial(ended, number))
    clock.run_until(1e6)
    assert network.moved_bytes == sum(size for legs, size in sent if legs)
    return [found[number] for number in range(len(sent))]


def test_transfers_take_turns_at_a_link() -> None:
    legs = [Leg("ab", RATE, 0.25)]
    assert ends((legs, 3 * CHUNK_BYTES), (legs, CHUNK_BYTES), (legs, 2 * CHUNK_BYTES)) == [5.25, 3.25, 6.25]
    assert ends((legs, 3 * CHUNK_BYTES)) == [3.25]


def test_chunks_go_on_as_they_come() -> None:
    legs = [Leg("ab", RATE, 0.25), Leg("bc", RATE / 2, 0.5), Leg("cd", RATE, 0.0)]
    assert ends((legs, 4 * CHUNK_BYTES)) == [1 + 4 * 2 + 1 + 0.75]
    assert unloaded_s(legs, 4 * CHUNK_BYTES) == 1 + 4 * 2 + 1 + 0.75
    assert ends((legs, 0), ([], 7)) == [0.75, 0.0]
    assert unloaded_s([], 7) == 0.0


def test_what_meets_midway_shares_that_link_only() -> None:
    one, other = [Leg("ax", RATE, 0.0), Leg("xy", RATE, 0.0)], [Leg("bx", RATE, 0.0), Leg("xy", RATE, 0.0)]
    assert sorted(ends((one, 2 * CHUNK_BYTES), (other, 2 * CHUNK_BYTES))) == [4.0, 5.0]


# -- a case by hand --------------------------------------------------------------------------------------------


class Line:
    """a - b - cloud: from each to the next 10 ms; RATE between a and b, a tenth of it to the cloud."""

    cloud = CLOUD

    def __init__(self, rate: float = 1e9) -> None:
        self.ab = Leg("ab", rate, 0.01)
        self.bc = Leg("bc", rate / 10, 0.01)

    def way(self, a: str, b: str, utc_s: float) -> Way:
        del utc_s
        legs = {
            ("a", "b"): (self.ab,),
            ("b", CLOUD): (self.bc,),
            ("a", CLOUD): (self.ab, self.bc),
        }
        there = legs.get((a, b))
        if there is None:
            back = [leg._replace(link=(leg.link, "back")) for leg in legs.get((b, a), ())]
            there = tuple(back[::-1])
        return Way(there, sum(leg.latency_s for leg in there))

    def ways(self, utc_s: float) -> Ways:
        del utc_s
        return Ways(("a", "b", CLOUD), Graph(3, np.array([0, 1]), np.array([1, 2]), [10.0, 10.0]))


PLACES = Places(("a", "b"), 1e9)
HAND = FlowSettings(
    size_bytes=4 * CHUNK_BYTES,
    header_bytes=0,
    alert_bytes=0,
    clients=1,
    workflows=2,
    disk_bit_s=math.inf,
    commit_s=0.0,
)
CHUNK_S = CHUNK_BYTES * 8.0 / 1e9
ALERT_S = 0.02  # to the cloud and back


@pytest.mark.parametrize(
    ("policy", "between_s"),
    [
        ("ours", 4 * CHUNK_S + 0.01),  # the message is there before
        ("producer", 0.01 + 0.01 + 4 * CHUNK_S + 0.01),  # told, asked, sent
        # Written over the narrow link and acknowledged, told, asked for, and back over the narrow link and no other.
        ("cloud", CHUNK_S + 40 * CHUNK_S + 0.02 + 0.02 + 0.01 + 0.01 + 40 * CHUNK_S + 0.01),
    ],
)
def test_a_case_by_hand(policy: str, between_s: float) -> None:
    played = play(Line(), PLACES, policy, HAND, seed=1)
    assert played.time_ms == pytest.approx(1000.0 * (0.1 + between_s + 0.1 + ALERT_S))
    assert played.workflows_per_s == pytest.approx(1000.0 / played.time_ms)
    assert played.storage_ms == pytest.approx(1000.0 * (between_s - 0.01))  # without the message


def test_keys_one_by_one_wait_for_one_another() -> None:
    single = HAND._replace(fused=False, keys=4)
    played = play(Line(), PLACES, "producer", single, seed=1)
    asking_s = 4 * (0.02 + CHUNK_S) + 0.02  # four keys, and an empty header
    assert played.time_ms == pytest.approx(1000.0 * (0.1 + 0.01 + asking_s + 0.1 + ALERT_S))
    assert play(Line(), PLACES, "ours", single, seed=1).keys == 3 * 5


def test_a_key_does_not_move_before_it_is_written() -> None:
    world = World(Line(), 1e9, HAND._replace(commit_s=0.05, fused=False))
    flow = Flow(world, PLACES, Ahead(world, 1000.0), 1000.0)
    start(flow.client(0.0))
    world.clock.run_until(0.1499)
    assert not world.network.sent_bytes("ab")
    world.clock.run_until(0.1501)
    assert world.network.sent_bytes("ab")


def test_a_group_moves_while_it_is_written_and_is_there_when_it_is_written() -> None:
    settings = HAND._replace(disk_bit_s=4 * CHUNK_BYTES * 8 / 0.5)  # half a second
    world = World(Line(), 1e9, settings)
    policy = Ahead(world, 1000.0)
    flow = Flow(world, PLACES, policy, 1000.0)
    start(flow.client(0.0))
    world.clock.run_until(0.1001)
    assert world.network.sent_bytes("ab") > 0
    world.clock.run_until(0.5999)
    assert not flow.counts["edges"], "the next step has not been told"
    # Both disks write at once, the other one a chunk later; the entries follow their chunks.
    played_ms = play(Line(), PLACES, "ours", settings, seed=1).time_ms
    one_after_the_other_ms = 1000 * (0.1 + 2 * 0.5 + 0.1)
    assert 1000 * (0.1 + 0.5 + 0.1) < played_ms < one_after_the_other_ms


def test_disks_write_what_is_kept_and_what_comes() -> None:
    plain = play(Line(), PLACES, "ours", HAND, seed=1)
    slow = play(Line(), PLACES, "ours", HAND._replace(commit_s=0.05), seed=1)
    assert slow.time_ms - plain.time_ms == pytest.approx(100.0)  # at a and b at once, and the alert's


def test_late_steps_are_violations_where_an_election_was_feasible() -> None:
    assert play(Line(), PLACES, "ours", HAND, seed=1).late == 0
    slow = play(Line(1e6), PLACES, "ours", HAND, seed=1)
    assert slow.late == slow.edges == 3
    assert slow.violations == 0
    crowd = play(Line(1e8), PLACES, "ours", HAND._replace(clients=8), seed=1)
    assert crowd.late == crowd.violations > 0


# -- over orbits -----------------------------------------------------------------------------------------------


@cache
def played(policy: str, *, fused: bool = True, on_the_way: bool = False) -> Played:
    places = shell().places(1, 7, on_the_way=on_the_way)
    return play(shell(), places, policy, SMALL._replace(fused=fused), seed=7)


@pytest.mark.parametrize("policy", POLICY_NAMES)
@pytest.mark.parametrize("fused", [True, False])
def test_every_byte_that_is_read_was_there_or_fetched(policy: str, *, fused: bool) -> None:
    one = played(policy, fused=fused)
    books = one.books
    runs = one.edges // 3
    assert books["read"] == one.edges * MB
    assert books["read"] == books["here"] + books.get("fetched", 0)
    assert books["written"] == runs * (3 * (MB - SMALL.header_bytes) + SMALL.header_bytes)
    assert one.keys == one.edges * 9
    arrived = sum(books.get(kind, 0) for kind in ("written", "fetched", "moved", "alerts"))
    assert arrived == one.moved_bytes
    if policy == "ours":
        assert books["moved"] == books["here"]
        assert one.local == one.keys
        if fused:
            assert one.ahead == 2 * runs  # headers, at the third and fourth step
        else:
            assert one.ahead > 2 * runs  # and keys that were written early
    else:
        assert "moved" not in books


def test_the_same_seed_gives_the_same_figures() -> None:
    again = FlowSky()
    for policy in POLICY_NAMES:
        places = again.places(1, 7)
        assert places == shell().places(1, 7)
        assert play(again, places, policy, SMALL, seed=7) == played(policy)
    assert shell().places(1, 8) != shell().places(1, 7)


def test_ours_is_faster_than_what_it_is_compared_with() -> None:
    times = {policy: played(policy).time_ms for policy in POLICY_NAMES}
    assert min(times, key=lambda one: times[one]) == "ours"
    assert max(times, key=lambda one: times[one]) == "cloud"
    assert played("ours").violations == 0
    assert played("cloud").violations == played("cloud").edges


def test_the_originals_election_finds_the_next_step_on_the_way_to_the_sink_only() -> None:
    assert played("databelt", on_the_way=True).local_share > 0.3
    assert played("databelt").local_share < played("databelt", on_the_way=True).local_share


@pytest.mark.parametrize("on_the_way", [True, False])
def test_steps_are_two_hops_apart(*, on_the_way: bool) -> None:
    sky = shell()
    for number in range(3):
        places = sky.places(number, 1, on_the_way=on_the_way)
        assert len(set(places.nodes)) == 4
        ways = sky.ways(places.utc_s)
        hops = Graph(
            len(ways.ids),
            np.repeat(np.arange(len(ways.ids)), np.diff(ways.graph.indptr)),
            ways.graph.indices,
            np.ones(len(ways.graph.indices)),
        )
        rows = [ways.row(node) for node in places.nodes]
        assert [hops.tree(a).distance[b] for a, b in pairwise(rows)] == [2.0, 2.0, 2.0]
        assert two_hops_ms(sky, places) < 60.0


def test_the_sky_is_the_fixed_set_up() -> None:
    sky = shell()
    places = sky.places(0, 1)
    down = sky.way(places.nodes[0], CLOUD, places.utc_s)
    assert down.rate_bit_s == 80e6
    assert down.legs[-1].latency_s == pytest.approx(0.02)
    assert down.legs[-2].link == ("down", GROUND)
    assert sky.way(CLOUD, places.nodes[0], places.utc_s).legs[1].link == ("up", GROUND)
    assert sky.way(places.nodes[0], places.nodes[1], places.utc_s).rate_bit_s == 1e9
    assert sky.way("a", "a", places.utc_s) == Way((), 0.0)
    assert Way((), 0.0).rate_bit_s == math.inf


def test_a_shell_with_gaps_is_refused() -> None:
    sky = FlowSky(planes=3, slots=3)
    with pytest.raises(Unavailable):
        sky.way(random.Random(1).choice(sky.satellites), CLOUD, 1_780_000_000.0)
