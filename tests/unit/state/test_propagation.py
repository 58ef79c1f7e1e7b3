"""Plans of moves: in time, in order, and no flapping."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.state.contacts import Contact, Contacts, Host
from edgeagent.state.errors import ElectionRefused
from edgeagent.state.propagation import Item, Move, Successor, hand_off, hand_off_begin_s, plan_moves
from edgeagent.state.units import BitPerS, Bytes, Ms, UtcS

FINE = Host(room_bytes=Bytes(10_000))
HOSTS = dict.fromkeys("abcd", FINE)
NOW = UtcS(0.0)


def link(
    a: str, b: str, start_s: float = 0.0, end_s: float = 1000.0, latency_ms: float = 0.0
) -> list[Contact]:
    """100 bytes take a second."""
    return [
        Contact(
            sender=one,
            receiver=other,
            start_s=UtcS(start_s),
            end_s=UtcS(end_s),
            rate=BitPerS(800.0),
            latency=Ms(latency_ms),
        )
        for one, other in ((a, b), (b, a))
    ]


def item(key: str, size: int = 100, **holders: float) -> Item:
    return Item(
        key=key,
        size_bytes=Bytes(size),
        holders={node: UtcS(at) for node, at in (holders or {"a": 0.0}).items()},
    )


def step(name: str, node: str, *needs: str, start_s: float = 10.0, slo_ms: float = 1000.0) -> Successor:
    return Successor(step=name, nodes=(node,), start_s=UtcS(start_s), slo_ms=Ms(slo_ms), needs=needs)


LINE = [*link("a", "b"), *link("b", "c"), *link("c", "d")]


def test_inputs_and_state_begin_to_move_when_the_step_starts() -> None:
    items = [item("state", 300), item("out", 100, a=5.0), item("far", 50, d=0.0)]
    moves = plan_moves(Contacts(LINE), HOSTS, items, [step("next", "c", "out", "state", "far")], NOW)
    found = {move.key: move for move in moves}
    assert found["state"].via == ("a", "b", "c")
    assert found["far"].via == ("d", "c")
    # The output is there when the step that makes it ends.
    assert found["out"].begin_s >= 5.0
    assert all(move.feasible and move.arrive_s <= 11.0 for move in moves)
    assert all(move.begin_s <= move.begin_by_s <= 11.0 for move in moves)
    assert [move.begin_by_s for move in moves] == sorted(move.begin_by_s for move in moves)


def test_what_is_there_does_not_move_and_what_two_need_moves_once() -> None:
    items = [item("here", a=0.0, c=0.0), item("both")]
    steps = [step("x", "c", "here", "both"), step("y", "c", "both", start_s=20.0)]
    moves = plan_moves(Contacts(LINE), HOSTS, items, steps, NOW)
    assert [(move.key, move.step, move.target) for move in moves] == [("both", "x", "c")]


def test_one_after_the_other_over_one_contact() -> None:
    items = [item("one", 200), item("two", 100), item("three", 900)]
    moves = plan_moves(
        Contacts(link("a", "b")), HOSTS, items, [step("next", "b", "one", "two", "three", slo_ms=0.0)], NOW
    )
    found = {move.key: move for move in moves}
    assert [found[key].arrive_s for key in ("two", "one", "three")] == [1.0, 3.0, 12.0]
    assert (found["three"].feasible, found["three"].why) == (False, "late")


def test_room_is_promised_once() -> None:
    hosts = {**HOSTS, "c": Host(room_bytes=Bytes(150))}
    moves = plan_moves(
        Contacts(LINE),
        hosts,
        [item("one"), item("two")],
        [step("next", "c", "one", "two", slo_ms=3000.0)],
        NOW,
    )
    assert [(move.key, move.target, move.feasible) for move in sorted(moves, key=lambda one: one.key)] == [
        ("one", "c", True),
        ("two", "b", True),
    ]


def test_the_last_moment_to_begin() -> None:
    slow = plan_moves(Contacts(link("a", "b")), HOSTS, [item("k")], [step("next", "b", "k")], NOW)
    assert slow[0].begin_by_s == 10.0  # arrives at 11, the deadline
    contacts = Contacts(link("a", "b", 0.0, 9.0, latency_ms=50.0))
    setting = plan_moves(contacts, HOSTS, [item("k")], [step("next", "b", "k")], NOW)
    assert setting[0].begin_by_s == pytest.approx(9.0 - 2 * (1.3 + 4 * 0.1))
    assert hand_off_begin_s(UtcS(9.0), Bytes(100), BitPerS(800.0), Ms(100.0)) == setting[0].begin_by_s


def test_a_move_that_is_right_stays_though_a_better_way_comes_up() -> None:
    items, steps = [item("k")], [step("next", "c", "k")]
    first = plan_moves(Contacts(LINE), HOSTS, items, steps, NOW)
    better = Contacts([*LINE, *link("a", "c")])
    assert plan_moves(better, HOSTS, items, steps, NOW, first) == first
    assert plan_moves(better, HOSTS, items, steps, NOW)[0].via == ("a", "c")


def test_a_move_is_elected_anew_when_its_way_or_its_target_is_gone() -> None:
    items, steps = [item("k")], [step("next", "c", "k")]
    first = plan_moves(Contacts(LINE), HOSTS, items, steps, NOW)
    cut = Contacts([*link("a", "d"), *link("d", "c")])
    assert plan_moves(cut, HOSTS, items, steps, NOW, first)[0].via == ("a", "d", "c")
    elsewhere = plan_moves(Contacts(LINE), HOSTS, items, [step("next", "d", "k")], NOW, first)
    assert elsewhere[0].via == ("a", "b", "c", "d")
    hot = {**HOSTS, "c": Host(room_bytes=Bytes(1000), cool=False)}
    beside = plan_moves(Contacts(LINE), hot, items, steps, NOW, first)
    assert (beside[0].target, beside[0].why) == ("b", "beside:heat")
    # The consumer has cooled down: what went beside it goes to it.
    assert plan_moves(Contacts(LINE), HOSTS, items, steps, NOW, beside)[0].target == "c"
    # While it has not, the plan stays.
    assert plan_moves(Contacts(LINE), hot, items, steps, NOW, beside) == beside
    lost = [item("k", d=0.0)]
    assert plan_moves(Contacts(LINE), HOSTS, lost, steps, NOW, first)[0].source == "d"
    assert plan_moves(Contacts(LINE), HOSTS, [item("k", a=0.0, c=2.0)], steps, NOW, first) == ()


def test_what_is_on_its_way_goes_on_from_there() -> None:
    steps = [step("next", "c", "k")]
    first = plan_moves(Contacts(LINE), HOSTS, [item("k")], steps, NOW)
    better = Contacts([*LINE, *link("a", "c")])
    (on,) = plan_moves(better, HOSTS, [item("k", a=0.0, b=1.0)], steps, UtcS(1.0), first)
    assert (on.via, on.arrive_s) == (("b", "c"), 2.0)
    (alone,) = plan_moves(better, HOSTS, [item("k", b=1.0)], steps, UtcS(1.0), first)
    assert alone == on


def test_late_moves_change_for_much_only() -> None:
    items, steps = [item("k")], [step("next", "c", "k")]
    late = plan_moves(Contacts(link("a", "c", 100.0)), HOSTS, items, steps, NOW)
    assert (late[0].feasible, late[0].arrive_s) == (False, 101.0)
    both = [*link("a", "c", 100.0)]
    bit = Contacts([*both, *link("a", "b", 90.0), *link("b", "c", 90.0)])
    assert plan_moves(bit, HOSTS, items, steps, NOW, late) == late
    much = Contacts([*both, *link("a", "b", 40.0), *link("b", "c", 40.0)])
    assert plan_moves(much, HOSTS, items, steps, NOW, late)[0].arrive_s == 42.0


def test_no_contact_yet() -> None:
    items, steps = [item("k")], [step("next", "c", "k")]
    stuck = plan_moves(Contacts([]), HOSTS, items, steps, NOW)
    assert (stuck[0].via, stuck[0].feasible, stuck[0].why) == (("a",), False, "no-contact")
    assert math.isinf(stuck[0].arrive_s)
    assert plan_moves(Contacts([]), HOSTS, items, steps, NOW, stuck) == stuck
    assert plan_moves(Contacts(LINE), HOSTS, items, steps, NOW, stuck)[0].feasible


def test_nobody_holds_it() -> None:
    with pytest.raises(ElectionRefused, match="nobody holds 'k'"):
        plan_moves(Contacts(LINE), HOSTS, [], [step("next", "c", "k")], NOW)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Contacts, list[Item], list[Successor]]:
    names = st.sampled_from("abcd")
    spans = st.tuples(names, names, st.integers(0, 20), st.integers(1, 30)).filter(
        lambda one: one[0] != one[1]
    )
    contacts = [
        one
        for a, b, start, lasts in draw(st.lists(spans, max_size=10))
        for one in link(a, b, float(start), float(start + lasts))
    ]
    items = [
        item(key, draw(st.integers(0, 300)), **{draw(names): float(draw(st.integers(0, 8)))}) for key in "klm"
    ]
    steps = [
        step(name, draw(names), *"klm", start_s=float(draw(st.integers(0, 15))), slo_ms=2000.0)
        for name in "xy"
    ]
    return Contacts(contacts), items, steps


def _sound(move: Move, deadline_s: float) -> bool:
    return (
        move.begin_s <= move.begin_by_s
        and len(set(move.via)) == len(move.via)
        and (not move.feasible or move.ready_s <= deadline_s)
    )


@given(worlds())
def test_a_plan_stays_while_nothing_changes(world: tuple[Contacts, list[Item], list[Successor]]) -> None:
    contacts, items, steps = world
    first = plan_moves(contacts, HOSTS, items, steps, NOW)
    assert plan_moves(contacts, HOSTS, items, steps, NOW, first) == first
    deadlines = {one.step: one.deadline_s for one in steps}
    assert all(_sound(move, deadlines[move.step]) for move in first)


def test_a_node_that_sets_hands_over_in_time() -> None:
    items = [item("big", 400), item("small", 100), item("urgent", 200), item("safe", a=0.0, b=0.0)]
    moves = hand_off(
        Contacts(link("a", "b", 0.0, 30.0, latency_ms=50.0)),
        HOSTS,
        items,
        "a",
        UtcS(30.0),
        NOW,
        due_s={"urgent": UtcS(40.0)},
    )
    assert [move.key for move in moves] == ["urgent", "small", "big"]
    assert all(move.feasible and move.via == ("a", "b") and move.why == "sets" for move in moves)
    # What has to pass before it counts too.
    begin_by = [30.0 - 2 * (total / 100 * 1.3 + 0.4) for total in (200, 300, 700)]
    assert [move.begin_by_s for move in moves] == pytest.approx(begin_by)


def test_what_cannot_be_handed_over_before_goes_on_at_the_next_contact() -> None:
    contacts = Contacts([*link("a", "b", 0.0, 2.0), *link("a", "b", 500.0, 600.0)])
    moves = hand_off(contacts, HOSTS, [item("one"), item("big", 300)], "a", UtcS(2.0), NOW)
    assert [(move.key, move.feasible, move.begin_s) for move in moves] == [
        ("one", True, 0.0),
        ("big", False, 500.0),
    ]
    (stuck,) = hand_off(Contacts([]), HOSTS, [item("one")], "a", UtcS(2.0), NOW)
    assert (stuck.via, stuck.why, stuck.feasible) == (("a",), "no-contact", False)


def test_hand_over_to_those_that_stay() -> None:
    contacts = Contacts([*link("a", "b"), *link("a", "c", latency_ms=900.0)])
    hosts = {**HOSTS, "b": Host(room_bytes=Bytes(1000), until_s=UtcS(20.0))}
    (move,) = hand_off(contacts, hosts, [item("k", a=0.0, b=0.0)], "a", UtcS(30.0), NOW)
    assert move.target == "c"
    assert hand_off(contacts, hosts, [item("k", a=0.0, d=0.0)], "a", UtcS(30.0), NOW) == ()
    (again,) = hand_off(contacts, hosts, [item("k", a=0.0, d=0.0)], "a", UtcS(30.0), NOW, copies=2)
    assert again.target == "c"
