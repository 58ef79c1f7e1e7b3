"""Atomic instructions on plain memory, on lent buffers and on windows: they work or trap, and nobody else sees them."""

from __future__ import annotations

from typing import Any

import pytest
import wasmtime

from edgeagent.hose.settings import TIERS
from edgeagent.model.errors import GuestTrap
from edgeagent.runtime.port import Engine, Function
from tests.contract.calls import load
from tests.contract.hose_calls import results

MIB = 1 << 20
SIZE = 4 * MIB

_GUEST = """(module
  (import "edge_hose" "loan" (func $loan (param i32) (result i32)))
  (import "edge_hose" "release" (func $release (param i32) (result i32)))
  (memory (export "memory") 1 512)
  (func $take (param $n i32) (param $align i32) (result i32) (local $at i32)
    (local.set $at (i32.and (i32.add (i32.shl (memory.size) (i32.const 16)) (i32.sub (local.get $align) (i32.const 1)))
                            (i32.sub (i32.const 0) (local.get $align))))
    (drop (memory.grow (i32.shr_u (i32.add (i32.add (local.get $n) (local.get $align)) (i32.const 131071))
                                  (i32.const 16))))
    (local.get $at))
  (func (export "edge_alloc") (param i32) (result i32) (call $take (local.get 0) (i32.const 16)))
  (func (export "edge_alloc_aligned") (param i32 i32) (result i32) (call $take (local.get 0) (local.get 1)))
  (func (export "edge_handle") (param $p i32) (param $n i32) (result i64) (local $at i32)
    %s))"""
_REPLY_LOAN = f"""(i64.or (i64.shl (i64.extend_i32_u (local.get $at)) (i64.const 32)) (i64.const {SIZE}))"""
_REPLY_WORDS = "(i64.const 0x800000010)"  # 16 bytes at 8
_LOAN = f"(local.set $at (call $loan (i32.const {SIZE})))"
_END = f"(i32.add (local.get $at) (i32.const {SIZE}))"
_READS = f"""
  (i32.store (i32.const 8) (i32.atomic.rmw.add (local.get $p) (i32.const 1)))
  (i32.store (i32.const 12) (i32.atomic.load (local.get $p)))
  (i32.store (i32.const 16) (i32.atomic.rmw.cmpxchg (i32.add (local.get $p) (i32.const {SIZE - 4})) (i32.const 7)
                                                    (i32.const 9)))
  (i32.store (i32.const 20) (i32.atomic.load (i32.add (local.get $p) (i32.const {SIZE - 4}))))"""


@pytest.fixture
def guest(engine: Engine, compiled: Any) -> Any:
    def made(body: str) -> Function:
        return load(engine, compiled, bytes(wasmtime.wat2wasm(_GUEST % body)), memory_bytes=32 * MIB)

    return made


def test_a_consumers_atomics_are_seen_by_nobody(guest: Any, engine: Engine) -> None:
    producer = guest(
        f"""{_LOAN} (drop (i32.atomic.rmw.add (local.get $at) (i32.const 5)))
            (i32.atomic.store (i32.sub {_END} (i32.const 4)) (i32.const 7)) {_REPLY_LOAN}"""
    )
    consumer = guest(_READS + _REPLY_WORDS)
    payload = producer.call(b"", keep=True).payload
    assert payload is not None
    for _ in range(2):
        outcome = consumer.call(payload, move=False)
        assert results(outcome) == [5, 6, 7, 9]
        assert TIERS[outcome.hose[0]] == ("share" if engine.accelerated else "copy")
    seen = bytes(payload.read())
    assert (seen[:4], seen[-4:]) == (b"\x05\0\0\0", b"\x07\0\0\0")
    payload.close()


def test_atomics_over_the_edges_of_a_loan(guest: Any) -> None:
    """The words before its begin and behind its end are the guest's own memory; a released one is zeros."""
    found = results(
        guest(
            f"""{_LOAN}
            (i32.store (i32.const 8) (i32.atomic.rmw.add (i32.sub (local.get $at) (i32.const 4)) (i32.const 3)))
            (i32.store (i32.const 12) (i32.atomic.rmw.sub {_END} (i32.const 3)))
            (drop (i64.atomic.rmw.or (i32.sub {_END} (i32.const 8)) (i64.const -1)))
            (i32.store (i32.const 16) (call $release (local.get $at)))
            (i32.store (i32.const 20) (i32.atomic.load (i32.sub {_END} (i32.const 8))))
            {_REPLY_WORDS}"""
        ).call(b"")
    )
    assert found == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "body",
    [
        "(drop (i32.atomic.rmw.add (i32.add (local.get $at) (i32.const 2)) (i32.const 1)))",
        f"(drop (i32.atomic.load (i32.sub {_END} (i32.const 2))))",
        "(i32.atomic.store (i32.shl (memory.size) (i32.const 16)) (i32.const 1))",
        "(drop (i64.atomic.rmw.xchg offset=0xfffffff8 (i32.const 8) (i64.const 1)))",
        "(drop (memory.atomic.wait32 (local.get $at) (i32.const 0) (i64.const 1000)))",
        "(drop (memory.atomic.notify (i32.add (local.get $at) (i32.const 1)) (i32.const 1)))",
    ],
    ids=["unaligned", "across-the-end", "past-the-memory", "far", "wait", "unaligned-notify"],
)
def test_atomics_that_cannot_work_trap(guest: Any, body: str) -> None:
    assert isinstance(guest(f"{_LOAN} {body} {_REPLY_LOAN}").call(b"").error, GuestTrap)


def test_a_memory_to_be_shared_fits_no_abi(compiled: Any) -> None:
    text = """(module (memory (export "memory") 1 2 shared)
      (func (export "edge_alloc") (param i32) (result i32) (i32.const 0))
      (func (export "edge_handle") (param i32 i32) (result i64) (i64.const 0)))"""
    _, info = compiled(bytes(wasmtime.wat2wasm(text)))
    assert (info.abi, "shared" in info.why_no_abi) == (None, True)
