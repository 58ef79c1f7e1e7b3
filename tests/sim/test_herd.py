"""64 nodes decide at the same moment on the same stale views, and each asks the nodes of its ranking one by one.

Nobody coordinates them: chance spreads those that see near ties, and the targets refuse what they have no room for.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from edgeagent.placement.body import Body
from edgeagent.placement.decide import Choice, decide
from edgeagent.placement.errors import NotAdmitted
from edgeagent.placement.network import FlatNetwork
from edgeagent.placement.reservations import Reservations, Truth
from edgeagent.placement.views import NodeLoad, NodeView, StepAsk

NODES = 64
IDS = tuple(f"n{row:02d}" for row in range(NODES))
BUSY = NodeLoad(cpu=0.7, queue=4, age_s=8.0)
IDLE = NodeLoad(cpu=0.05, queue=0, age_s=8.0)


@dataclass
class Outcome:
    """Where each call landed after how many refusals; ``refused`` are the last words of those that landed nowhere."""

    landed: Counter[str] = field(default_factory=Counter)
    tries: Counter[int] = field(default_factory=Counter)
    firsts: Counter[str] = field(default_factory=Counter)
    refused: list[NotAdmitted] = field(default_factory=list)


def _choice(decider: int, loads: dict[str, NodeLoad], seed: int) -> Choice:
    """What a node decides that has no room itself."""
    nodes = [
        NodeView(
            id=name, cores=4, memory_bytes=2**30, load=loads[name], excluded="full" if row == decider else ""
        )
        for row, name in enumerate(IDS)
    ]
    ask = StepAsk(name="s", exec_ms=20.0, exec_known=True, memory_bytes=2**20)
    return decide(
        [ask],
        nodes,
        FlatNetwork(IDS, 3.0),
        here=IDS[decider],
        now_s=0.0,
        chance=random.Random(1000 * seed + decider),
    ).choices[0]


def _all_at_once(loads: dict[str, NodeLoad], room: dict[str, int], seed: int) -> Outcome:
    """All decide, then all ask their first node, then all that were refused their second, and so on."""
    outcome = Outcome()
    targets = {name: Reservations(epoch=1) for name in IDS}
    waiting = []
    for decider in range(NODES):
        choice = _choice(decider, loads, seed)
        outcome.firsts[choice.node] += 1
        waiting.append((f"call-{decider}", list(choice.ranked)))
    for attempt in range(max(len(ranked) for _, ranked in waiting)):
        left = []
        for key, ranked in waiting:
            name = ranked[attempt]
            try:
                targets[name].reserve(
                    key, 2**20, 1000.0, Truth(active=0, concurrency_max=room[name]), Body(), 0.0
                )
            except NotAdmitted as refused:
                if attempt + 1 < len(ranked):
                    left.append((key, ranked))
                else:
                    outcome.refused.append(refused)
            else:
                outcome.landed[name] += 1
                outcome.tries[attempt] += 1
        waiting = left
    assert all(targets[name].held == count for name, count in outcome.landed.items())
    return outcome


@pytest.mark.parametrize("seed", range(3))
def test_nodes_that_look_alike_share_the_calls(seed: int) -> None:
    outcome = _all_at_once(dict.fromkeys(IDS, IDLE), dict.fromkeys(IDS, 4), seed)
    assert outcome.landed.total() == NODES
    assert max(outcome.landed.values()) <= 4
    assert len(outcome.landed) >= NODES // 3
    assert outcome.tries[0] >= NODES * 3 // 4


@pytest.mark.parametrize("seed", range(3))
def test_a_few_idle_nodes_are_filled_and_not_flooded(seed: int) -> None:
    """A quarter of the nodes looks idle, with room for all together."""
    loads = {name: IDLE if row % 4 == 0 else BUSY for row, name in enumerate(IDS)}
    outcome = _all_at_once(loads, dict.fromkeys(IDS, 6), seed)
    assert outcome.landed.total() == NODES
    assert max(outcome.landed.values()) <= 6
    idle = sum(outcome.landed[name] for name in IDS[::4])
    assert idle >= NODES * 3 // 4
    assert sum(1 for name in IDS[::4] if outcome.landed[name]) >= 12


@pytest.mark.parametrize("seed", range(3))
def test_the_one_best_node_takes_what_it_can_and_no_more(seed: int) -> None:
    loads = {name: IDLE if name == "n07" else BUSY for name in IDS}
    outcome = _all_at_once(loads, dict.fromkeys(IDS, 4), seed)
    assert outcome.firsts["n07"] >= NODES // 2  # they do herd: on these views it is the best
    assert outcome.landed["n07"] == 4  # and it admits what it has room for
    assert outcome.landed.total() == NODES
    assert max(outcome.landed.values()) <= 4
    assert len(outcome.landed) >= NODES // 4


@pytest.mark.parametrize("seed", range(3))
def test_with_too_little_room_the_rest_is_refused_with_a_reason(seed: int) -> None:
    """Every second node has no room, the others have one place: half of the calls can land."""
    room = {name: row % 2 for row, name in enumerate(IDS)}
    outcome = _all_at_once(dict.fromkeys(IDS, IDLE), room, seed)
    assert outcome.landed.total() + len(outcome.refused) == NODES
    assert max(outcome.landed.values()) == 1
    assert NODES // 4 <= outcome.landed.total() <= NODES // 2
    for refused in outcome.refused:
        assert refused.details["constraint"] == "concurrency"
        assert refused.hint
        assert refused.retry_after_s
