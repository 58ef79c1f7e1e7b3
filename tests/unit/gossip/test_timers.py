"""The core's deadlines, sentence by sentence."""

from __future__ import annotations

from edgeagent.gossip.codec import Accusation, Kind, encode_item
from edgeagent.gossip.records import first_version
from edgeagent.gossip.timers import Timer, Timers
from tests.unit.gossip.parts import EPOCH_MS, changes, driver, identity, knobs_with, packet


def _due(timers: Timers, now_s: float) -> list[object]:
    found = []
    while (due := timers.pop_due(now_s)) is not None:
        found.append(due[1])
    return found


def test_deadlines_of_one_moment_come_up_in_the_order_in_which_they_were_set() -> None:
    timers = Timers()
    for reference in ("a", "b", "c"):
        timers.at(1.0, Timer.PROBE, reference)
    assert _due(timers, 0.9) == []
    assert _due(timers, 1.0) == ["a", "b", "c"]


def test_one_that_sets_itself_again_at_once_cannot_stop_time() -> None:
    timers = Timers()
    timers.at(1.0, Timer.PROBE)
    now_s = 1.0
    calls = 0
    while now_s <= 2.0:
        calls += 1
        timers.begin(now_s)
        handled = 0
        while timers.pop_due(now_s) is not None:
            handled += 1
            timers.at(now_s - 5.0, Timer.PROBE)
        timers.done()
        assert handled == 1
        arm = timers.arm()
        assert arm is not None
        assert arm.at_s > now_s
        now_s = arm.at_s
    assert calls <= 1001


def test_outside_of_a_timer_at_once_is_at_once() -> None:
    timers = Timers()
    timers.begin(1.0)
    timers.done()
    timers.at(0.5, Timer.VERIFY, "now")
    assert _due(timers, 0.5) == ["now"]


def test_a_stall_puts_everything_off_but_returns() -> None:
    timers = Timers()
    timers.at(10.0, Timer.PROBE, "probe")
    timers.at(12.0, Timer.RETURN, "early return")
    timers.at(20.0, Timer.SWEEP, "sweep")
    timers.at(100.0, Timer.RETURN, "late return")
    timers.shift(50.0)  # it is 60 now
    assert timers.next_s == 60.0
    assert _due(timers, 69.9) == ["probe", "early return"]
    assert _due(timers, 70.0) == ["sweep"]
    assert _due(timers, 100.0) == ["late return"]


def test_an_infinite_deadline_asks_for_no_timer() -> None:
    timers = Timers()
    assert timers.arm() is None
    timers.at(float("inf"), Timer.RETURN)
    assert timers.arm() is None


def test_the_timers_of_former_suspicions_are_of_no_use_to_later_ones() -> None:
    """Else one that is suspected and refutes over and over would leave a timer each time, for ever."""
    one = driver(
        knobs=knobs_with(probe_interval_s=1000.0, suspicion_mult=0.5, push_pull_interval_s=1e6, health_max=0)
    )
    for name in "abcdefg":
        one.receive(f"{name}:1", packet(Kind.GOSSIP, name, 0, "", identity(name).blob))
    timers = one.mesh._context.timers
    sizes = []
    for turn in range(1, 200):
        items = [
            encode_item(Accusation("a", first_version(EPOCH_MS) + turn, accuser)) for accuser in "bcdefg"
        ]
        found = changes(one.receive("b:1", packet(Kind.GOSSIP, "b", 0, "", *items)))
        assert found == [("a", "alive", "suspect")]
        one.run(100.0)
        refutation = identity("a", turn + 1).blob
        assert changes(one.receive("a:1", packet(Kind.GOSSIP, "a", 0, "", refutation))) == [
            ("a", "suspect", "alive")
        ]
        sizes.append(len(timers._heap))
    assert max(sizes) < 60  # each timer waits out its own deadline, and no longer
