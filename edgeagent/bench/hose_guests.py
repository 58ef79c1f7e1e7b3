"""The guests of ``bench hose``, as text: one produces bytes, one reads every byte of its input, one does both.

All have the bump allocator that sdk/edge.h has; ``aligned`` ones export ``edge_alloc_aligned`` too, so that whole pages
can change hands. Input of a producer: the number of bytes (u32, little-endian), then 1 to fill a lent buffer, then how
often the guest that does both shall read them.
"""

from __future__ import annotations

import functools
import struct

import wasmtime

__all__ = ["both", "consumer", "expected_sum", "holder", "producer", "request"]

_PATTERN = 0x0101010101010101
_LANES = 8
"""Vectors of 16 bytes a turn of the loops, each with its own sum, as an optimizing compiler unrolls them: reading is
then as fast as the memory is, not as the loop."""

_MODULE = """
(module
  {imports}
  (memory (export "memory") 1)
  (global $next (mut i32) (i32.const 1024))
  (func $take (param $len i32) (param $align i32) (result i32)
    (local $at i32) (local $end i32) (local $have i32)
    (local.set $at (i32.and (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
                            (i32.sub (i32.const 0) (local.get $align))))
    (local.set $end (i32.add (local.get $at) (local.get $len)))
    (local.set $have (i32.shl (memory.size) (i32.const 16)))
    (if (i32.gt_u (local.get $end) (local.get $have))
      (then (if (i32.eq (memory.grow (i32.shr_u (i32.add (i32.sub (local.get $end) (local.get $have)) (i32.const 65535))
                                                (i32.const 16)))
                        (i32.const -1))
              (then unreachable))))
    (global.set $next (local.get $end))
    (local.get $at))
  (func (export "edge_alloc") (param $len i32) (result i32)
    (call $take (local.get $len) (i32.const 16)))
  {aligned}
  (func $fill (param $at i32) (param $len i32)
    (local $end i32)
    (local.set $end (i32.add (local.get $at) (local.get $len)))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
      {stores}
      (local.set $at (i32.add (local.get $at) (i32.const {step})))
      (br $next))))
  (func $sum (param $at i32) (param $len i32) (result i64)
    (local $end i32) {sums}
    (local.set $end (i32.add (local.get $at) (local.get $len)))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
      {loads}
      (local.set $at (i32.add (local.get $at) (i32.const {step})))
      (br $next)))
    (local.set $s0 {total})
    (i64.add (i64x2.extract_lane 0 (local.get $s0)) (i64x2.extract_lane 1 (local.get $s0))))
  (func $buffer (param $ask i32) (result i32)
    {buffer})
  (func (export "edge_handle") (param $ptr i32) (param $len i32) (result i64)
    (local $at i32) (local $n i32) (local $left i32)
    {work}))
"""

_ALIGNED = """(func (export "edge_alloc_aligned") (param $len i32) (param $align i32) (result i32)
    (call $take (local.get $len) (local.get $align)))"""
_LOAN = '(import "edge_hose" "loan" (func $loan (param i32) (result i32)))'
_TAKE = "(call $take (i32.load (local.get $ask)) (i32.const 16))"
_LEND = f"""(if (result i32) (i32.load (i32.add (local.get $ask) (i32.const 4)))
      (then (call $loan (i32.load (local.get $ask)))) (else {_TAKE}))"""
_PRODUCE = """(local.set $n (i32.load (local.get $ptr)))
    (local.set $at (call $buffer (local.get $ptr)))
    (call $fill (local.get $at) (local.get $n))"""
_REPLY_ALL = """
    (i64.or (i64.shl (i64.extend_i32_u (local.get $at)) (i64.const 32)) (i64.extend_i32_u (local.get $n)))"""
_READ = """
    (i64.store (i32.const 64) (call $sum (local.get $at) (local.get $n)))"""
_REPLY_SUM = """
    (i64.or (i64.shl (i64.const 64) (i64.const 32)) (i64.const 8))"""
_READ_TIMES = f"""
    (local.set $left (i32.load offset=8 (local.get $ptr)))
    (loop $again {_READ}
      (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"""
_CONSUME = "(local.set $at (local.get $ptr)) (local.set $n (local.get $len))"


def _vectors() -> dict[str, object]:
    """The loops' bodies, written out."""
    at = "(local.get $at)"
    return {
        "step": 16 * _LANES,
        "stores": " ".join(
            f"(v128.store offset={16 * n} {at} (i64x2.splat (i64.const {_PATTERN})))" for n in range(_LANES)
        ),
        "sums": " ".join(f"(local $s{n} v128)" for n in range(_LANES)),
        "loads": " ".join(
            f"(local.set $s{n} (i64x2.add (local.get $s{n}) (v128.load offset={16 * n} {at})))"
            for n in range(_LANES)
        ),
        "total": functools.reduce(
            lambda sum_, n: f"(i64x2.add {sum_} (local.get $s{n}))", range(1, _LANES), "(local.get $s0)"
        ),
    }


@functools.cache
def _build(work: str, *, lends: bool, aligned: bool) -> bytes:
    text = _MODULE.format(
        imports=_LOAN if lends else "",
        aligned=_ALIGNED if aligned else "",
        buffer=_LEND if lends else _TAKE,
        work=work,
        **_vectors(),
    )
    return bytes(wasmtime.wat2wasm(text))


def producer(*, aligned: bool = True) -> bytes:
    """Fills as many bytes as it is asked for and returns them."""
    return _build(_PRODUCE + _REPLY_ALL, lends=aligned, aligned=aligned)


def consumer(*, aligned: bool = True) -> bytes:
    """Adds up its input as 64-bit words and returns the sum."""
    return _build(_CONSUME + _READ + _REPLY_SUM, lends=False, aligned=aligned)


def holder() -> bytes:
    """Reads its input like a consumer and returns it: while its output is kept, so is what it has mapped."""
    return _build(_CONSUME + _READ + _REPLY_ALL, lends=False, aligned=True)


def both() -> bytes:
    """Produces and reads, as often as it is asked to, in one instance: the floor, nothing is handed over."""
    return _build(_PRODUCE + _READ_TIMES + _REPLY_SUM, lends=True, aligned=True)


def request(count: int, *, lent: bool, reads: int = 1) -> bytes:
    return struct.pack("<III", count, int(lent), reads)


def expected_sum(count: int) -> bytes:
    """What a consumer says of ``count`` bytes (a multiple of 128)."""
    return struct.pack("<Q", (count // 8) * _PATTERN % (1 << 64))
