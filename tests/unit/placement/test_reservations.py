"""Reservations: what is admitted never exceeds the room there is, whatever the order of calls."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgeagent.placement.body import Body
from edgeagent.placement.errors import NotAdmitted, PlanRefused
from edgeagent.placement.reservations import Reservation, Reservations, Truth

IDLE = Truth(active=0, concurrency_max=4)
SATELLITE = Body(temperature_c_max=60.0, battery_wh=10.0, battery_reserve=0.3)


def _reserve(
    reservations: Reservations, key: str = "k", truth: Truth = IDLE, now_s: float = 0.0
) -> Reservation:
    return reservations.reserve(key, 100, 1000.0, truth, Body(), now_s)


def test_the_same_key_is_the_same_reservation() -> None:
    reservations = Reservations()
    one = _reserve(reservations)
    assert _reserve(reservations, now_s=4.0) == one
    assert reservations.held == 1
    reservations.begin(one.id, 4.5)
    assert _reserve(reservations, now_s=100.0) == one  # a call that runs, repeated
    reservations.end(one.id)
    assert _reserve(reservations, now_s=100.0) != one


def test_it_expires_and_cannot_begin_then() -> None:
    reservations = Reservations(ttl_ms=5000.0)
    one = _reserve(reservations)
    assert one.expires_s == 5.0
    assert reservations.expire(4.9) == 0
    assert reservations.expire(5.0) == 1
    assert reservations.begin(one.id, 5.0) is None
    assert (reservations.held, reservations.in_use) == (0, 0)


def test_what_has_begun_does_not_expire_and_begins_once() -> None:
    reservations = Reservations()
    one = _reserve(reservations)
    assert reservations.begin(one.id, 1.0) == one
    assert reservations.begin(one.id, 100.0) == one
    assert (reservations.held, reservations.in_use) == (0, 1)
    reservations.end(one.id)
    reservations.end(one.id)
    assert (reservations.held, reservations.in_use) == (0, 0)


def test_ids_of_two_lives_differ() -> None:
    assert _reserve(Reservations(epoch=1)).id != _reserve(Reservations(epoch=2)).id


@pytest.mark.parametrize(
    ("constraint", "truth", "asked"),
    [
        ("draining", {"draining": True}, {}),
        ("concurrency", {"active": 4}, {}),
        ("concurrency", {"active": 4, "waiting": 2, "waiting_max": 100}, {}),
        ("memory", {"memory_free_bytes": 99}, {}),
        ("heat", {"temperature_c": 61.0}, {}),
        (
            "heat",
            {"temperature_c": 50.0},
            {"wall_ms": 3_600_000.0},
        ),  # 20 + 15 W x 1.5 + 10 in the sun is 52.5
        ("battery", {"battery": 0.31}, {"wall_ms": 60_000.0}),  # 15 W for a minute are 2.5 % of 10 Wh
    ],
)
def test_who_is_refused_and_why(constraint: str, truth: dict[str, Any], asked: dict[str, Any]) -> None:
    hot = Body(temperature_c_max=51.0, battery_wh=10.0, battery_reserve=0.3)
    reservations = Reservations()
    fields: dict[str, Any] = {"active": 0, "concurrency_max": 4, **truth}
    with pytest.raises(NotAdmitted) as refused:
        reservations.reserve("k", 100, asked.get("wall_ms", 1000.0), Truth(**fields), hot, 0.0)
    assert refused.value.details["constraint"] == constraint
    assert refused.value.status == 503
    assert refused.value.retry_after_s
    assert reservations.held == 0


def test_a_body_within_its_limits_is_admitted() -> None:
    truth = Truth(active=3, concurrency_max=4, memory_free_bytes=100, temperature_c=40.0, battery=0.9)
    Reservations().reserve("k", 100, 1000.0, truth, SATELLITE, 0.0)


def test_a_few_may_queue_where_the_node_has_a_queue() -> None:
    truth = Truth(active=4, concurrency_max=4, waiting=1, waiting_max=100)
    reservations = Reservations(spare_places=2)
    _reserve(reservations, "a", truth)
    with pytest.raises(NotAdmitted):
        _reserve(reservations, "b", truth)


def test_what_is_held_counts_against_memory_and_number() -> None:
    reservations = Reservations(reserved_max=2)
    truth = Truth(active=0, concurrency_max=9, memory_free_bytes=150)
    _reserve(reservations, "a", truth)
    with pytest.raises(NotAdmitted) as refused:
        _reserve(reservations, "b", truth)
    assert refused.value.details["constraint"] == "memory"
    _reserve(reservations, "b")
    with pytest.raises(NotAdmitted) as refused:
        _reserve(reservations, "c")
    assert refused.value.details["constraint"] == "reservations"


@pytest.mark.parametrize("bounds", [{"ttl_ms": 0.0}, {"reserved_max": 0}, {"spare_places": -1}])
def test_bounds_are_positive(bounds: dict[str, Any]) -> None:
    with pytest.raises(PlanRefused):
        Reservations(**bounds)


class Target(RuleBasedStateMachine):
    """One node of four places, two more to queue and 1,000 bytes; a model that only counts."""

    def __init__(self) -> None:
        super().__init__()
        self.reservations = Reservations(ttl_ms=5000.0, reserved_max=5)
        self.now_s = 0.0
        self.held: dict[str, Reservation] = {}
        self.begun: dict[str, Reservation] = {}
        self.ids: set[str] = set()

    def _truth(self) -> Truth:
        used = sum(one.memory_bytes for one in self.begun.values())
        runs = min(len(self.begun), 4)
        return Truth(
            active=runs,
            waiting=len(self.begun) - runs,
            concurrency_max=4,
            waiting_max=2,
            memory_free_bytes=1000 - used,
        )

    @rule(key=st.sampled_from("abcdefgh"), size=st.integers(0, 400))
    def reserve(self, key: str, size: int) -> None:
        known = self.held.get(key) or self.begun.get(key)
        used = sum(one.memory_bytes for one in (*self.held.values(), *self.begun.values()))
        fits = len(self.held) + len(self.begun) < 5 and size <= 1000 - used
        try:
            made = self.reservations.reserve(key, size, 10.0, self._truth(), Body(), self.now_s)
        except NotAdmitted:
            assert known is None
            assert not fits
            return
        if known is not None:
            assert made == known
            return
        assert fits
        assert made.id not in self.ids
        self.ids.add(made.id)
        self.held[key] = made

    @rule(key=st.sampled_from("abcdefgh"))
    def begin(self, key: str) -> None:
        made = self.held.pop(key, None) or self.begun.get(key)
        begun = self.reservations.begin(made.id if made else "0-0", self.now_s)
        assert begun == made
        if made is not None:
            self.begun[key] = made

    @rule(key=st.sampled_from("abcdefgh"))
    def end(self, key: str) -> None:
        made = self.held.pop(key, None) or self.begun.pop(key, None)
        if made is not None:
            self.reservations.end(made.id)

    @rule(seconds=st.floats(0.0, 4.0))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        gone = [key for key, one in self.held.items() if one.expires_s <= self.now_s]
        assert self.reservations.expire(self.now_s) == len(gone)
        for key in gone:
            del self.held[key]

    @invariant()
    def counts_agree(self) -> None:
        assert self.reservations.held == len(self.held)
        assert self.reservations.in_use == len(self.begun)
        assert len(self.held) + len(self.begun) <= 5
        assert sum(one.memory_bytes for one in (*self.held.values(), *self.begun.values())) <= 1000


TestTarget = Target.TestCase
TestTarget.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
