"""The exchange of pages (T1x): who may see what afterwards, what it falls back to, and when the policy chooses it."""

from __future__ import annotations

import importlib
import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
import wasmtime

from edgeagent.hose.settings import TIERS, Crossovers, HoseSettings
from edgeagent.model.errors import Unavailable
from edgeagent.runtime.open_engine import open_engine
from edgeagent.runtime.port import Engine, Function, Outcome, Payload
from tests.conftest import engine_names
from tests.contract.calls import load
from tests.contract.hose_calls import HoseProgram, Ref, hand_over, hose_guest, reader, results

MIB = 1 << 20
COUNT = 2 * MIB
WARM = Crossovers(exchange_bytes_min=256 << 10)

pytestmark = pytest.mark.skipif("native" not in engine_names(), reason="this engine only copies")

# Every byte of its memory is 0xEE before its input comes, so that these are the pages it gives in return; it answers
# with the first word of its input.
STAINED = """(module
  (memory (export "memory") 128)
  (func $stain (memory.fill (i32.const 64) (i32.const 0xEE) (i32.const 0x7fffc0)))
  (start $stain)
  (func (export "edge_alloc") (param i32) (result i32) (i32.const 1048576))
  (func (export "edge_alloc_aligned") (param i32 i32) (result i32) (i32.const 1048576))
  (func (export "edge_handle") (param i32 i32) (result i64)
    (i32.store (i32.const 8) (i32.load (local.get 0)))
    (i64.const 0x800000004)))"""


def core() -> Any:
    return importlib.import_module("edgeagent.native._core")


@pytest.fixture
def own() -> Iterator[Engine]:
    opened = open_engine("native", workers=1, small_slots=8, large_slots=4)
    opened.use_hoses(HoseSettings(crossovers=WARM))
    yield opened
    core().break_for_tests(0)
    opened.close()
    assert opened.stats().live_instances == 0


def close(own: Engine, payload: Payload) -> None:
    """... and wait until its instance is gone: a slot that is still being cleared is none for the next."""
    payload.close()
    begun = time.monotonic()
    while own.stats().live_instances:
        assert time.monotonic() < begun + 30


def warm(own: Engine, first: Function, second: Function, count: int = COUNT) -> Outcome:
    """Hands over ``count`` bytes until both functions have resident slots, and once more."""
    consumer, looks = reader(count)
    for _ in range(3):
        outcome, payload = hand_over(first, second, count, consumer, lent=False)
        close(own, payload)
        assert [results(outcome)[look.call] for look in looks] == [0x5A5A5A5A] * 3
    return outcome


def tier_of(outcome: Outcome) -> str:
    return TIERS[outcome.hose[0]]


def test_warm_chains_exchange(own: Engine, compiled: Any) -> None:
    first, second = (load(own, compiled, hose_guest(), memory_bytes=64 * MIB) for _ in range(2))
    consumer, _ = reader(COUNT)
    cold, payload = hand_over(first, second, COUNT, consumer, lent=False)
    assert tier_of(cold) == "flip", "nothing is known of either function yet"
    close(own, payload)
    outcome = warm(own, first, second)
    tier, copied, mapped, _ = outcome.hose
    assert TIERS[tier] == "exchange"
    assert copied + mapped == consumer.size() + COUNT
    assert copied <= 2 * (64 << 10), "head and tail only"


def test_what_was_exchanged_is_taken(own: Engine, compiled: Any) -> None:
    first, second = (load(own, compiled, hose_guest(), memory_bytes=64 * MIB) for _ in range(2))
    warm(own, first, second)
    consumer, _ = reader(COUNT)
    outcome, payload = hand_over(first, second, COUNT, consumer, lent=False)
    assert tier_of(outcome) == "exchange"
    assert payload.kind == ""
    with pytest.raises(ValueError, match="taken"):
        payload.read()
    close(own, payload)


def test_payloads_that_others_need_are_not_exchanged(own: Engine, compiled: Any) -> None:
    first, second = (load(own, compiled, hose_guest(), memory_bytes=64 * MIB) for _ in range(2))
    warm(own, first, second)
    consumer, _ = reader(COUNT)
    outcome, payload = hand_over(first, second, COUNT, consumer, lent=False, move=False)
    assert tier_of(outcome) == "copy"
    assert bytes(payload.read())[-4:] == b"\x5a" * 4
    close(own, payload)


def test_the_next_tenants_of_both_slots_read_zeros(own: Engine, compiled: Any) -> None:
    """The producer's slot has the consumer's stained pages afterwards; whoever gets it next finds nothing of them."""
    first = load(own, compiled, hose_guest(), memory_bytes=64 * MIB)
    stained = load(own, compiled, bytes(wasmtime.wat2wasm(STAINED)), memory_bytes=64 * MIB)
    p = HoseProgram()
    at = p.call("take", COUNT, 16)
    p.call("fill", at, 0x5A, COUNT)
    p.call("reply", at, COUNT)
    look = HoseProgram()
    at = look.call("take", 6 * MIB, 4096)
    seen = look.call("any", at, 6 * MIB)
    look.call("fill", at, 0x77, 6 * MIB)
    look.call("store", at, seen)
    look.call("reply", at, COUNT)  # as large as before, so that it gets the same kind of slot
    tiers = []
    for _ in range(6):
        made = first.call(p.encoded(), keep=True)
        assert made.payload is not None
        outcome = stained.call(made.payload)
        assert results(outcome) == [0x5A5A5A5A]
        tiers.append(tier_of(outcome))
        close(own, made.payload)
        next_tenant = first.call(look.encoded(), keep=True)
        assert next_tenant.payload is not None
        assert bytes(next_tenant.payload.read())[:4] == bytes(4), "it reads what another guest wrote"
        close(own, next_tenant.payload)
    assert "exchange" in tiers


def test_both_sides_go_on_writing(own: Engine, compiled: Any) -> None:
    """The consumer's new pages are its own: it fills, grows and copies over the seams."""
    first, second = (load(own, compiled, hose_guest(), memory_bytes=64 * MIB) for _ in range(2))
    warm(own, first, second)
    consumer = HoseProgram()
    at = consumer.call("input")
    consumer.call("grow", 2)
    middle = Ref(at.call, 65536 - 64)
    consumer.call("fill", middle, 0x33, COUNT // 2)
    consumer.call("copy", Ref(at.call, COUNT // 2 + 65536), middle, 65536)
    seen = [consumer.call("load", Ref(at.call, offset)) for offset in (65536, COUNT // 2 + 65536, COUNT - 8)]
    outcome, payload = hand_over(first, second, COUNT, consumer, lent=False)
    assert tier_of(outcome) == "exchange"
    assert [results(outcome)[look.call] for look in seen] == [0x33333333, 0x33333333, 0x5A5A5A5A]
    close(own, payload)


@pytest.mark.parametrize(
    ("what", "tier"),
    [(1, "copy"), (32, "copy"), (64, "exchange"), (32 | 64, "copy")],
    ids=["refused", "undone", "finished by copying", "undone by copying"],
)
def test_a_kernel_that_refuses_a_step(own: Engine, compiled: Any, what: int, tier: str) -> None:
    first, second = (load(own, compiled, hose_guest(), memory_bytes=64 * MIB) for _ in range(2))
    warm(own, first, second)
    core().break_for_tests(what)
    consumer, looks = reader(COUNT)
    tiers = []

    def often() -> None:
        for _ in range(20):  # a thread gives up after 16
            outcome, payload = hand_over(first, second, COUNT, consumer, lent=False)
            close(own, payload)
            assert [results(outcome)[look.call] for look in looks] == [0x5A5A5A5A] * 3
            tiers.append(tier_of(outcome))

    with ThreadPoolExecutor(1) as thread:  # of its own, for it is not given any more tries
        thread.submit(often).result()
    assert tiers[0] == tier
    assert tiers[-1] == "copy"


def test_pages_that_got_lost_fail_the_call(own: Engine, compiled: Any) -> None:
    """The kernel stops between two mappings of a range: rather no output than one with holes."""
    first, second = (load(own, compiled, hose_guest(), memory_bytes=64 * MIB) for _ in range(2))
    consumer, _ = reader(COUNT)

    def lose() -> tuple[Outcome, Payload]:
        core().break_for_tests(256)
        outcome, payload = hand_over(first, second, COUNT, consumer, lent=False)
        core().break_for_tests(0)
        close(own, payload)
        return outcome, payload

    with ThreadPoolExecutor(1) as thread:
        flipped, payload = thread.submit(lose).result()
        thread.submit(warm, own, first, second).result()
        exchanged, _ = thread.submit(lose).result()
        assert tier_of(thread.submit(warm, own, first, second).result()) == "exchange"
    assert isinstance(flipped.error, Unavailable)
    assert isinstance(exchanged.error, Unavailable)
    with pytest.raises(ValueError, match="closed"):
        payload.read()


def test_mappings_stay_bounded(own: Engine, compiled: Any) -> None:
    """The slots keep the seams between pages of different origin, but only so many."""
    first, second = (load(own, compiled, hose_guest(), memory_bytes=64 * MIB) for _ in range(2))
    sizes = itertools.cycle(range(400_000, 3 * MIB, 86_416))
    tiers = set()

    def mappings() -> int:
        return len(Path("/proc/self/maps").read_text(encoding="ascii").splitlines())

    before = mappings()
    for count in itertools.islice(sizes, 150):
        tiers.add(tier_of(warm(own, first, second, count)))
    assert tiers == {"exchange"}
    assert mappings() - before <= 2 * 2 * (4 * MIB // (64 << 10)) + 16


def choose(at: Crossovers, count: int, **over: Any) -> str:
    return TIERS[core().choose_tier(msgspec.to_builtins(at), count, **over)]


@pytest.mark.parametrize(
    ("over", "tier"),
    [
        ({}, "copy"),
        ({"may_move": True}, "flip"),
        ({"may_move": True, "both_resident": True}, "exchange"),
        ({"both_resident": True}, "copy"),
        ({"consumers": 2, "may_move": True, "both_resident": True}, "share"),
        ({"in_hose": True, "may_move": True}, "share"),
    ],
)
def test_the_policy(over: dict[str, Any], tier: str) -> None:
    assert choose(Crossovers(), 8 * MIB, **over) == tier
    assert choose(Crossovers(), 0, **over) == "none"
    assert choose(Crossovers(), 1024, **over) == "copy"


def test_below_its_crossover_resident_bytes_are_copied() -> None:
    at = Crossovers()
    warm_over = {"may_move": True, "both_resident": True}
    assert choose(at, at.exchange_bytes_min, **warm_over) == "exchange"
    assert choose(at, at.exchange_bytes_min - 1, **warm_over) == "copy"
    assert choose(at, at.exchange_bytes_min - 1, may_move=True) == "flip"


@pytest.mark.parametrize(
    ("payload", "memory", "views", "wants"),
    [
        (MIB, 4 * MIB, False, True),
        (MIB, 4 * MIB, True, False),
        (MIB, 17 * MIB, False, False),
        (64 << 10, 4 * MIB, False, False),
        (5 * MIB, 12 * MIB, False, False),
    ],
)
def test_who_gets_a_slot_that_stays_resident(payload: int, memory: int, views: bool, wants: bool) -> None:
    ask: Callable[..., bool] = core().wants_resident
    at = msgspec.to_builtins(Crossovers())
    found = ask(at, payload_bytes=payload, memory_bytes=memory, had_views=views, resident_bytes=16 * MIB)
    assert found is wants


def test_who_publishes_borrows_hoses_also_below_the_crossover_of_chains(own: Engine, compiled: Any) -> None:
    """A window lies where it can have large pages, plain memory where the guest's allocator puts it."""
    function = load(own, compiled, hose_guest(), memory_bytes=64 * MIB)
    program = HoseProgram()
    at = program.call("loan", MIB)
    program.call("fill", at, 0x12, MIB)
    program.call("publish", at, MIB)
    first, second, third = (results(function.call(program.encoded()))[at.call] for _ in range(3))
    assert 0 < first != second == third
