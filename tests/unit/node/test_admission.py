"""Admission: permits, queue and bounds, as single facts and as a machine that is driven at random."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgeagent.model.errors import Busy
from edgeagent.node.admission import Admission, NodeQueue, Ticket


def admission(limit: int = 2, depth: int = 2, node_depth: int = 100) -> Admission[str]:
    return Admission("f", limit, depth, NodeQueue(node_depth))


def test_permits_are_bounded_and_come_back() -> None:
    a = admission(limit=2)
    assert [a.enter(), a.enter(), a.enter()] == [True, True, False]
    assert a.leave(5.0) == []
    assert [a.enter(), a.idle] == [True, False]
    a.leave()
    a.leave()
    assert a.idle
    with pytest.raises(ValueError, match="more permits"):
        a.leave()


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="limit 0"):
        admission(limit=0)


def test_a_permit_that_comes_back_goes_to_the_first_in_the_queue() -> None:
    a = admission(limit=1)
    assert a.enter()
    first, second = a.wait("first"), a.wait("second")
    assert [t.waiter for t in a.leave()] == ["first"]
    assert first.granted
    assert not second.granted
    assert not a.enter()  # the queue goes first even when a permit were free
    assert [t.waiter for t in a.leave()] == ["second"]
    a.leave()
    assert a.idle


def test_nobody_overtakes_the_queue() -> None:
    a = admission(limit=1)
    a.enter()
    waiting = a.wait("w")
    assert a.withdraw(waiting) == []
    a.leave()
    assert a.enter()


def test_a_ticket_withdrawn_after_it_was_granted_gives_its_permit_on() -> None:
    a = admission(limit=1)
    a.enter()
    first, second = a.wait("first"), a.wait("second")
    a.leave()
    assert a.withdraw(first) == [second]
    assert second.granted
    a.leave()
    assert a.idle


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    a = admission(limit=1, depth=1)
    a.enter()
    a.wait("w")
    a.mean_ms = 10_000
    with pytest.raises(Busy) as refused:
        a.wait("x")
    assert "depth_max" in refused.value.message
    assert refused.value.retry_after_s == 15.0  # one running, half of one waiting, ten seconds each
    assert a.wait("mine", exempt=True).waiter == "mine"


def test_a_full_node_refuses() -> None:
    node = NodeQueue(1)
    a, b = Admission[str]("a", 1, 10, node), Admission[str]("b", 1, 10, node)
    a.enter()
    b.enter()
    a.wait("w")
    with pytest.raises(Busy, match="node_depth_max"):
        b.wait("x")
    assert node.refused == 1


@pytest.mark.parametrize(
    ("mean_ms", "waiting", "limit", "expected_s"),
    [(0.0, 0, 1, 1.0), (100.0, 100, 1, 5.1), (100.0, 100, 10, 1.0), (1e6, 100, 1, 60.0)],
)
def test_retry_after_follows_recent_durations(
    mean_ms: float, waiting: int, limit: int, expected_s: float
) -> None:
    a = Admission[int]("f", limit, 1000, NodeQueue(1000))
    while a.enter():
        pass
    for n in range(waiting):
        a.wait(n)
    a.mean_ms = mean_ms
    assert a.retry_after_s() == pytest.approx(expected_s)


def test_the_mean_forgets() -> None:
    a = admission(limit=1)
    for duration_ms, low, high in ((100.0, 100, 100), (100.0, 100, 100), (0.0, 93, 94)):
        a.enter()
        a.leave(duration_ms)
        assert low <= a.mean_ms <= high
    for _ in range(200):
        a.enter()
        a.leave(4.0)
    assert a.mean_ms == pytest.approx(4.0, abs=0.1)


class AdmissionMachine(RuleBasedStateMachine):
    """Two functions on one node, driven at random, against a model of lists."""

    def __init__(self) -> None:
        super().__init__()
        self.node = NodeQueue(5)
        self.functions = [Admission[int]("a", 1, 3, self.node), Admission[int]("b", 3, 4, self.node)]
        self.permits = [0, 0]
        self.queues: list[list[Ticket[int]]] = [[], []]
        self.granted: list[list[Ticket[int]]] = [[], []]
        self.count = 0

    def _take(self, index: int, granted: list[Ticket[int]]) -> None:
        for ticket in granted:
            assert ticket is self.queues[index].pop(0)
            self.granted[index].append(ticket)

    @rule(index=st.integers(0, 1), exempt=st.booleans())
    def arrive(self, index: int, exempt: bool) -> None:
        function = self.functions[index]
        if function.enter():
            self.permits[index] += 1
            return
        self.count += 1
        full = len(self.queues[index]) >= function.depth_max or sum(map(len, self.queues)) >= 5
        if full and not exempt:
            with pytest.raises(Busy) as busy:
                function.wait(self.count)
            assert 1 <= (busy.value.retry_after_s or 0) <= 60
        else:
            self.queues[index].append(function.wait(self.count, exempt=exempt))

    @precondition(lambda self: any(self.permits))
    @rule(data=st.data(), duration_ms=st.one_of(st.none(), st.floats(0, 1e6)))
    def finish(self, data: st.DataObject, duration_ms: float | None) -> None:
        index = data.draw(st.sampled_from([i for i in (0, 1) if self.permits[i]]))
        self.permits[index] -= 1
        self._take(index, self.functions[index].leave(duration_ms))

    @precondition(lambda self: any(self.granted))
    @rule(data=st.data(), runs=st.booleans())
    def resume(self, data: st.DataObject, runs: bool) -> None:
        index = data.draw(st.sampled_from([i for i in (0, 1) if self.granted[i]]))
        ticket = self.granted[index].pop()
        if runs:
            self.permits[index] += 1
        else:  # cancelled between the grant and its first step
            self._take(index, self.functions[index].withdraw(ticket))

    @precondition(lambda self: any(self.queues))
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        index = data.draw(st.sampled_from([i for i in (0, 1) if self.queues[i]]))
        ticket = data.draw(st.sampled_from(self.queues[index]))
        self.queues[index].remove(ticket)
        self._take(index, self.functions[index].withdraw(ticket))

    @invariant()
    def permits_and_places_are_accounted_for(self) -> None:
        for index, function in enumerate(self.functions):
            assert function.running == self.permits[index] + len(self.granted[index])
            assert function.running <= function.limit
            assert function.waiting == len(self.queues[index])
            # Somebody waits only while no permit is free.
            assert not self.queues[index] or function.running == function.limit
            assert function.idle == (function.running + function.waiting == 0)
        assert self.node.waiting == sum(map(len, self.queues))


TestAdmissionMachine = AdmissionMachine.TestCase
TestAdmissionMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
