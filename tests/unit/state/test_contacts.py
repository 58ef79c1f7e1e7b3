"""The earliest arrival over contacts, against every way that there is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.state.contacts import (
    MARGIN,
    Contact,
    Contacts,
    Host,
    Promised,
    Search,
    Start,
    Trail,
    refused_by,
)
from edgeagent.state.errors import ElectionRefused
from edgeagent.state.units import BitPerS, Bytes, Ms, UtcS

NODES = "abcde"


def contact(
    sender: str,
    receiver: str,
    start_s: float = 0.0,
    end_s: float = 100.0,
    *,
    rate: float = 800.0,
    latency_ms: float = 0.0,
    left: int | None = None,
    nj_per_bit: float = 0.0,
) -> Contact:
    return Contact(
        sender=sender,
        receiver=receiver,
        start_s=UtcS(start_s),
        end_s=UtcS(end_s),
        rate=BitPerS(rate),
        latency=Ms(latency_ms),
        left_bytes=None if left is None else Bytes(left),
        nj_per_bit=nj_per_bit,
    )


@st.composite
def plans(draw: st.DrawFn) -> list[Contact]:
    """Up to 14 contacts of 5 nodes, on a grid of seconds, so that there are ties."""
    one = st.builds(
        lambda ends, start, lasts, rate, latency, left, energy: contact(
            ends[0],
            ends[1],
            start,
            start + lasts,
            rate=rate,
            latency_ms=latency,
            left=left,
            nj_per_bit=energy,
        ),
        st.permutations(NODES).map(lambda names: names[:2]),
        st.integers(0, 20),
        st.integers(1, 30),
        st.sampled_from([400.0, 800.0, 1600.0]),
        st.sampled_from([0.0, 1000.0, 2000.0]),
        st.sampled_from([None, 60, 200, 1000]),
        st.sampled_from([0.0, 1.0, 3.0]),
    )
    return draw(st.lists(one, max_size=14))


def every_way(
    contacts: list[Contact], node: str, at_s: float, volume: int, seen: str
) -> Iterator[tuple[str, float]]:
    """(node, arrival) of each way over any contacts."""
    yield node, at_s
    for one in contacts:
        if one.sender != node or one.receiver in seen:
            continue
        begin = max(at_s, one.start_s)
        lasts = volume * 8 / one.rate
        if begin >= one.end_s or begin + MARGIN * lasts > one.end_s:
            continue
        if one.left_bytes is None or MARGIN * volume <= one.left_bytes:
            arrive = begin + lasts + one.latency / 1000
            yield from every_way(contacts, one.receiver, arrive, volume, seen + one.receiver)


def quickest_hops(
    plan: Contacts, node: str, at_s: float, volume: int, seen: str, hops: int = 0, joules: float = 0.0
) -> Iterator[tuple[str, float, int, float]]:
    """The same where each pair takes what arrives first, with hops and energy."""
    yield node, at_s, hops, joules
    for other in NODES:
        hop = None if other in seen else plan.cross(node, other, at_s, volume, Promised())
        if hop is not None:
            more = volume * 8e-9 * plan.all[hop.number].nj_per_bit
            yield from quickest_hops(plan, other, hop.arrive_s, volume, seen + other, hops + 1, joules + more)


def search(
    volume: int, *starts: Start, until_s: float = math.inf, asks: bool = False, bar: str = ""
) -> Search:
    return Search(
        starts=starts,
        volume=lambda _node: volume,
        relays=lambda node: node not in bar,
        wanted=lambda _node: True,
        until_s=until_s,
        asks=asks,
    )


def firsts(plan: Contacts, asked: Search, promised: Promised | None = None) -> dict[str, Trail]:
    found: dict[str, Trail] = {}
    for trail in plan.settle(asked, promised):
        found.setdefault(trail.node, trail)
    return found


@given(plans(), st.sampled_from([0, 50, 100]), st.integers(0, 10), st.sampled_from([15.0, math.inf]))
def test_nothing_arrives_earlier(contacts: list[Contact], volume: int, at_s: int, until_s: float) -> None:
    plan = Contacts(contacts)
    found = firsts(plan, search(volume, Start("a", at_s), until_s=until_s))
    expected: dict[str, float] = {}
    for node, arrive_s in every_way(contacts, "a", at_s, volume, "a"):
        expected[node] = min(expected.get(node, math.inf), arrive_s)
    assert {node: trail.arrive_s for node, trail in found.items()} == pytest.approx(
        {node: arrive_s for node, arrive_s in expected.items() if arrive_s <= until_s}
    )
    best: dict[str, tuple[float, int, float]] = {}
    for node, arrive_s, hops, joules in quickest_hops(plan, "a", at_s, volume, "a"):
        best[node] = min(best.get(node, (math.inf, 0, 0.0)), (arrive_s, hops, joules))
    for node, trail in found.items():
        assert (trail.arrive_s, len(trail.hops)) == best[node][:2]
        assert trail.energy_j == pytest.approx(best[node][2])
        for one, two in itertools.pairwise(trail.hops):
            assert one.receiver == two.sender
            assert two.begin_s >= one.arrive_s


def test_a_longer_way_does_not_hide_a_shorter_one_that_catches_up() -> None:
    # b is reached sooner over c, but its contact to d opens at 50 for both.
    plan = Contacts(
        [contact("a", "c"), contact("c", "b"), contact("a", "b", 20.0), contact("b", "d", 50.0)],
    )
    found = firsts(plan, search(100, Start("a", 0.0)))
    assert found["b"].via == ("a", "c", "b")
    assert found["d"].via == ("a", "b", "d")


def test_what_is_promised_is_taken() -> None:
    plan = Contacts([contact("a", "b", end_s=4.0), contact("a", "b", 10.0, 20.0, left=200)])
    promised = Promised()
    arrivals = []
    for _ in range(4):
        trail = firsts(plan, search(100, Start("a", 0.0)), promised).get("b")
        arrivals.append(None if trail is None else trail.arrive_s)
        if trail is not None:
            promised.take(trail, 100)
    # 1 s each, and 1.3 s must be left; then a contact with room for 1.3 * 100 bytes, once.
    assert arrivals == [1.0, 2.0, 3.0, 11.0]
    assert promised.room_bytes["b"] == 400
    assert "b" not in firsts(plan, search(100, Start("a", 0.0)), promised)


def test_relays_and_requests() -> None:
    plan = Contacts([contact("a", "b", latency_ms=1000.0), contact("b", "c", latency_ms=1000.0)])
    assert "c" not in firsts(plan, search(0, Start("a", 0.0), bar="b"))
    assert firsts(plan, search(0, Start("a", 0.0)))["c"].arrive_s == 2.0
    assert firsts(plan, search(0, Start("a", 0.0), asks=True))["c"].arrive_s == 4.0
    assert firsts(plan, search(0, Start("a", 0.0), Start("b", 0.5)))["c"].origin == "b"


def test_hosts_say_why_they_refuse() -> None:
    hosts = {
        "full": Host(room_bytes=Bytes(10)),
        "dark": Host(room_bytes=Bytes(100), powered=False),
        "hot": Host(room_bytes=Bytes(100), cool=False),
        "fine": Host(room_bytes=Bytes(100)),
    }
    promised = Promised()
    found = {node: refused_by(hosts, node, 11, promised) for node in (*hosts, "who")}
    assert found == {"full": "no-room", "dark": "power", "hot": "heat", "fine": "", "who": "unknown"}
    promised.room_bytes["fine"] = 90
    assert refused_by(hosts, "fine", 11, promised) == "no-room"


@pytest.mark.parametrize(
    "bad",
    [
        {"end_s": 0.0},
        {"end_s": math.nan},
        {"start_s": -math.inf},
        {"rate": 0.0},
        {"rate": math.nan},
        {"latency_ms": -1.0},
        {"latency_ms": math.inf},
        {"nj_per_bit": -1.0},
    ],
)
def test_contacts_that_cannot_be_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ElectionRefused):
        contact("a", "b", **bad)  # type: ignore[arg-type]


def test_what_comes_later_leaves_the_time_before_it_free() -> None:
    plan, promised = Contacts([contact("a", "b")]), Promised()
    promised.take(firsts(plan, search(100, Start("a", 5.0)))["b"], 100)
    begins = []
    for volume in (400, 200, 100):
        trail = firsts(plan, search(volume, Start("a", 0.0)), promised)["b"]
        promised.take(trail, volume)
        begins.append(trail.hops[0].begin_s)
    assert begins == [0.0, 6.0, 4.0]
