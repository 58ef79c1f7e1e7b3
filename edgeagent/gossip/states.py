"""What a member knows of another member's life, and what changes it: one table, from which the diagram is drawn.

Theory of operation (SWIM, Das, Gupta and Motivala, DSN 2002; incarnations and suspicion from its section 4.2):

1. The state is a *view*: each member holds its own of each other one. Suspicions, deaths and departures are told to
   others; OCCLUDED is not, because everyone computes it from the contact plan for its own place.
2. Knowledge is ordered by incarnation, which only the member itself raises (its identity record is signed). A claim
   about an older incarnation is stale; one about a newer incarnation than the held record's is unproven. Both are
   ignored.
3. Within one incarnation death beats suspicion and suspicion beats life. A higher incarnation beats them all.
4. Who could not have been in contact with a member by the plan cannot accuse it (:mod:`view` asks).
5. An event that the table does not list for a state leaves the state as it is.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

__all__ = ["TRANSITIONS", "Event", "State", "Transition", "next_state"]


class State(enum.Enum):
    """The states of a member, as seen by another."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"
    OCCLUDED = "occluded"

    __hash__ = object.__hash__  # identity: Enum's own hashes the name on every look-up


class Event(enum.Enum):
    """What happens to them."""

    HEARD = "heard"
    PROBE_FAILED = "probe failed"
    ACCUSED = "accused"
    EXPIRED = "suspicion expired"
    CONDEMNED = "told dead"
    REFUTED = "refuted"
    WITHDRAWN = "left"
    CONTACT_LOST = "contact lost"
    OVERDUE = "return overdue"

    __hash__ = object.__hash__


class Transition(NamedTuple):
    """One arrow of the diagram."""

    before: State
    event: Event
    after: State
    why: str


_S, _E = State, Event

TRANSITIONS: tuple[Transition, ...] = (
    Transition(
        _S.ALIVE, _E.PROBE_FAILED, _S.SUSPECT, "no answer, direct or indirect, while the plan says contact"
    ),
    Transition(_S.ALIVE, _E.ACCUSED, _S.SUSPECT, "another member suspects this incarnation"),
    Transition(
        _S.ALIVE, _E.CONDEMNED, _S.ALIVE, "told dead elsewhere: probed at once, and told, so that it refutes"
    ),
    Transition(
        _S.ALIVE, _E.CONTACT_LOST, _S.OCCLUDED, "no contact by plan: expected back at a computed time"
    ),
    Transition(_S.ALIVE, _E.WITHDRAWN, _S.LEFT, "its own signed farewell"),
    Transition(_S.SUSPECT, _E.HEARD, _S.ALIVE, "it answered our own probe"),
    Transition(_S.SUSPECT, _E.REFUTED, _S.ALIVE, "its own record with a higher incarnation"),
    Transition(_S.SUSPECT, _E.ACCUSED, _S.SUSPECT, "one more independent accuser shortens the time-out"),
    Transition(_S.SUSPECT, _E.EXPIRED, _S.DEAD, "not refuted in time, while the plan says contact"),
    Transition(_S.SUSPECT, _E.CONDEMNED, _S.DEAD, "another member's suspicion ran out"),
    Transition(_S.SUSPECT, _E.CONTACT_LOST, _S.OCCLUDED, "contact ended before the suspicion did"),
    Transition(_S.SUSPECT, _E.WITHDRAWN, _S.LEFT, "its own signed farewell"),
    Transition(_S.OCCLUDED, _E.HEARD, _S.ALIVE, "it is back"),
    Transition(_S.OCCLUDED, _E.PROBE_FAILED, _S.SUSPECT, "probed at its return, and it did not answer"),
    Transition(_S.OCCLUDED, _E.OVERDUE, _S.SUSPECT, "the plan has named no return for too long"),
    Transition(_S.OCCLUDED, _E.CONDEMNED, _S.DEAD, "declared dead by one that was in contact with it"),
    Transition(_S.OCCLUDED, _E.WITHDRAWN, _S.LEFT, "its own signed farewell"),
    Transition(_S.DEAD, _E.REFUTED, _S.ALIVE, "its own record with a higher incarnation"),
    Transition(_S.DEAD, _E.WITHDRAWN, _S.LEFT, "its own signed farewell"),
    Transition(_S.LEFT, _E.REFUTED, _S.ALIVE, "it joined again with a higher incarnation"),
)

_NEXT: dict[tuple[State, Event], State] = {(one.before, one.event): one.after for one in TRANSITIONS}


def next_state(state: State, event: Event) -> State:
    """The state after an event: the table's, or the same one."""
    return _NEXT.get((state, event), state)
