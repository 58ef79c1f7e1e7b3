"""Members behind the horizon, sentence by sentence."""

from __future__ import annotations

import math

import pytest

from edgeagent.gossip.codec import Accusation, Death, Kind, encode_item
from edgeagent.gossip.commands import PlanChanged, SetUtc
from edgeagent.gossip.effects import Effect, MemberChanged, Notify
from edgeagent.gossip.occlusion import AlwaysInContact, in_contact_around
from edgeagent.gossip.records import first_version
from edgeagent.gossip.states import State
from edgeagent.simulator.contacts import FixedContacts
from tests.unit.gossip.parts import EPOCH_MS, Driver, changes, driver, identity, knobs_with, packet, packets

UTC_S = 1_000_000.0
MARGIN_S = 2.0
INCARNATION = first_version(EPOCH_MS) + 1


def _sky(
    windows: dict[tuple[str, str], list[tuple[float, float]]], *names: str, utc: bool = True, **knobs: float
) -> Driver:
    """One that knows ``names`` and the plan; windows are in seconds from now."""
    plan = {pair: [(UTC_S + start, UTC_S + end) for start, end in found] for pair, found in windows.items()}
    one = driver(
        knobs=knobs_with(**{"occlusion_margin_s": MARGIN_S, "health_max": 0, **knobs}),
        contacts=FixedContacts(plan),
    )
    if utc:
        one.take(one.mesh.on_command(0.0, SetUtc(UTC_S)))
    for name in names or ("a",):
        one.receive(f"{name}:1", packet(Kind.GOSSIP, name, 0, "", identity(name).blob))
    return one


def _quiet(one: Driver, for_s: float = 10.0) -> list[Effect]:
    """Time passes in which nobody is heard; what was heard is long ago afterwards."""
    return one.run(for_s)


def _state(one: Driver, name: str = "a") -> State:
    return one.mesh.states()[name]


def _answer(one: Driver, effects: list[Effect], but: str = "") -> list[Effect]:
    """The members answer every ping, all but one."""
    found: list[Effect] = []
    for address, ping in packets(effects, Kind.PING):
        if ping.target == but:
            continue
        found += one.receive(address, packet(Kind.ACK, ping.target, ping.seq, ping.target))
    return found


def test_out_of_contact_is_occluded_with_the_time_of_return() -> None:
    one = _sky({("me", "a"): [(-100, 0), (600, 900)]})
    effects = _quiet(one)
    notices = [it.notice for it in effects if isinstance(it, Notify) and isinstance(it.notice, MemberChanged)]
    assert [(it.before, it.after, it.returns_at_s) for it in notices] == [
        (State.ALIVE, State.OCCLUDED, UTC_S + 600)
    ]
    assert one.mesh.counters.occlusions == 1


def test_the_occluded_keep_their_records_and_are_not_probed_in_vain() -> None:
    one = _sky({("me", "a"): [(-100, 0), (600, 900)]})
    _quiet(one)
    assert packets(one.run(585.0), Kind.PING) == []
    held = one.mesh.member("a")
    assert held is not None
    assert held.records[0] is not None


def test_the_occluded_are_probed_at_their_return_and_alive_when_they_answer() -> None:
    one = _sky({("me", "a"): [(-100, 0), (600, 900)]})
    _quiet(one, 600.0 + MARGIN_S - 0.1)
    effects = one.run(0.2)
    assert [ping.target for _, ping in packets(effects, Kind.PING)] == ["a"]
    assert changes(_answer(one, effects)) == [("a", "occluded", "alive")]


def test_the_occluded_who_fail_to_return_become_suspect_and_then_die() -> None:
    one = _sky({("me", "a"): [(-100, 0), (600, 900)]})
    _quiet(one, 600.0)
    effects = one.run(30.0)
    assert changes(effects) == [("a", "occluded", "suspect"), ("a", "suspect", "dead")]


def test_one_that_others_heard_as_it_returned_is_asked_again() -> None:
    one = _sky({("me", "a"): [(-100, 0), (600, 900)]}, "a", "b")
    one.run(602.5)
    assert _state(one) is State.OCCLUDED
    one.receive("b:1", packet(Kind.GOSSIP, "b", 0, "", identity("a", 2).blob))
    assert [ping.target for _, ping in packets(one.run(1.0), Kind.PING) if ping.target == "a"] == ["a"]
    assert changes(one.run(1.0)) == [("a", "occluded", "suspect")]


def test_any_word_from_the_occluded_brings_them_back() -> None:
    one = _sky({("me", "a"): [(-100, 0), (600, 900)]})
    _quiet(one)
    assert changes(one.receive("a:1", packet(Kind.GOSSIP, "a"))) == [("a", "occluded", "alive")]
    # What was just heard is probed, whatever the plan says.
    assert [ping.target for _, ping in packets(one.run(1.1), Kind.PING)] == ["a"]


def test_a_probe_that_the_edge_of_a_contact_cut_off_is_no_reason_for_suspicion() -> None:
    one = _sky({("me", "a"): [(-100, 20.5), (600, 900)]})
    for _ in range(19):
        _answer(one, one.run(1.0))
    assert changes(one.run(3.0)) == [("a", "alive", "occluded")]


def test_a_suspicion_that_the_contact_does_not_outlast_ends_in_occlusion() -> None:
    one = _sky({("me", "a"): [(-100, 6), (600, 900)]}, "a", suspicion_mult=20.0)
    found = changes(one.run(60.0))
    assert found == [("a", "alive", "suspect"), ("a", "suspect", "occluded")]


def test_who_is_out_of_contact_cannot_accuse() -> None:
    one = _sky({("b", "a"): [(600, 900)]}, "a", "b", "c")
    for kind in (Accusation, Death):
        item = encode_item(kind("a", INCARNATION, "b"))
        assert changes(one.receive("c:1", packet(Kind.GOSSIP, "c", 0, "", item))) == []
    assert one.mesh.counters.accusations_ignored == 2


def test_the_occluded_do_not_become_suspect_by_hearsay() -> None:
    one = _sky({("me", "a"): [(600, 900)]}, "a", "b", probe_interval_s=5.0)
    for _ in range(30):
        _answer(one, one.run(1.0), but="a")
    assert one.mesh.states() == {"a": State.OCCLUDED, "b": State.ALIVE}
    item = encode_item(Accusation("a", INCARNATION, "b"))
    assert changes(one.receive("b:1", packet(Kind.GOSSIP, "b", 0, "", item))) == []
    # A verdict of one that is in contact counts: it has waited for an answer that did not come.
    verdict = encode_item(Death("a", INCARNATION, "b"))
    assert changes(one.receive("b:1", packet(Kind.GOSSIP, "b", 0, "", verdict))) == [
        ("a", "occluded", "dead")
    ]


def test_without_a_return_in_sight_the_plan_is_asked_again() -> None:
    one = _sky({("me", "a"): []}, occlusion_recheck_s=50.0)
    _quiet(one)
    assert packets(one.run(500.0), Kind.PING) == []
    assert _state(one) is State.OCCLUDED


def test_those_without_a_return_for_too_long_become_suspect() -> None:
    one = _sky({("me", "a"): []}, occlusion_recheck_s=50.0, occlusion_unknown_max_s=400.0)
    _quiet(one)
    assert changes(one.run(600.0)) == [("a", "occluded", "suspect"), ("a", "suspect", "dead")]


def test_a_return_that_the_plan_puts_off_is_awaited() -> None:
    one = _sky({("me", "a"): [(600, 602), (900, 1200)]})  # the first contact is shorter than its margins
    _quiet(one)
    assert packets(one.run(890.0), Kind.PING) == []
    assert [ping.target for _, ping in packets(one.run(2.9), Kind.PING)] == ["a"]


def test_the_occluded_have_one_timer_however_often_the_plan_is_asked() -> None:
    # Probes of one that was heard just now fail after the contact's end, each for itself.
    one = _sky({("me", "a"): [(-100, 0), (600, 602), (900, 902), (1200, 1500)]})
    _quiet(one)
    one.take(one.mesh.on_command(one.now_s, PlanChanged()))
    one.take(one.mesh.on_command(one.now_s, PlanChanged(("a", "nobody"))))
    one.run(1190.0)
    assert [ping.target for _, ping in packets(one.run(2.5), Kind.PING)] == ["a"]


def test_a_plan_that_is_new_brings_a_return_forward() -> None:
    plan = {("me", "a"): [(UTC_S + 6000.0, UTC_S + 9000.0)]}
    contacts = FixedContacts(plan)
    one = driver(knobs=knobs_with(health_max=0), contacts=contacts)
    one.take(one.mesh.on_command(0.0, SetUtc(UTC_S)))
    one.receive("a:1", packet(Kind.GOSSIP, "a", 0, "", identity("a").blob))
    _quiet(one)
    contacts.put("me", "a", [(UTC_S + 50.0, UTC_S + 900.0)])
    assert packets(one.run(90.0), Kind.PING) == []
    one.take(one.mesh.on_command(one.now_s, PlanChanged(("b",))))
    assert packets(one.run(1.0), Kind.PING) == []
    one.take(one.mesh.on_command(one.now_s, PlanChanged(("a",))))
    assert [ping.target for _, ping in packets(one.run(0.1), Kind.PING)] == ["a"]


class _Contradictory:
    """A plan that always says: now, and yet not now."""

    def __init__(self, after_s: float) -> None:
        self.asked = 0
        self._after_s = after_s

    def reachable(self, _a: str, _b: str, _at_s: float) -> bool:
        return False

    def returns_at_s(self, _a: str, _b: str, at_s: float) -> float | None:
        self.asked += 1
        return at_s + self._after_s


@pytest.mark.parametrize("after_s", [0.0, -5000.0, math.inf, math.nan])
def test_a_plan_that_contradicts_itself_is_not_asked_in_a_loop(after_s: float) -> None:
    contacts = _Contradictory(after_s)
    one = driver(knobs=knobs_with(occlusion_margin_s=0.0), contacts=contacts)
    one.take(one.mesh.on_command(0.0, SetUtc(UTC_S)))
    one.receive("a:1", packet(Kind.GOSSIP, "a", 0, "", identity("a").blob))
    _quiet(one)
    asked = contacts.asked
    assert packets(one.run(100.0), Kind.PING) == []
    assert contacts.asked - asked <= 101


def test_a_process_that_stood_still_looks_for_returns_at_once() -> None:
    one = _sky({("me", "a"): [(-100, 0), (600, 9000)]})
    _quiet(one)
    one.now_s = 4000.0
    assert [ping.target for _, ping in packets(one.run(0.1), Kind.PING)] == ["a"]
    assert one.mesh.counters.stalls == 1


def test_without_a_synchronised_clock_nothing_is_predicted() -> None:
    one = _sky({("me", "a"): [(600, 900)]}, utc=False)
    found = changes(one.run(60.0))
    assert ("a", "alive", "suspect") in found
    assert not any("occluded" in change for change in found)


def test_a_clock_that_is_set_has_every_return_looked_up_again() -> None:
    one = _sky({("me", "a"): [(-100, 0), (600, 900)]})
    _quiet(one)
    effects = one.take(one.mesh.on_command(one.now_s, SetUtc(UTC_S + 700)))
    assert [ping.target for _, ping in packets(effects + one.run(0.1), Kind.PING)] == ["a"]
    one.take(one.mesh.on_command(one.now_s, SetUtc(UTC_S + 700.5)))  # a small step changes nothing
    one.take(one.mesh.on_command(one.now_s, SetUtc(None)))


def test_helpers_are_in_contact_with_both() -> None:
    never: list[tuple[float, float]] = []
    one = _sky({("b", "a"): never, ("me", "c"): never}, "a", "b", "c", "d", probe_interval_s=2.0)
    asked = []
    for _ in range(40):
        effects = one.run(0.5)
        asked += [address for address, it in packets(effects, Kind.PING_REQ) if it.target == "a"]
        _answer(one, effects, but="a")
    assert set(asked) == {"d:1"}


def test_a_contact_counts_only_with_its_margins() -> None:
    plan = FixedContacts({("a", "b"): [(100.0, 110.0)]})
    judged = {
        at: in_contact_around(plan, "a", "b", at, 2.0) for at in (99.0, 101.0, 102.0, 107.9, 108.5, 111.0)
    }
    assert judged == {99.0: False, 101.0: False, 102.0: True, 107.9: True, 108.5: False, 111.0: False}


def test_no_plan_is_a_mesh_on_the_ground() -> None:
    plan = AlwaysInContact()
    assert plan.reachable("a", "b", 5.0)
    assert plan.returns_at_s("a", "b", 5.0) == 5.0
