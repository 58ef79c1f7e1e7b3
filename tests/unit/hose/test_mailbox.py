"""The queue between senders and takers, against rules that are easy to state."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgeagent.hose.mailbox import Drop, Effect, Give, Mailbox, Outcome, Start, Tell

ACCEPTED, AGAIN, END = Outcome.ACCEPTED, Outcome.AGAIN, Outcome.END


def box(*, messages_max: int = 2, bytes_max: int = 100, has_function: bool = False) -> Mailbox[str]:
    return Mailbox(messages_max=messages_max, bytes_max=bytes_max, has_function=has_function)


def test_a_taker_gets_what_was_sent_in_order() -> None:
    b = box()
    assert b.put("s", "one", 1) == [Tell("s", ACCEPTED)]
    assert b.put("s", "two", 1) == [Tell("s", ACCEPTED)]
    assert b.next("t") == [Give("t", "one")]
    assert b.next("t") == [Give("t", "two")]
    assert b.next("t") == []
    assert b.put("s", "three", 1) == [Tell("s", ACCEPTED), Give("t", "three")]


def test_a_full_queue_makes_its_senders_wait() -> None:
    b = box()
    for name in ("one", "two"):
        b.put("s", name, 1)
    assert b.put("s", "three", 1) == []
    assert b.put("r", "four", 1, may_wait=False) == [Tell("r", AGAIN), Drop("four")]
    assert b.next("t") == [Give("t", "one"), Tell("s", ACCEPTED)]
    assert len(b) == 2


def test_bytes_are_bounded_but_one_message_always_fits() -> None:
    b = box(messages_max=10)
    assert b.put("s", "large", 1000) == [Tell("s", ACCEPTED)]
    assert b.put("s", "small", 1) == []
    assert b.next("t") == [Give("t", "large"), Tell("s", ACCEPTED)]
    assert b.bytes == 1


def test_a_function_is_started_with_the_oldest_message_once_at_a_time() -> None:
    b = box(has_function=True)
    assert b.put("s", "one", 1) == [Tell("s", ACCEPTED), Start("one")]
    assert b.put("s", "two", 1) == [Tell("s", ACCEPTED)]
    assert b.run_over() == [Start("two")]
    assert b.run_over() == []
    assert not b.is_idle  # the sender may send more
    b.close("s")
    assert b.is_idle


def test_who_accepts_comes_before_a_new_run() -> None:
    b = box(has_function=True)
    b.accept("t")
    assert b.put("s", "one", 1) == [Tell("s", ACCEPTED)]
    assert b.left("t") == [Start("one")]  # it left without taking it


def test_the_end_is_told_when_all_senders_are_done_and_not_before_the_first() -> None:
    b = box()
    assert b.next("t") == []
    b.open("s")
    b.put("r", "one", 1)
    assert b.next("t") == []
    assert b.close("s") == []
    assert b.left("r") == [Tell("t", END)]
    assert b.next("t") == [Tell("t", END)]
    b.left("t")
    assert b.is_idle
    assert b.next("u") == []  # a stream of the same name begins anew


def test_without_waiting() -> None:
    b = box()
    b.open("s")
    assert b.next("t", may_wait=False) == [Tell("t", AGAIN)]
    b.close("s")
    assert b.next("t", may_wait=False) == [Tell("t", END)]


def test_a_sender_that_dies_while_it_waits_loses_its_message() -> None:
    b = box(messages_max=1)
    b.put("s", "one", 1)
    b.put("r", "two", 1)
    assert b.left("r") == [Drop("two")]
    assert b.next("t") == [Give("t", "one")]


def test_clearing_tells_everybody() -> None:
    b = box(messages_max=1)
    b.put("s", "one", 1)
    b.put("r", "two", 1)
    assert b.clear() == [Drop("one"), Tell("r", AGAIN), Drop("two")]
    b.open("s")
    b.next("t")
    assert b.clear() == [Tell("t", END)]
    assert b.bytes == 0


@pytest.mark.parametrize(("messages", "count"), [(0, 1), (1, -1)])
def test_bounds_that_make_no_sense(messages: int, count: int) -> None:
    with pytest.raises(ValueError, match="at least one message"):
        Mailbox(messages_max=messages, bytes_max=count, has_function=True)


class Traffic(RuleBasedStateMachine):
    """Every message is given, started or dropped once, in the order of acceptance; nobody is told twice."""

    senders = ("a", "b", "c")
    takers = ("x", "y")

    def __init__(self) -> None:
        super().__init__()
        self.box: Mailbox[int] = Mailbox(messages_max=3, bytes_max=10, has_function=True)
        self.numbers = 0
        self.accepted: deque[int] = deque()
        self.sending: dict[str, int] = {}
        self.asking: set[str] = set()
        self.running = False
        self.open: set[str] = set()

    def did(self, effects: list[Effect[int]]) -> None:
        for effect in effects:
            match effect:
                case Tell(who, outcome) if who in self.senders:
                    number = self.sending.pop(str(who))
                    if outcome is ACCEPTED:
                        self.accepted.append(number)
                    else:
                        assert outcome is AGAIN
                case Tell(who, outcome):
                    assert outcome in {END, AGAIN}
                    if outcome is END:
                        assert not self.accepted
                        assert not self.open
                    self.asking.remove(str(who))
                case Give(who, message):
                    self.asking.remove(str(who))
                    assert self.accepted.popleft() == message
                case Start(message):
                    assert not self.running
                    self.running = True
                    assert self.accepted.popleft() == message
                case Drop(message):
                    assert message not in self.accepted

    @rule(who=st.sampled_from(senders), size=st.integers(0, 12), may_wait=st.booleans())
    def put(self, who: str, size: int, may_wait: bool) -> None:
        if who not in self.sending:
            self.numbers += 1
            self.sending[who] = self.numbers
            self.open.add(who)
            self.did(self.box.put(who, self.numbers, size, may_wait=may_wait))
            assert may_wait or who not in self.sending

    @rule(who=st.sampled_from(takers), may_wait=st.booleans())
    def next(self, who: str, may_wait: bool) -> None:
        if who not in self.asking:
            self.asking.add(who)
            self.did(self.box.next(who, may_wait=may_wait))
            assert may_wait or who not in self.asking

    @rule(who=st.sampled_from(senders + takers))
    def left(self, who: str) -> None:
        self.sending.pop(who, None)
        self.asking.discard(who)
        self.open.discard(who)
        self.did(self.box.left(who))

    @rule(who=st.sampled_from(senders))
    def close(self, who: str) -> None:
        if who not in self.sending:
            self.open.discard(who)
            self.did(self.box.close(who))

    @precondition(lambda self: self.running)
    @rule()
    def run_over(self) -> None:
        self.running = False
        self.did(self.box.run_over())

    @invariant()
    def nobody_waits_for_what_is_there(self) -> None:
        assert len(self.box) == len(self.accepted)
        assert not (self.accepted and self.asking)
        assert len(self.accepted) <= 3
        if self.sending:
            assert self.accepted  # a sender waits only behind others


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
