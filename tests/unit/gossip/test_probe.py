"""Probing, sentence by sentence."""

from __future__ import annotations

import pytest

from edgeagent.gossip.codec import Kind
from edgeagent.gossip.commands import ReportLag
from edgeagent.gossip.effects import Arm, Notify, RoundTrip
from tests.unit.gossip.parts import (
    Driver,
    changes,
    driver,
    identity,
    introduce,
    knobs_with,
    mesh,
    packet,
    packets,
    sent,
)

LAN = knobs_with()


def _group(*names: str, **knobs: float) -> Driver:
    one = driver(knobs=knobs_with(**knobs))
    for name in names:
        one.receive(f"{name}:1", packet(Kind.GOSSIP, name, 0, "", identity(name).blob))
    return one


def _next_probe(one: Driver) -> tuple[str, int]:
    """(whom it pings next, the number)."""
    for _ in range(100):
        pings = packets(one.run(0.1), Kind.PING)
        if pings:
            return pings[0][1].target, pings[0][1].seq
    raise AssertionError("no ping in 10 s")


def test_a_ping_is_answered_where_it_came_from() -> None:
    one = mesh()
    introduce(one, "a")
    acks = packets(one.on_datagram(1.0, "elsewhere:9", packet(Kind.PING, "a", 7, "me")), Kind.ACK)
    assert [(address, ack.seq, ack.target) for address, ack in acks] == [("elsewhere:9", 7, "me")]


def test_a_ping_for_somebody_else_is_not_answered() -> None:
    assert not sent(mesh().on_datagram(1.0, "a:1", packet(Kind.PING, "a", 7, "former-tenant")))


def test_our_own_datagrams_reflected_are_ignored() -> None:
    assert not sent(mesh().on_datagram(1.0, "a:1", packet(Kind.PING, "me", 7, "me")))


def test_malformed_datagrams_and_items_are_counted_and_change_nothing() -> None:
    one = mesh()
    assert one.on_datagram(1.0, "a:1", b"nonsense") == []
    one.on_datagram(1.0, "a:1", packet(Kind.GOSSIP, "a", 0, "", b"nonsense", identity("b").blob))
    assert one.counters.datagrams_refused == 1
    assert one.counters.items_refused == 1
    assert "b" in one.states()  # the good item of the same datagram counts


def test_everybody_is_probed_once_a_round() -> None:
    one = _group("a", "b", "c", "d")
    for _ in range(2):
        asked = []
        for _ in range(4):
            name, seq = _next_probe(one)
            one.receive(f"{name}:1", packet(Kind.ACK, name, seq, name))
            asked.append(name)
        assert sorted(asked) == ["a", "b", "c", "d"]


def test_without_an_ack_helpers_are_asked_after_the_time_out_and_the_member_suspected_after_the_interval() -> (
    None
):
    one = _group("a", "b", "c", "d", "e")
    name, _ = _next_probe(one)
    began_s = one.now_s
    asked = one.run(LAN.probe_timeout_s + 0.01)
    requests = packets(asked, Kind.PING_REQ)
    assert len(requests) == LAN.indirect_probes
    assert {request.target for _, request in requests} == {name}
    assert all(address != f"{name}:1" for address, _ in requests)
    assert changes(asked) == []
    later = one.run(LAN.probe_interval_s)
    assert (name, "alive", "suspect") in changes(later)
    assert one.now_s < began_s + 2 * LAN.probe_interval_s


def test_a_helpers_ack_counts() -> None:
    one = _group("a", "b", "c")
    name, seq = _next_probe(one)
    asked = one.run(0.51)
    helper = packets(asked, Kind.PING_REQ)[0][0]
    one.receive(helper, packet(Kind.ACK, helper.removesuffix(":1"), seq, name))
    assert changes(one.run(0.48)) == []
    assert one.mesh.counters.probes_failed == 0


def _behind_nat(one: Driver, name: str) -> None:
    one.receive("nat:4711", packet(Kind.GOSSIP, name))


def test_behind_a_nat_the_second_ping_goes_where_datagrams_come_from() -> None:
    one = _group("a", "b", "c")
    for name in "abc":
        _behind_nat(one, name)
    name, seq = _next_probe(one)
    tried = packets(one.run(0.51), Kind.PING)
    assert [(address, ping.seq, ping.target) for address, ping in tried] == [("nat:4711", seq, name)]
    one.receive("nat:4711", packet(Kind.ACK, name, seq, name))
    assert changes(one.run(0.48)) == []
    assert one.mesh.counters.probes_failed == 0
    assert one.mesh.member(name).address == f"{name}:1"  # type: ignore[union-attr]


def test_a_helper_tries_both_addresses_too() -> None:
    one = _group("a", "b")
    _behind_nat(one, "b")
    pings = packets(one.receive("a:1", packet(Kind.PING_REQ, "a", 42, "b")), Kind.PING)
    assert [address for address, _ in pings] == ["b:1", "nat:4711"]
    one.receive("b:1", packet(Kind.GOSSIP, "b"))  # from its own address again
    pings = packets(one.receive("a:1", packet(Kind.PING_REQ, "a", 43, "b")), Kind.PING)
    assert [address for address, _ in pings] == ["b:1"]


def test_a_members_own_ack_tells_the_round_trip() -> None:
    one = _group("a", "b", "c")
    name, seq = _next_probe(one)
    one.now_s += 0.125
    effects = one.receive(f"{name}:1", packet(Kind.ACK, name, seq, name))
    told = [it.notice for it in effects if isinstance(it, Notify) and isinstance(it.notice, RoundTrip)]
    assert [it.name for it in told] == [name]
    assert told[0].seconds == pytest.approx(0.175, abs=0.05)  # the ping went within the last step of 0.1 s
    name, seq = _next_probe(one)
    helper = packets(one.run(0.51), Kind.PING_REQ)[0][0]
    effects = one.receive(helper, packet(Kind.ACK, helper.removesuffix(":1"), seq, name))
    assert not [it for it in effects if isinstance(it, Notify) and isinstance(it.notice, RoundTrip)]


def test_an_ack_counts_until_the_end_of_the_interval() -> None:
    one = _group("a", "b", "c")
    name, seq = _next_probe(one)
    one.run(0.85)
    one.receive(f"{name}:1", packet(Kind.ACK, name, seq, name))
    one.run(0.5)
    assert one.mesh.counters.probes_failed == 0


def test_acks_of_another_number_or_member_do_not_count() -> None:
    one = _group("a", "b", "c")
    name, seq = _next_probe(one)
    other = next(it for it in "abc" if it != name)
    one.receive(f"{other}:1", packet(Kind.ACK, other, seq, other))
    one.receive(f"{name}:1", packet(Kind.ACK, name, seq + 1, name))
    assert (name, "alive", "suspect") in changes(one.run(1.5))


def test_one_that_spoke_up_with_a_new_incarnation_during_the_probe_is_not_suspected() -> None:
    one = _group("a", "b", "c")
    name, _ = _next_probe(one)
    one.receive(f"{name}:1", packet(Kind.GOSSIP, name, 0, "", identity(name, 9).blob))
    assert (name, "alive", "suspect") not in changes(one.run(0.99))
    assert one.mesh.counters.probes_failed == 1


def test_a_helper_pings_relays_the_ack_and_says_when_there_is_none() -> None:
    one = _group("a", "b")
    pings = packets(one.receive("a:1", packet(Kind.PING_REQ, "a", 42, "b")), Kind.PING)
    assert [(address, ping.target) for address, ping in pings] == [("b:1", "b")]
    nacks = packets(one.run(0.41), Kind.NACK)  # 0.8 of the time-out
    assert [(address, nack.seq, nack.target) for address, nack in nacks] == [("a:1", 42, "b")]
    late = packets(one.receive("b:1", packet(Kind.ACK, "b", pings[0][1].seq, "b")), Kind.ACK)
    assert [(address, ack.seq, ack.target) for address, ack in late] == [("a:1", 42, "b")]
    again = packets(one.receive("b:1", packet(Kind.ACK, "b", pings[0][1].seq, "b")), Kind.ACK)
    assert again == []


def test_a_helper_forgets_a_request_after_a_while() -> None:
    one = _group("a", "b")
    ping = packets(one.receive("a:1", packet(Kind.PING_REQ, "a", 42, "b")), Kind.PING)[0][1]
    one.run(2.0)
    assert packets(one.receive("b:1", packet(Kind.ACK, "b", ping.seq, "b")), Kind.ACK) == []


def test_a_helper_pings_nobody_that_it_does_not_know() -> None:
    one = _group("a")
    effects = one.receive("a:1", packet(Kind.PING_REQ, "a", 42, "169.254.169.254"))
    assert packets(effects, Kind.PING) == []
    assert [nack.seq for _, nack in packets(effects, Kind.NACK)] == [42]


def _failed_probe(nacks: int) -> int:
    """The health score after a probe of which so many of three helpers said that they have no answer."""
    one = _group("a", "b", "c", "d")
    name, seq = _next_probe(one)
    helpers = [address for address, _ in packets(one.run(0.51), Kind.PING_REQ)]
    for address in helpers[:nacks]:
        one.receive(address, packet(Kind.NACK, address.removesuffix(":1"), seq, name))
    one.run(0.495)
    assert one.mesh.counters.probes_failed == 1
    return one.mesh.health


def test_health_worsens_by_the_helpers_that_are_silent() -> None:
    assert [_failed_probe(nacks) for nacks in range(4)] == [3, 2, 1, 0]


def test_health_worsens_by_one_where_there_is_no_helper() -> None:
    one = _group("a")
    _next_probe(one)
    one.run(1.0)
    assert one.mesh.health == 1


def test_bad_health_stretches_interval_and_time_out_and_answers_restore_it() -> None:
    one = _group("a", "b", "c")
    one.take(one.mesh.on_command(one.now_s, ReportLag(1.0)))
    one.take(one.mesh.on_command(one.now_s, ReportLag(1.0)))
    assert one.mesh.health == 2
    one.take(one.mesh.on_command(one.now_s, ReportLag(0.01)))
    assert one.mesh.health == 2
    name, seq = _next_probe(one)
    assert packets(one.run(3 * 0.5 - 0.1), Kind.PING_REQ) == []
    one.receive(f"{name}:1", packet(Kind.ACK, name, seq, name))
    assert one.mesh.health == 1


def test_timers_of_former_tokens_are_ignored() -> None:
    one = mesh(started=False)
    arm = next(effect for effect in one.start(0.0) if isinstance(effect, Arm))
    assert one.on_timer(5.0, arm.token + 7) == []
    assert one.on_timer(arm.at_s, arm.token) != []
    assert one.on_timer(arm.at_s, arm.token) == []


def test_one_who_stood_still_blames_itself_and_puts_everything_off() -> None:
    one = _group("a", "b", "c", "d")
    name, seq = _next_probe(one)
    one.now_s += 20.0  # the process stood still in the midst of a probe
    effects = one.receive("b:1", packet(Kind.GOSSIP, "b", 0, ""))
    assert changes(effects) == []
    assert one.mesh.counters.stalls == 1
    assert one.mesh.health == 1
    one.receive(f"{name}:1", packet(Kind.ACK, name, seq, name))  # it lay in the socket all the time
    assert (name, "alive", "suspect") not in changes(one.run(0.9))


def test_plain_swim_does_not_excuse_itself() -> None:
    one = driver(knobs=knobs_with(lag_tolerance_s=0.0))
    for name in ("a", "b"):
        one.receive(f"{name}:1", packet(Kind.GOSSIP, name, 0, "", identity(name).blob))
    name, _ = _next_probe(one)
    one.now_s += 20.0
    assert (name, "alive", "suspect") in changes(one.run(0.6))
    assert one.mesh.counters.stalls == 0
