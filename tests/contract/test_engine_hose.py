"""Hoses: what one function hands to the next, on both engines; how it is done is the engine's business."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgeagent.hose.settings import TIERS
from edgeagent.model.errors import BadGuestOutput, GuestTrap
from edgeagent.runtime.port import Engine, Function
from tests.contract.calls import load
from tests.contract.hose_calls import (
    CALLS_MAX,
    HoseProgram,
    Ref,
    hand_over,
    hose_guest,
    reader,
    results,
)

MIB = 1 << 20
BAD, RANGE, SMALL, MEMORY, FULL, OVERLAP = -1, -2, -3, -4, -5, -6
SIZES = (1, 4095, 4096, 4097, 65536, 300_000, MIB, MIB + 17, 2 * MIB, 5 * MIB + 4099)

Make = Callable[..., Function]


@pytest.fixture
def make(engine: Engine, compiled: Any) -> Make:
    def made(*, aligned: bool = True, memory_bytes: int = 64 * MIB) -> Function:
        return load(engine, compiled, hose_guest(aligned=aligned), memory_bytes=memory_bytes)

    return made


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("lent", [True, False], ids=["lent", "plain"])
@pytest.mark.parametrize("aligned", [True, False], ids=["aligned", "unaligned"])
def test_bytes_arrive_whole(make: Make, engine: Engine, count: int, lent: bool, aligned: bool) -> None:
    count = max(count, 8)
    consumer, looks = reader(count)
    outcome, payload = hand_over(
        make(aligned=aligned), make(aligned=aligned), count, consumer, lent=lent, move=True
    )
    found = results(outcome)
    assert [found[look.call] for look in looks] == [0x5A5A5A5A] * 3
    total = consumer.size() + count
    assert found[-2:] == [total, BAD]
    tier, copied, mapped, _ = outcome.hose
    assert copied + mapped == total
    if not engine.accelerated:
        assert (TIERS[tier], mapped) == ("copy", 0)
    elif aligned and total >= 2 * MIB:
        assert TIERS[tier] == ("share" if lent else "flip")
        assert copied < 3 * 4096
    payload.close()


def test_a_payload_that_moved_is_gone(make: Make, engine: Engine) -> None:
    consumer, _ = reader(4 * MIB)
    function = make()
    _, payload = hand_over(function, function, 4 * MIB, consumer, lent=False)
    if engine.accelerated:
        assert payload.kind == ""
        with pytest.raises(ValueError, match="taken"):
            function.call(payload)
        with pytest.raises(ValueError, match="taken"):
            payload.read()
    payload.close()
    with pytest.raises(ValueError, match="closed"):
        payload.read()


def test_a_payload_that_may_not_move_serves_many(make: Make) -> None:
    consumer, _ = reader(3 * MIB)
    function = make()
    outcome, payload = hand_over(function, function, 3 * MIB, consumer, lent=False, move=False)
    again = function.call(payload, move=False)
    assert results(outcome) == results(again)
    assert bytes(payload.read())[-1:] == b"\x5a"
    payload.close()


@pytest.mark.parametrize("lent", [True, False], ids=["lent", "plain"])
def test_consumers_do_not_see_each_other(make: Make, lent: bool) -> None:
    count = 3 * MIB
    consumer = HoseProgram()
    at = consumer.call("input")
    before = consumer.call("load", Ref(at.call, MIB))
    consumer.call("fill", Ref(at.call, MIB), 0x77, MIB)
    after = consumer.call("load", Ref(at.call, MIB))
    function = make()
    outcome, payload = hand_over(function, function, count, consumer, lent=lent, move=False)
    payload.share()
    for found in (results(outcome), results(function.call(payload, move=False))):
        assert (found[before.call], found[after.call]) == (0x5A5A5A5A, 0x77777777)
    assert bytes(payload.read())[MIB : MIB + 4] == b"\x5a" * 4
    payload.close()


def test_a_published_message_cannot_be_changed(make: Make) -> None:
    count = 2 * MIB
    p = HoseProgram()
    at = p.call("loan", count)
    p.call("fill", at, 0x11, count)
    id_ = p.call("publish", at, count)
    p.call("fill", at, 0x22, count)
    mine = p.call("load", at)
    other = p.call("take", count, 4096)
    got = p.call("map", id_, other, count)
    theirs = p.call("load", other)
    p.call("fill", other, 0x33, count)
    released = p.call("release", other)
    gone = p.call("any", other, count)
    again = p.call("release", at)
    zeros = p.call("any", at, count)
    found = results(make().call(p.encoded()))
    assert found[mine.call] == 0x22222222
    assert found[got.call] == count
    assert found[theirs.call] == 0x11111111
    assert [found[ref.call] for ref in (released, gone, again, zeros)] == [0, 0, 0, 0]


@pytest.mark.parametrize("count", [4096, 2 * MIB, 6 * MIB])
def test_a_loan_is_zeros_whoever_had_it_before(make: Make, count: int) -> None:
    secret = HoseProgram()
    at = secret.call("loan", count)
    secret.call("fill", at, 0x5E, count)
    p = HoseProgram()
    lent = p.call("loan", count)
    seen = p.call("any", lent, count)
    first, second = make(), make()
    for _ in range(4):
        assert first.call(secret.encoded()).error is None
        assert results(first.call(p.encoded()))[seen.call] == 0
        assert results(second.call(p.encoded()))[seen.call] == 0


@pytest.mark.parametrize("lent", [True, False], ids=["lent", "plain"])
def test_the_next_instance_reads_zeros(make: Make, lent: bool) -> None:
    """Whatever was lent, mapped or moved into a slot."""
    consumer, _ = reader(5 * MIB)
    function = make()
    look = HoseProgram()
    room = look.call("take", 16 * MIB, 16)
    seen = look.call("any", room, 16 * MIB)
    for _ in range(8):
        _, payload = hand_over(function, function, 5 * MIB, consumer, lent=lent)
        assert results(function.call(look.encoded()))[seen.call] == 0
        payload.close()


def test_an_input_passed_on_keeps_what_was_changed(make: Make) -> None:
    """The output of the second function is its own mapped input, with one page changed."""
    count = 3 * MIB
    last, looks = reader(count)
    middle = HoseProgram()
    at = middle.call("input")
    size = 4 + 28 * 5
    middle.call("fill", Ref(at.call, size + last.size() + count - 4), 0x77, 4)
    middle.call("copy", at, Ref(at.call, size), last.size())
    middle.call("copy", Ref(at.call, last.size()), Ref(at.call, size + last.size()), count)
    middle.call("reply", at, last.size() + count)
    assert middle.size() == size
    function = make()
    p = HoseProgram()
    lent = p.call("loan", size + last.size() + count)
    source = p.call("input")
    p.call("fill", Ref(lent.call, size + last.size()), 0x5A, count)
    p.call("copy", lent, Ref(source.call, p.size() + 2 * 28), size + last.size())
    p.call("reply", lent, size + last.size() + count)
    first = function.call(p.encoded() + middle.encoded() + last.encoded(), keep=True)
    assert first.payload is not None
    second = function.call(first.payload, keep=True, move=False)
    assert second.error is None, second.error
    assert second.payload is not None
    found = results(function.call(second.payload))
    assert [found[look.call] for look in looks] == [0x5A5A5A5A, 0x5A5A5A5A, 0x77777777]
    assert bytes(first.payload.read())[-4:] == b"\x5a" * 4
    first.payload.close()
    second.payload.close()


def test_messages_follow_the_run_and_nobody_else(make: Make) -> None:
    count = MIB + 4
    consumer = HoseProgram()
    size = consumer.call("map", 1, 0, 0)
    at = consumer.call("take", 2 * MIB, 4096)
    got = consumer.call("map", 1, at, 2 * MIB)
    word = consumer.call("load", Ref(at.call, MIB))
    unknown = consumer.call("map", 2, at, 2 * MIB)
    producer = HoseProgram()
    source = producer.call("input")
    lent = producer.call("take", count, 16)
    producer.call("fill", lent, 0x44, count)
    id_ = producer.call("publish", lent, count)
    producer.call("reply", Ref(source.call, producer.size() + 28), consumer.size())
    function = make()
    made = function.call(producer.encoded() + consumer.encoded(), keep=True)
    assert made.error is None
    assert made.payload is not None
    found = results(function.call(made.payload))
    assert id_.call == 3
    assert [found[r.call] for r in (size, got, word, unknown)] == [count, count, 0x44444444, BAD]
    stranger = HoseProgram()
    stranger.call("map", 1, 8192, 2 * MIB)
    assert results(function.call(stranger.encoded())) == [BAD]
    made.payload.close()


def test_arguments_that_make_no_sense(make: Make) -> None:
    p = HoseProgram()
    at = p.call("loan", 2 * MIB)
    checks = {
        p.call("loan", 0): BAD,
        p.call("loan", 0x7FFFFFFF): MEMORY,
        p.call("loan", 0xFFFFFFFF): MEMORY,
        p.call("release", 12345): BAD,
        p.call("release", Ref(at.call, 4096)): BAD,
        p.call("publish", at, 0): RANGE,
        p.call("publish", 0xFFFFFFF0, 64): RANGE,
        p.call("publish", 0, 0xFFFFFFFF): RANGE,
        p.call("map", 7, at, 4096): BAD,
        p.call("map", 0xFFFFFFFF, at, 4096): BAD,
        p.call("recv", at, 4096, 0): OVERLAP,
        p.call("recv", at, 1, 0): SMALL,
        p.call("recv", 0xFFFFFFF0, 0x1000, 0): RANGE,
        p.call("recv", 8, 8192, 9): BAD,
        p.call("recv_info", 0xFFFFFFFF): BAD,
        p.call("release", at): 0,
        p.call("release", at): BAD,
    }
    found = results(make().call(p.encoded()))
    assert {ref.call: found[ref.call] for ref in checks} == {ref.call: want for ref, want in checks.items()}


def test_loans_are_bounded(make: Make) -> None:
    p = HoseProgram()
    refs = [p.call("loan", 4096) for _ in range(CALLS_MAX)]
    found = results(make().call(p.encoded()))
    assert [found[r.call] > 0 for r in refs[:64]] == [True] * 64
    assert {found[r.call] for r in refs[64:]} == {FULL}


def test_a_loan_within_the_memory_limit_only(make: Make) -> None:
    p = HoseProgram()
    p.call("loan", 48 * MIB)
    p.call("loan", 48 * MIB)
    found = results(make(memory_bytes=64 * MIB).call(p.encoded()))
    assert found[0] > 0
    assert found[1] == MEMORY


@pytest.mark.parametrize("lent", [True, False], ids=["lent", "plain"])
@pytest.mark.parametrize(
    "operation",
    ["fill_over_the_end", "copy_over_the_end", "load_beyond", "fill_inside", "copy_out", "grow_then_use"],
)
def test_bulk_operations_around_a_window(make: Make, lent: bool, operation: str) -> None:
    """They work or trap; the process lives."""
    count = 2 * MIB
    consumer = HoseProgram()
    at = consumer.call("input")
    if operation == "fill_over_the_end":
        consumer.call("fill", at, 1, 0x7FFFFFFF)
    elif operation == "copy_over_the_end":
        consumer.call("copy", Ref(at.call, 16), at, 0x7FFFFFFF)
    elif operation == "load_beyond":
        consumer.call("load", 0xFFFFFFF0)
    elif operation == "fill_inside":
        consumer.call("fill", Ref(at.call, 4095), 1, 2)
    elif operation == "copy_out":
        consumer.call("copy", 4096 - 1500, at, 1000)
    else:
        consumer.call("grow", 16)
        consumer.call("fill", Ref(at.call, count - 4096), 1, 65536)
    function = make()
    outcome, payload = hand_over(function, function, count, consumer, lent=lent)
    if operation in ("fill_over_the_end", "copy_over_the_end", "load_beyond"):
        assert isinstance(outcome.error, GuestTrap)
        assert outcome.error.details["code"] == 1
    else:
        assert outcome.error is None, outcome.error
    payload.close()
    assert results(function.call(reader(8)[0].encoded() + bytes(200)))


def test_an_output_across_a_loans_edge_is_copied(make: Make) -> None:
    p = HoseProgram()
    at = p.call("loan", 2 * MIB)
    p.call("fill", at, 0x66, 2 * MIB)
    p.call("reply", Ref(at.call, -64), 2 * MIB)
    outcome = make().call(p.encoded())
    assert outcome.error is None
    assert bytes(outcome.output) == bytes(64) + b"\x66" * (2 * MIB - 64)


def test_an_output_in_a_loan_is_read_in_place(make: Make) -> None:
    p = HoseProgram()
    at = p.call("loan", 4 * MIB)
    p.call("fill", Ref(at.call, 100), 0x12, MIB)
    p.call("reply", Ref(at.call, 100), MIB)
    function = make()
    outcome = function.call(p.encoded())
    kept = bytes(outcome.output)
    assert kept == b"\x12" * MIB
    other = HoseProgram()
    other.call("fill", other.call("loan", 4 * MIB), 0xFF, 4 * MIB)
    for _ in range(3):
        assert function.call(other.encoded()).error is None
    assert bytes(outcome.output) == kept, "still this call's"


def test_input_that_does_not_fit(make: Make) -> None:
    consumer, _ = reader(8 * MIB)
    outcome, payload = hand_over(
        make(memory_bytes=32 * MIB), make(memory_bytes=4 * MIB), 8 * MIB, consumer, lent=True
    )
    assert isinstance(outcome.error, BadGuestOutput | GuestTrap)
    payload.close()
