"""The guests of ``bench hose``, as text: one produces bytes, one reads every byte of its input, one does both.

All have the bump allocator that sdk/edge.h has; ``aligned`` ones export ``edge_alloc_aligned`` too, so that whole pages
can change hands. Input of a producer: the number of bytes (u32, little-endian), then 1 to fill a lent buffer.
"""

from __future__ import annotations

import functools
import struct

import wasmtime

__all__ = [
    "both",
    "consumer",
    "expected_sum",
    "holder",
    "json_consumer",
    "json_producer",
    "producer",
    "request",
]

_PATTERN = 0x0101010101010101

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
      (v128.store (local.get $at) (i64x2.splat (i64.const {pattern})))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br $next))))
  (func $sum (param $at i32) (param $len i32) (result i64)
    (local $end i32) (local $sum v128)
    (local.set $end (i32.add (local.get $at) (local.get $len)))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
      (local.set $sum (i64x2.add (local.get $sum) (v128.load (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br $next)))
    (i64.add (i64x2.extract_lane 0 (local.get $sum)) (i64x2.extract_lane 1 (local.get $sum))))
  {json}
  (func $buffer (param $ask i32) (result i32)
    {buffer})
  (func (export "edge_handle") (param $ptr i32) (param $len i32) (result i64)
    (local $at i32) (local $n i32)
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
_REPLY_SUM = """
    (i64.store (i32.const 64) (call $sum (local.get $at) (local.get $n)))
    (i64.or (i64.shl (i64.const 64) (i64.const 32)) (i64.const 8))"""
_READ = " (i64.store (i32.const 64) (call $sum (local.get $at) (local.get $n)))"
_CONSUME = "(local.set $at (local.get $ptr)) (local.set $n (local.get $len))"


# {"data":"BASE64"} (RFC 8259, RFC 4648 section 4), both ways, as a compiler would make of plain C: byte by byte through
# tables, at 256 for encoding and at 512 for decoding (255: no character of it).
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_DECODE = "".join(f"\\{_ALPHABET.find(chr(i)) & 255 if chr(i) in _ALPHABET else 255:02x}" for i in range(256))
_JSON = f"""(data (i32.const 128) "{{\\22data\\22:\\22")
  (data (i32.const 256) "{_ALPHABET}")
  (data (i32.const 512) "{_DECODE}")
  (func $letter (param $i i32) (result i32) (i32.load8_u offset=256 (i32.and (local.get $i) (i32.const 63))))
  (func $four (param $w i32) (result i32)
    (i32.or
      (i32.or (call $letter (i32.shr_u (local.get $w) (i32.const 18)))
              (i32.shl (call $letter (i32.shr_u (local.get $w) (i32.const 12))) (i32.const 8)))
      (i32.or (i32.shl (call $letter (i32.shr_u (local.get $w) (i32.const 6))) (i32.const 16))
              (i32.shl (call $letter (local.get $w)) (i32.const 24)))))
  ;; writes the document of n bytes at at, with room for 11 + 4 * ceil(n / 3) bytes at out; returns its end
  (func $to_json (param $at i32) (param $n i32) (param $out i32) (result i32)
    (local $end i32) (local $w i32)
    (memory.copy (local.get $out) (i32.const 128) (i32.const 9))
    (local.set $out (i32.add (local.get $out) (i32.const 9)))
    (local.set $end (i32.add (local.get $at) (local.get $n)))
    (block $done (loop $next
      (br_if $done (i32.gt_u (i32.add (local.get $at) (i32.const 3)) (local.get $end)))
      (i32.store (local.get $out) (call $four (i32.or (i32.or
        (i32.shl (i32.load8_u (local.get $at)) (i32.const 16))
        (i32.shl (i32.load8_u offset=1 (local.get $at)) (i32.const 8))) (i32.load8_u offset=2 (local.get $at)))))
      (local.set $at (i32.add (local.get $at) (i32.const 3)))
      (local.set $out (i32.add (local.get $out) (i32.const 4)))
      (br $next)))
    (if (i32.lt_u (local.get $at) (local.get $end))
      (then
        (local.set $w (i32.shl (i32.load8_u (local.get $at)) (i32.const 16)))
        (if (i32.eq (i32.add (local.get $at) (i32.const 2)) (local.get $end))
          (then (local.set $w (i32.or (local.get $w) (i32.shl (i32.load8_u offset=1 (local.get $at)) (i32.const 8))))))
        (i32.store (local.get $out) (call $four (local.get $w)))
        (i32.store8 offset=3 (local.get $out) (i32.const 61))
        (if (i32.eq (i32.add (local.get $at) (i32.const 1)) (local.get $end))
          (then (i32.store8 offset=2 (local.get $out) (i32.const 61))))
        (local.set $out (i32.add (local.get $out) (i32.const 4)))))
    (i32.store16 (local.get $out) (i32.const 0x7d22))
    (i32.add (local.get $out) (i32.const 2)))
  ;; where the first quote from at on is; an escape or the end is a trap
  (func $quote (param $at i32) (param $end i32) (result i32)
    (local $c i32)
    (loop $next
      (if (i32.ge_u (local.get $at) (local.get $end)) (then unreachable))
      (local.set $c (i32.load8_u (local.get $at)))
      (if (i32.eq (local.get $c) (i32.const 92)) (then unreachable))
      (if (i32.eq (local.get $c) (i32.const 34)) (then (return (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next))
    unreachable)
  (func $digit (param $at i32) (result i32)
    (local $d i32)
    (local.set $d (i32.load8_u offset=512 (i32.load8_u (local.get $at))))
    (if (i32.eq (local.get $d) (i32.const 255)) (then unreachable))
    (local.get $d))
  ;; decodes the second string of the document into out, which has room for its length; returns the end
  (func $from_json (param $at i32) (param $len i32) (param $out i32) (result i32)
    (local $end i32) (local $w i32) (local $pad i32)
    (local.set $end (i32.add (local.get $at) (local.get $len)))
    (local.set $at (i32.add (call $quote (local.get $at) (local.get $end)) (i32.const 1)))
    (local.set $at (i32.add (call $quote (local.get $at) (local.get $end)) (i32.const 1)))
    (local.set $at (i32.add (call $quote (local.get $at) (local.get $end)) (i32.const 1)))
    (local.set $end (call $quote (local.get $at) (local.get $end)))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
      (if (i32.gt_u (i32.add (local.get $at) (i32.const 4)) (local.get $end)) (then unreachable))
      (if (i32.eq (i32.load8_u offset=3 (local.get $at)) (i32.const 61))
        (then
          (local.set $pad (i32.const 1))
          (i32.store8 offset=3 (local.get $at) (i32.const 65))
          (if (i32.eq (i32.load8_u offset=2 (local.get $at)) (i32.const 61))
            (then (local.set $pad (i32.const 2)) (i32.store8 offset=2 (local.get $at) (i32.const 65))))))
      (local.set $w (i32.or
        (i32.or (i32.shl (call $digit (local.get $at)) (i32.const 18))
                (i32.shl (call $digit (i32.add (local.get $at) (i32.const 1))) (i32.const 12)))
        (i32.or (i32.shl (call $digit (i32.add (local.get $at) (i32.const 2))) (i32.const 6))
                (call $digit (i32.add (local.get $at) (i32.const 3))))))
      (i32.store8 (local.get $out) (i32.shr_u (local.get $w) (i32.const 16)))
      (i32.store8 offset=1 (local.get $out) (i32.shr_u (local.get $w) (i32.const 8)))
      (i32.store8 offset=2 (local.get $out) (local.get $w))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (local.set $out (i32.add (local.get $out) (i32.const 3)))
      (br $next)))
    (i32.sub (local.get $out) (local.get $pad)))"""
_TO_JSON = """
    (local.set $ptr (local.get $at))
    (local.set $at (call $take (i32.add (i32.const 16) (i32.mul (i32.div_u (i32.add (local.get $n) (i32.const 2))
      (i32.const 3)) (i32.const 4))) (i32.const 16)))
    (local.set $n (i32.sub (call $to_json (local.get $ptr) (local.get $n) (local.get $at)) (local.get $at)))"""
_FROM_JSON = """(local.set $at (call $take (local.get $len) (i32.const 16)))
    (local.set $n (i32.sub (call $from_json (local.get $ptr) (local.get $len) (local.get $at)) (local.get $at)))"""


@functools.cache
def _build(work: str, *, lends: bool, aligned: bool, json: bool = False) -> bytes:
    text = _MODULE.format(
        json=_JSON if json else "",
        imports=_LOAN if lends else "",
        aligned=_ALIGNED if aligned else "",
        buffer=_LEND if lends else _TAKE,
        pattern=_PATTERN,
        work=work,
    )
    return bytes(wasmtime.wat2wasm(text))


def producer(*, aligned: bool = True) -> bytes:
    """Fills as many bytes as it is asked for and returns them."""
    return _build(_PRODUCE + _REPLY_ALL, lends=aligned, aligned=aligned)


def consumer(*, aligned: bool = True) -> bytes:
    """Adds up its input as 64-bit words and returns the sum."""
    return _build(_CONSUME + _REPLY_SUM, lends=False, aligned=aligned)


def json_producer() -> bytes:
    """Fills as many bytes as it is asked for and returns them as JSON with base64."""
    return _build(_PRODUCE + _TO_JSON + _REPLY_ALL, lends=False, aligned=False, json=True)


def json_consumer(*, adds_up: bool = True) -> bytes:
    """Decodes such a document and adds its bytes up, or returns them."""
    return _build(_FROM_JSON + (_REPLY_SUM if adds_up else _REPLY_ALL), lends=False, aligned=False, json=True)


def holder() -> bytes:
    """Reads its input like a consumer and returns it: while its output is kept, so is what it has mapped."""
    return _build(_CONSUME + _READ + _REPLY_ALL, lends=False, aligned=True)


def both() -> bytes:
    """Produces and reads in one instance: the floor, nothing is handed over."""
    return _build(_PRODUCE + _REPLY_SUM, lends=True, aligned=True)


def request(count: int, *, lent: bool) -> bytes:
    return struct.pack("<II", count, int(lent))


def expected_sum(count: int) -> bytes:
    """What a consumer says of ``count`` bytes (a multiple of 16)."""
    return struct.pack("<Q", (count // 8) * _PATTERN % (1 << 64))
