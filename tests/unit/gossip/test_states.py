"""The table of states: complete, deterministic, and what the document shows."""

from __future__ import annotations

import pytest

from edgeagent.gossip.states import TRANSITIONS, Event, State, next_state


def test_each_pair_of_state_and_event_has_at_most_one_arrow() -> None:
    pairs = [(one.before, one.event) for one in TRANSITIONS]
    assert len(pairs) == len(set(pairs))


def test_every_arrow_says_why() -> None:
    assert all(one.why for one in TRANSITIONS)


@pytest.mark.parametrize("state", list(State))
def test_events_without_an_arrow_change_nothing(state: State) -> None:
    listed = {one.event for one in TRANSITIONS if one.before is state}
    assert all(next_state(state, event) is state for event in Event if event not in listed)


def test_nobody_alive_dies_without_being_suspected_or_judged_by_one_in_contact() -> None:
    to_death = {(one.before, one.event) for one in TRANSITIONS if one.after is State.DEAD}
    assert to_death == {
        (State.SUSPECT, Event.EXPIRED),
        (State.SUSPECT, Event.CONDEMNED),
        (State.OCCLUDED, Event.CONDEMNED),
    }


def test_an_occlusion_ends_in_life_suspicion_or_a_verdict() -> None:
    ways = {one.event: one.after for one in TRANSITIONS if one.before is State.OCCLUDED}
    assert ways == {
        Event.HEARD: State.ALIVE,
        Event.PROBE_FAILED: State.SUSPECT,
        Event.OVERDUE: State.SUSPECT,
        Event.CONDEMNED: State.DEAD,
        Event.WITHDRAWN: State.LEFT,
    }


def test_a_higher_incarnation_raises_the_dead() -> None:
    assert next_state(State.DEAD, Event.REFUTED) is State.ALIVE
    assert next_state(State.LEFT, Event.REFUTED) is State.ALIVE
