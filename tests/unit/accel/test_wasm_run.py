"""What is followed of a module before it runs: numbers as the engine computes them, loops, branches and their work."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import wasmtime

from edgeagent.accel.modes import Findings
from edgeagent.accel.wasm_numbers import BINARY, UNARY
from edgeagent.accel.wasm_rounds import Rounds
from edgeagent.accel.wasm_scan import scan_wasm
from edgeagent.bench.accel_corpus import LabelledCase, case_bytes
from tests.guests.c_guests import compiled_c

SAMPLES = (0, 1, 2, 3, 31, 32, 63, 64, 127, 128, 255, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WIDE = (*SAMPLES, 0x100000000, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF)
_COMPARED = {0x45, 0x50, *range(0x46, 0x50), *range(0x51, 0x5B)}
_WIDE_IN = {0x50, 0xA7, *range(0x51, 0x5B), *range(0x79, 0x8B), 0xC2, 0xC3, 0xC4}
_WIDE_OUT = {0xAC, 0xAD, *range(0x79, 0x8B), 0xC2, 0xC3, 0xC4}
PRODUCT = 2 * 100**3 + 32 * 4 * 3 * 100**2  # of the call below
CALL = "(drop (call $call (i32.const 0) (i32.const 6) (i32.const 64) (i32.const 448)))"


def _function(opcode: int, parameters: int) -> Callable[..., int]:
    """One that does that one instruction."""
    wide_in, wide_out = opcode in _WIDE_IN, opcode in _WIDE_OUT
    kind, result = (0x7E if wide_in else 0x7F), (0x7E if wide_out else 0x7F)
    types = bytes([1, 0x60, parameters, *[kind] * parameters, 1, result])
    code = bytes([0, *itertools.chain(*((0x20, n) for n in range(parameters))), opcode, 0x0B])
    module = b"".join(
        [
            b"\0asm\1\0\0\0",
            bytes([1, len(types)]) + types,
            b"\3\2\1\0\7\5\1\1f\0\0",
            bytes([10, len(code) + 2, 1, len(code)]) + code,
        ]
    )
    store = wasmtime.Store()
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, module), [])
    function = instance.exports(store)["f"]
    assert isinstance(function, wasmtime.Func)
    return lambda *given: int(function(store, *given))


def _as_signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


@pytest.mark.parametrize("opcode", sorted(BINARY))
def test_two_numbers(opcode: int) -> None:
    run, bits, out = _function(opcode, 2), 64 if opcode in _WIDE_IN else 32, 64 if opcode in _WIDE_OUT else 32
    samples = WIDE if bits == 64 else SAMPLES
    for a, b in itertools.product(samples, samples):
        try:
            wanted = run(_as_signed(a, bits), _as_signed(b, bits)) & (1 << out) - 1
        except wasmtime.Trap:
            continue  # a way that ends, whatever comes out
        assert BINARY[opcode](a, b) == wanted, (hex(opcode), a, b)


@pytest.mark.parametrize("opcode", sorted(UNARY))
def test_one_number(opcode: int) -> None:
    run, bits, out = _function(opcode, 1), 64 if opcode in _WIDE_IN else 32, 64 if opcode in _WIDE_OUT else 32
    for a in WIDE if bits == 64 else SAMPLES:
        wanted = run(_as_signed(a, bits)) & (1 << out) - 1
        assert UNARY[opcode](a) == wanted, (hex(opcode), a)


@pytest.mark.parametrize(
    ("compared", "left"),
    [
        ([(0, 64), (1, 64)], 63),
        ([(10, 100), (30, 100)], 3),
        ([(5000, 0), (4999, 0)], 4999),
        ([(0, 8), (0, 6)], 3),  # the other side moves
        ([(0xFFFFFFF0, 4), (0xFFFFFFF4, 4)], 4),  # below 0
        ([(0xFFFFFC01, 0xFFFFFC00), (0xFFFFFC02, 0xFFFFFC01)], 0x3FF),  # to where it begins anew
        ([(3, 2), (2, 1)], 1),
        ([(1 << 40, 3 << 40), (2 << 40, 3 << 40)], 1),
    ],
)
def test_rounds_that_are_left(compared: list[tuple[int, int]], left: int) -> None:
    rounds = Rounds()
    for n, pair in enumerate(compared):
        rounds.begin(100.0 + 10.0 * n)
        rounds.compare(*pair)
    assert rounds.total_flops(112.0) == 110.0 + 10.0 * left


def test_a_loop_that_is_too_long_to_be_followed() -> None:
    text = """(module
  (import "edge_accel" "call" (func $call (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 64)
  (data (i32.const 16) "matmul")
  (data (i32.const 1024) "{call 2 1 f32:256x256 f32:256x256 f32:256x256}")
  (func $again (local $i i32)
    (loop $byte
      (i32.store8 (i32.add (i32.const 8192) (local.get $i)) (i32.load8_u (i32.add (i32.const 1024) (local.get $i))))
      (br_if $byte (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 448)))))
  (func (export "_start") (local $round i32)
    (loop $rounds
      (call $again)
      (drop (call $call (i32.const 16) (i32.const 6) (i32.const 8192) (i32.const 448)))
      (br_if $rounds (i32.ne (local.tee $round (i32.add (local.get $round) (i32.const 4))) (i32.const 4000))))))"""
    found = scan_wasm(case_bytes(LabelledCase("case", "wasm", "cpu", text)))
    assert found.work_flops == pytest.approx(1000 * (2 * 256**3 + 32 * 4 * 3 * 256**2), rel=0.01)
    assert found.doubtful
    assert "a loop is not followed to its end; its other rounds count like the first" in [
        one.evidence for one in found.advice
    ]


@pytest.mark.parametrize("rounds", [900, 100_000])
def test_a_loop_that_counts_and_may_fail_before(rounds: int) -> None:
    text = f"""(module
  (import "edge_accel" "call" (func $call (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 64)
  (data (i32.const 16) "matmul")
  (data (i32.const 1024) "{{call 2 1 f32:256x256 f32:256x256 f32:256x256}}")
  (func (export "_start") (local $left i32)
    (local.set $left (i32.const {rounds}))
    (block $done
      (loop $rounds
        (br_if $done (i32.eqz (local.get $left)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if $rounds
          (i32.ge_s (call $call (i32.const 16) (i32.const 6) (i32.const 1024) (i32.const 448)) (i32.const 0)))
        (unreachable)))))"""
    found = scan_wasm(case_bytes(LabelledCase("case", "wasm", "cpu", text)))
    assert found.work_flops == pytest.approx(rounds * (2 * 256**3 + 32 * 4 * 3 * 256**2), rel=0.01)
    assert not any("counts once" in one.evidence for one in found.advice)


def test_rounds_of_which_nothing_can_be_told() -> None:
    rounds = Rounds()
    rounds.begin(0.0)
    assert rounds.total_flops(5.0) == 5.0
    rounds.compare(0, 40)
    assert rounds.total_flops(5.0) == 200.0  # taken for a count by 1
    for pair in ((7, 40), (3, 41), (9, 40)):
        rounds.begin(5.0)
        rounds.compare(*pair)
    assert rounds.total_flops(20.0) == 20.0
    rounds.compare(8, 40)  # away from it
    assert rounds.total_flops(20.0) == 20.0


def _scan(body: str, more: str = "") -> Findings:
    text = f"""(module (import "edge_accel" "call" (func $call (param i32 i32 i32 i32) (result i32)))
      (import "env" "exit" (func $exit (param i32)))
      (memory (export "memory") 16) (data (i32.const 0) "matmul") (data (i32.const 600) "matmul----------")
      (data (i32.const 64) "{{call 2 1 f32:100x100 f32:100x100 f32:100x100}}")
      {more}
      (func (export "_start") (local $i i32) (local $n i32) (local $x i32) (local.set $n (i32.load (i32.const 9000)))
        {body}))"""
    return scan_wasm(case_bytes(LabelledCase("case", "wasm", "cpu", text)))


def named(place: str) -> str:
    """The call with its kernel's name at an address."""
    return f"(drop (call $call {place} (i32.const 6) (i32.const 64) (i32.const 448)))"


COUNT = "(local.set $i (i32.add (local.get $i) (i32.const 1)))"
MAYBE = "(local.set $x (i32.const 0)) (if (local.get $n) (then (local.set $x (i32.const %d))))"
BYTE = "(i32.store8 (i32.add (i32.const 2000) (local.get $i)) (i32.load8_u (local.get $i)))"
FAIL = f"(if (i32.lt_s {CALL[6:-1]} (i32.const 0)) (then unreachable))"


@pytest.mark.parametrize(
    ("body", "times"),
    [
        (CALL, 1),
        (CALL * 3, 3),
        (f"(loop $l {CALL} {COUNT} (br_if $l (i32.lt_u (local.get $i) (i32.const 20))))", 20),
        # each round may fail, and the next one comes all the same
        (f"(loop $l {FAIL} {COUNT} (br_if $l (i32.lt_u (local.get $i) (i32.const 20))))", 20),
        (
            f"(block $b (loop $l (br_if $b (i32.ge_u (local.get $i) (i32.const 7))) {FAIL} {COUNT} (br $l)))",
            7,
        ),
        # nobody knows how often: once
        (f"(loop $l {CALL} {COUNT} (br_if $l (i32.lt_u (local.get $i) (local.get $n))))", 1),
        (
            f"(block $b (loop $l (br_if $b (i32.ge_u (local.get $i) (local.get $n))) {CALL} {COUNT} (br $l)))",
            1,
        ),
        (f"(loop $l {CALL} (br_if $l (i32.load (i32.const 9004))) {CALL})", 2),
        # the dearer way
        (f"(if (local.get $n) (then {CALL}) (else {CALL * 2}))", 2),
        (f"(if (local.get $n) (then {CALL}))", 1),
        (f"(block $b (br_if $b (local.get $n)) {CALL * 2}) {CALL}", 3),
        (f"(block $a (block $b (br_table $a $b (local.get $n))) {CALL}) {CALL}", 2),
        (f"(block $a (block $b (br_table $a $b (i32.const 1))) {CALL}) {CALL}", 2),
        (f"(if (local.get $n) (then return)) {CALL}", 1),
        (f"(if (i32.const 0) (then {CALL}) (else {CALL}))", 1),
        (f"(if (local.get $n) (then {CALL} unreachable)) {CALL}", 1),
        # a way that ends in the host
        (f"{CALL} (call $exit (i32.const 0)) unreachable", 1),
        # numbers that come together, and those that do not
        (
            f"{MAYBE % 0} {named('(local.get $x)')}",
            1,
        ),
        (named("(select (i32.const 0) (i32.const 0) (local.get $n))"), 1),
        (named("(if (result i32) (local.get $n) (then (i32.const 0)) (else (i32.const 0)))"), 1),
        # put together on the way
        (
            f"(loop $l {BYTE} {COUNT} (br_if $l (i32.lt_u (local.get $i) (i32.const 6)))) {named('(i32.const 2000)')}",
            1,
        ),
        (f"(v128.store (i32.const 2000) (v128.load (i32.const 600))) {named('(i32.const 2000)')}", 1),
    ],
)
def test_how_often_a_call_is_made(body: str, times: int) -> None:
    assert _scan(body).work_flops == times * PRODUCT


@pytest.mark.parametrize(
    "body",
    [
        f"{MAYBE % 8} {named('(local.get $x)')}",
        f"(loop $l {COUNT} (br_if $l (i32.load (i32.const 9004)))) {named('(i32.sub (local.get $i) (i32.const 1))')}",
        f"(block $a (block $b (br_table $a $b (i32.const 0))) {CALL}) {CALL}",
        "(drop (call $call (i32.const 0) (i32.const 6) (i32.trunc_f32_s (f32.const 64)) (i32.const 448)))",
        "(drop (call $call (i32.const 0) (i32.const 6) (i32.const 70000) (i32.const 448)))",
        "(drop (call $call (i32.const 0) (i32.const 600) (i32.const 64) (i32.const 448)))",
    ],
)
def test_what_is_not_known(body: str) -> None:
    found = _scan(body)
    assert found.capable
    assert found.work_flops is None


def test_calls_of_functions() -> None:
    """With their arguments, through a table whose slot is known, as often as they are called, and not without end."""
    helper = (
        "(func $go (param i32) (drop (call $call (i32.const 0) (i32.const 6) (local.get 0) (i32.const 448))))"
    )
    assert _scan("(call $go (i32.const 64)) (call $go (i32.const 64))", helper).work_flops == 2 * PRODUCT
    table = f"{helper} (type $t (func (param i32))) (table 4 funcref) (elem (i32.const 2) $go)"
    known = "(call_indirect (type $t) (i32.const 64) (i32.const 2))"
    assert _scan(known, table).work_flops == PRODUCT
    unknown = "(call_indirect (type $t) (i32.const 64) (local.get $n))"
    assert _scan(unknown, table).work_flops is None
    # of another type than what is called for: it traps
    other = table.replace(helper, f"(func $go (param i32 i32) (drop (local.get 1)) {CALL})")
    assert _scan(f"{known} {CALL}", other).work_flops == PRODUCT
    endless = f"(func $go (param i32) (call $go (local.get 0)) {CALL})"
    assert _scan("(call $go (i32.const 64))", endless).work_flops is not None
    traps = f"(func $go (param i32) {CALL} unreachable)"
    assert _scan(f"(if (local.get $n) (then (call $go (i32.const 1)))) {CALL}", traps).work_flops == PRODUCT


GUEST = """
#include "edge_accel.h"
EDGE_ALLOCATOR
static float a[4], b[4], c[4];
static struct edge_work work;
static void product(uint64_t size) {
  edge_begin(&work);
  edge_in(&work, edge_array2(EDGE_F32, a, size, size));
  edge_in(&work, edge_transposed(edge_array2(EDGE_F32, b, size, size), 0, 1));
  edge_out(&work, edge_array2(EDGE_F32, c, size, size));
  if (edge_accel_run(&work, "matmul") < 0) {
    edge_fail("no product");
  }
}
EDGE_HANDLER(input, length) {
  for (int i = 0; i < 5; ++i) {
    product(100);
  }
  return edge_reply(input, length);
}
"""


def test_a_guest_in_c(tmp_path: Path) -> None:
    """Of the SDK, which puts descriptions together in loops and helpers."""
    assert scan_wasm(compiled_c(GUEST, tmp_path)).work_flops == 5 * PRODUCT
