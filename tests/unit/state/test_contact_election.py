"""Elections over contacts: who is elected, and why."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.state.contact_election import Elected, Need, elect_over
from edgeagent.state.contacts import Contact, Contacts, Host, Search, Start
from edgeagent.state.errors import ElectionRefused
from edgeagent.state.units import BitPerS, Bytes, Ms, UtcS


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


def hosts(**changed: Host) -> dict[str, Host]:
    fine = Host(room_bytes=Bytes(10_000))
    return {name: changed.get(name, fine) for name in "abcd"}


def need(
    size: int = 100,
    *,
    use_s: float = 10.0,
    deadline_s: float = 11.0,
    holders: dict[str, float] | None = None,
    consumers: tuple[str, ...] = ("c",),
    partly: dict[str, int] | None = None,
) -> Need:
    return Need(
        size_bytes=Bytes(size),
        holders={node: UtcS(at) for node, at in (holders or {"a": 0.0}).items()},
        consumers=consumers,
        now_s=UtcS(0.0),
        use_s=UtcS(use_s),
        deadline_s=UtcS(deadline_s),
        partly={node: Bytes(size) for node, size in (partly or {}).items()},
    )


LINE = [*link("a", "b"), *link("b", "c"), *link("c", "d")]


def elected(contacts: list[Contact], asked: Need, **changed: Host) -> Elected:
    return elect_over(Contacts(contacts), hosts(**changed), asked)


def test_the_consumer_where_it_is_in_time() -> None:
    found = elected(LINE, need())
    assert (found.node, found.trail.via, found.trail.arrive_s) == ("c", ("a", "b", "c"), 2.0)
    assert (found.ready_s, found.feasible, found.why) == (10.0, True, "in-time")


def test_from_the_holder_that_is_nearest_and_only_what_is_lacking() -> None:
    found = elected(LINE, need(holders={"a": 0.0, "d": 0.5}, partly={"c": 40}))
    assert found.trail.via == ("d", "c")
    assert found.trail.arrive_s == pytest.approx(1.1)


def test_nothing_moves_to_a_consumer_that_holds_it() -> None:
    found = elected(LINE, need(holders={"a": 0.0, "c": 3.0}, consumers=("d", "c")))
    assert (found.node, found.trail.hops, found.feasible, found.why) == ("c", (), True, "there")
    late = elected(LINE, need(holders={"c": 30.0}))
    assert (late.ready_s, late.feasible, late.why) == (30.0, False, "late")


@pytest.mark.parametrize(
    ("host", "why"),
    [
        (Host(room_bytes=Bytes(99)), "beside:no-room"),
        (Host(room_bytes=Bytes(100), powered=False), "beside:power"),
        (Host(room_bytes=Bytes(100), cool=False), "beside:heat"),
        (Host(room_bytes=Bytes(100), until_s=UtcS(9.0)), "beside"),
    ],
)
def test_beside_a_consumer_that_cannot_hold_it(host: Host, why: str) -> None:
    found = elected(LINE, need(), c=host)
    # b has it at 1; c asks at 10 and has it at 11.
    assert (found.node, found.consumer, found.trail.via) == ("b", "c", ("a", "b"))
    assert (found.ready_s, found.feasible, found.why) == (11.0, True, why)


def test_no_relay_without_room() -> None:
    found = elected(LINE, need(deadline_s=50.0), b=Host(room_bytes=Bytes(1)))
    assert (found.feasible, found.why, found.node) == (False, "no-contact", "a")
    assert math.isinf(found.ready_s)


def test_not_to_a_node_that_is_out_of_sight_when_it_is_asked() -> None:
    # b and c part before the step starts; a and c meet then.
    contacts = [*link("a", "b"), *link("b", "c", 0.0, 5.0), *link("a", "c", 9.0, 20.0)]
    found = elected(contacts, need(), c=Host(room_bytes=Bytes(1)))
    assert (found.node, found.trail.hops, found.feasible) == ("a", (), True)


def test_the_least_late_where_nothing_is_in_time() -> None:
    found = elected([*link("a", "c", 60.0)], need())
    assert (found.node, found.ready_s, found.feasible, found.why) == ("c", 61.0, False, "late")


def test_contacts_that_are_too_short_carry_nothing() -> None:
    assert elected(link("a", "c", 0.0, 1.29), need()).why == "no-contact"
    assert elected(link("a", "c", 0.0, 1.31), need()).feasible


def test_the_consumer_that_is_reached_first() -> None:
    contacts = [*link("a", "c", latency_ms=500.0), *link("a", "d", latency_ms=400.0)]
    assert elected(contacts, need(consumers=("c", "d"))).node == "d"


def test_needs_that_cannot_be_are_refused() -> None:
    for bad in ({"size": -1}, {"use_s": math.nan}, {"deadline_s": math.nan}, {"consumers": ()}):
        with pytest.raises(ElectionRefused):
            need(**bad)
    with pytest.raises(ElectionRefused):
        need(holders={"a": math.inf})


@st.composite
def skies(draw: st.DrawFn) -> list[Contact]:
    names = st.sampled_from("abcd")
    spans = st.tuples(names, names, st.integers(0, 20), st.integers(1, 30)).filter(
        lambda one: one[0] != one[1]
    )
    return [
        one
        for a, b, start, lasts in draw(st.lists(spans, max_size=10))
        for one in link(
            a, b, float(start), float(start + lasts), latency_ms=draw(st.sampled_from([0.0, 500.0]))
        )
    ]


def arrivals(
    contacts: list[Contact], node: str, at_s: float, until_s: float, able: set[str], *, asks: bool
) -> dict[str, float]:
    search = Search(
        starts=(Start(node, at_s),),
        volume=lambda _node: 100,
        relays=lambda one: one in able,
        wanted=lambda _node: True,
        until_s=until_s,
        asks=asks,
    )
    found: dict[str, float] = {}
    for trail in Contacts(contacts).settle(search):
        found.setdefault(trail.node, trail.arrive_s)
    return found


@given(skies(), st.sets(st.sampled_from("abcd")), st.integers(0, 12), st.integers(0, 8))
def test_no_other_node_would_have_it_earlier(
    contacts: list[Contact], able: set[str], use_s: int, slack_s: int
) -> None:
    deadline_s = use_s + slack_s
    refusing = {name: Host(room_bytes=Bytes(0)) for name in "abcd" if name not in able}
    found = elected(contacts, need(use_s=use_s, deadline_s=deadline_s), **refusing)
    for until_s in (deadline_s, math.inf):
        there = arrivals(contacts, "a", 0.0, until_s, able, asks=False)
        if "c" in able and "c" in there:
            best = max(there["c"], use_s)
            break
        fetched = [
            arrivals(contacts, node, max(at_s, use_s), until_s, able, asks=True).get("c", math.inf)
            for node, at_s in there.items()
            if node != "c" and (node in able or node == "a")
        ]
        best = min(fetched, default=math.inf)
        if math.isfinite(best):
            break
    assert found.ready_s == pytest.approx(best) or found.ready_s == best
    assert found.feasible == math.isfinite(until_s)
    assert found.node in able | {"a"}
    if found.feasible:
        assert found.ready_s <= max(deadline_s, use_s)
