"""The hose pool and the kernel below it: what is missing, what is at its bound, what is given back."""

from __future__ import annotations

import fcntl
import importlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from edgeagent.hose.descriptors import FRAME_SEALS
from edgeagent.hose.settings import TIERS, Crossovers, HoseSettings
from edgeagent.model.errors import GuestTrap
from edgeagent.runtime.open_engine import open_engine
from edgeagent.runtime.port import Engine, Function
from tests.conftest import engine_names
from tests.contract.calls import load
from tests.contract.hose_calls import (
    HoseProgram,
    hand_over,
    hose_guest,
    reader,
    results,
)
from tests.descriptors import left_open, open_descriptors

MIB = 1 << 20
MEMORY = -4

Make = Callable[..., Function]


@pytest.fixture
def make(engine: Engine, compiled: Any) -> Make:
    def made(*, aligned: bool = True, memory_bytes: int = 64 * MIB) -> Function:
        return load(engine, compiled, hose_guest(aligned=aligned), memory_bytes=memory_bytes)

    return made


@pytest.fixture
def broken(engine: Engine) -> Iterator[Callable[[int], None]]:
    if not engine.accelerated:
        pytest.skip("this engine only copies")
    core = importlib.import_module("edgeagent.native._core")
    yield core.break_for_tests
    core.break_for_tests(0)


@pytest.mark.parametrize(
    "what", [1, 2, 4, 8, 15, 128], ids=["mremap", "mmap", "memfd", "collapse", "all", "seals"]
)
@pytest.mark.parametrize("lent", [True, False], ids=["lent", "plain"])
def test_without_a_kernel_feature_the_bytes_are_the_same(
    make: Make, broken: Callable[[int], None], compiled: Any, what: int, lent: bool
) -> None:
    own = open_engine("native", workers=1, small_slots=4, large_slots=4)
    function = load(own, compiled, hose_guest(), memory_bytes=64 * MIB)
    broken(what)
    consumer, looks = reader(3 * MIB)
    outcome, payload = hand_over(function, function, 3 * MIB, consumer, lent=lent)
    assert [results(outcome)[look.call] for look in looks] == [0x5A5A5A5A] * 3
    if what == 15:
        assert TIERS[outcome.hose[0]] == "copy"
    payload.close()
    own.close()


@pytest.mark.parametrize(
    ("what", "lacks"),
    [(0, ""), (1, "mremap"), (2, "mmap of a memfd"), (4, "memfd_create"), (128, "seals of a memfd")],
)
def test_the_engine_says_what_the_kernel_lacks(
    engine: Engine, broken: Callable[[int], None], what: int, lacks: str
) -> None:
    broken(what)
    missing = engine.hose_missing()
    assert len(missing) == (what > 0)
    assert all(name.startswith(lacks) for name in missing)


def test_a_payload_that_cannot_be_sealed_is_not_given_away(
    make: Make, engine: Engine, broken: Callable[[int], None]
) -> None:
    """Refused from the start, or only once it is to be sealed for another process: its readers notice nothing."""
    p = HoseProgram()
    at = p.call("loan", 3 * MIB)
    p.call("fill", at, 0x5A, 3 * MIB)
    p.call("reply", at, 3 * MIB)
    for before, after in ((128, 128), (0, 128)):
        broken(before)
        payload: Any = make().call(p.encoded(), keep=True).payload
        broken(after)
        with pytest.raises(RuntimeError, match="cannot be sealed"):
            payload.export()
        assert bytes(payload.read()) == b"\x5a" * (3 * MIB)
        payload.close()


def test_a_pool_at_its_bound_falls_back_to_guest_memory(compiled: Any) -> None:
    if "native" not in engine_names():
        pytest.skip("the extension is not built")
    own = open_engine("native", workers=1, small_slots=8, large_slots=4)
    own.use_hoses(HoseSettings(crossovers=Crossovers(), pool_bytes_max=4 * MIB))
    function = load(own, compiled, hose_guest(), memory_bytes=64 * MIB)
    consumer, looks = reader(8 * MIB)
    outcome, payload = hand_over(function, function, 8 * MIB, consumer, lent=True)
    assert [results(outcome)[look.call] for look in looks] == [0x5A5A5A5A] * 3
    assert TIERS[outcome.hose[0]] == "flip"
    assert own.hose_stats().refused == 1
    payload.close()
    own.close()


def test_nothing_stays_mapped(compiled: Any) -> None:
    if "native" not in engine_names():
        pytest.skip("the extension is not built")
    own = open_engine("native", workers=1, small_slots=8, large_slots=4)
    function = load(own, compiled, hose_guest(), memory_bytes=64 * MIB)
    consumer, _ = reader(3 * MIB)

    def mappings() -> int:
        return len(Path("/proc/self/maps").read_text(encoding="ascii").splitlines())

    counts = []
    for i in range(200):
        _, payload = hand_over(function, function, 3 * MIB, consumer, lent=i % 2 == 0)
        payload.close()
        own.settle_hoses()  # type: ignore[attr-defined]  # a worker lets go of it, which may be late
        counts.append(mappings())
    assert own.hose_stats().hoses == 1
    assert max(counts[100:]) <= max(counts[:100]) + 8
    own.close()


def test_idle_hoses_are_freed(compiled: Any) -> None:
    if "native" not in engine_names():
        pytest.skip("the extension is not built")
    own = open_engine("native", workers=1, small_slots=8, large_slots=4)
    own.use_hoses(HoseSettings(idle_ms=100))
    p = HoseProgram()
    p.call("fill", p.call("loan", 4 * MIB), 1, 4 * MIB)
    assert load(own, compiled, hose_guest(), memory_bytes=64 * MIB).call(p.encoded()).error is None
    assert own.hose_stats().made == 1
    begun = time.monotonic()
    while own.hose_stats().bytes:
        assert time.monotonic() < begun + 30
    own.close()


def test_what_others_borrow_keeps_no_idle_hose(compiled: Any) -> None:
    """After a burst, and while hoses come and go: those of the burst are freed all the same."""
    if "native" not in engine_names():
        pytest.skip("the extension is not built")
    own = open_engine("native", workers=1, small_slots=8, large_slots=4)
    own.use_hoses(HoseSettings(idle_ms=200))
    for lease in [own.lease(4 * MIB) for _ in range(8)]:
        lease.close()
    assert own.hose_stats().hoses == 8
    begun = time.monotonic()
    while own.hose_stats().hoses > 2:  # one is borrowed, one may be on its way back
        own.lease(4 * MIB).close()
        own.settle_hoses()  # type: ignore[attr-defined]  # who clears is nice, and has its turn now
        assert time.monotonic() < begun + 30
    own.close()


def test_a_hose_that_nobody_wrote_to_is_freed_too(compiled: Any) -> None:
    if "native" not in engine_names():
        pytest.skip("the extension is not built")
    own = open_engine("native", workers=1, small_slots=8, large_slots=4)
    own.use_hoses(HoseSettings(idle_ms=100))
    text = """(module
      (import "edge_hose" "loan" (func $loan (param i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "edge_alloc") (param i32) (result i32) (i32.const 4096))
      (func (export "edge_alloc_aligned") (param i32 i32) (result i32) unreachable)
      (func (export "edge_handle") (param i32 i32) (result i64) (i64.extend_i32_u (call $loan (i32.const 4194304)))))"""
    outcome = load(own, compiled, bytes(wasmtime.wat2wasm(text)), memory_bytes=64 * MIB).call(b"x")
    assert isinstance(outcome.error, GuestTrap)
    assert own.hose_stats().made == 1
    begun = time.monotonic()
    while own.hose_stats().bytes:
        assert time.monotonic() < begun + 30
    own.close()


def test_large_pages_that_nobody_reserved_are_not_mapped(engine: Engine) -> None:
    try:
        fd = os.memfd_create("test", os.MFD_ALLOW_SEALING | os.MFD_HUGETLB)
        os.ftruncate(fd, 1 << 30)
    except OSError as error:
        pytest.skip(f"no large pages here: {error}")
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, FRAME_SEALS)
    with pytest.raises(ValueError, match=r"large pages|holes"):
        engine.adopt(fd, 0, 4096)
    os.close(fd)


def test_a_closed_engine_keeps_no_idle_hose(compiled: Any) -> None:
    if "native" not in engine_names():
        pytest.skip("the extension is not built")
    before = open_descriptors()
    own = open_engine("native", workers=1, small_slots=8, large_slots=4)
    p = HoseProgram()
    p.call("fill", p.call("loan", 4 * MIB), 1, 4 * MIB)
    assert load(own, compiled, hose_guest(), memory_bytes=64 * MIB).call(p.encoded()).error is None
    own.settle_hoses()  # type: ignore[attr-defined]
    assert any("edge-hose" in name for name in left_open(before))
    own.close()
    assert own.hose_stats().bytes == 0
    assert not any("edge-hose" in name for name in left_open(before))


def test_sharing_begins_at_its_crossover(compiled: Any) -> None:
    if "native" not in engine_names():
        pytest.skip("the extension is not built")
    own = open_engine("native", workers=1, small_slots=8, large_slots=4)
    own.use_hoses(HoseSettings(crossovers=Crossovers(share_bytes_min=2 * MIB)))
    function = load(own, compiled, hose_guest(), memory_bytes=64 * MIB)
    for count, shared in ((MIB, False), (3 * MIB, True)):
        p = HoseProgram()
        p.call("reply", p.call("take", count, 16), count)
        payload = function.call(p.encoded(), keep=True).payload
        assert payload is not None
        assert payload.share() is shared
        assert payload.kind == ("hose" if shared else "guest")
        payload.close()
    own.close()


@pytest.mark.parametrize("count", [1, 4096, 100_001, 3 * MIB])
def test_a_loan_is_zeros_whatever_the_allocator_gives(engine: Engine, compiled: Any, count: int) -> None:
    """Memory that was used and freed before, of an allocator that does not clear it; at both ends of what grows."""
    text = """(module
      (import "edge_hose" "loan" (func $loan (param i32) (result i32)))
      (memory (export "memory") 8)
      (func $take (param $n i32) (result i32)
        (drop (memory.grow (i32.shr_u (i32.add (local.get $n) (i32.const 4259839)) (i32.const 16))))
        (i32.const 65536))
      (func (export "edge_alloc") (param i32) (result i32) (i32.const 4096))
      (func (export "edge_alloc_aligned") (param i32 i32) (result i32) (call $take (local.get 0)))
      (func (export "edge_handle") (param $ptr i32) (param i32) (result i64) (local $at i32) (local $n i32)
        (local.set $n (i32.load (local.get $ptr)))
        (memory.fill (i32.const 65536) (i32.const 0x55) (i32.const 458752))
        (local.set $at (call $loan (local.get $n)))
        (i64.or (i64.shl (i64.extend_i32_u (local.get $at)) (i64.const 32)) (i64.extend_i32_u (local.get $n)))))"""
    function = load(engine, compiled, bytes(wasmtime.wat2wasm(text)), memory_bytes=64 * MIB)
    outcome = function.call(count.to_bytes(4, "little"))
    assert outcome.error is None
    assert bytes(outcome.output) == bytes(count)


def test_an_allocator_that_borrows_while_it_is_asked(engine: Engine, compiled: Any) -> None:
    """edge_alloc_aligned asks for a loan, which asks edge_alloc_aligned: the inner one is refused."""
    text = """(module
      (import "edge_hose" "loan" (func $loan (param i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "edge_alloc") (param i32) (result i32) (i32.const 4096))
      (func (export "edge_alloc_aligned") (param $n i32) (param i32) (result i32) (call $loan (local.get $n)))
      (func (export "edge_handle") (param i32 i32) (result i64)
        (i32.store (i32.const 8) (call $loan (i32.const 2000000)))
        (i64.const 0x800000004)))"""
    function = load(engine, compiled, bytes(wasmtime.wat2wasm(text)), memory_bytes=64 * MIB)
    assert results(function.call(b"x")) == [MEMORY]
