"""The guests that are measured, as text: ``bytes`` functions of a few instructions with a 128 KiB memory.

Input always lies at 64 KiB, which is sound because every invocation has an instance of its own.
"""

from __future__ import annotations

import wasmtime

__all__ = ["BODY_BYTES", "EXPECTED", "INPUT", "add1", "echo", "spin", "spin_body"]

BODY_BYTES = 1024
INPUT = b"a" * BODY_BYTES
EXPECTED = b"b" * BODY_BYTES

_MODULE = """
(module
  (memory (export "memory") 2)
  {data}
  (func (export "edge_alloc") (param $len i32) (result i32)
    (if (i32.gt_u (local.get $len) (i32.const 65536)) (then unreachable))
    (i32.const 65536))
  (func (export "edge_handle") (param $ptr i32) (param $len i32) (result i64)
    (local $at i32) (local $end i32)
    {work}
    (i64.or
      (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32))
      (i64.extend_i32_u (local.get $len)))))
"""

_ADD1 = """
    (local.set $at (local.get $ptr))
    (local.set $end (i32.add (local.get $ptr) (local.get $len)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (i32.store8 (local.get $at) (i32.add (i32.load8_u (local.get $at)) (i32.const 1)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
"""

# A xorshift step each turn: a chain of dependent operations that no compiler shortens.
_SPIN = """
    (local.set $end (i32.load (local.get $ptr)))
    (local.set $at (i32.const 2463534242))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $end)))
        (local.set $at (i32.xor (local.get $at) (i32.shl (local.get $at) (i32.const 13))))
        (local.set $at (i32.xor (local.get $at) (i32.shr_u (local.get $at) (i32.const 17))))
        (local.set $at (i32.xor (local.get $at) (i32.shl (local.get $at) (i32.const 5))))
        (local.set $end (i32.sub (local.get $end) (i32.const 1)))
        (br $next)))
    (i32.store (local.get $ptr) (local.get $at))
"""


def _module(work: str, variant: int) -> bytes:
    # A variant differs in one data byte: another digest, hence another artifact, of the same behaviour.
    data = "" if variant == 0 else f'(data (i32.const 0) "\\{variant & 255:02x}\\{variant >> 8 & 255:02x}")'
    return bytes(wasmtime.wat2wasm(_MODULE.format(work=work, data=data)))


def add1(variant: int = 0) -> bytes:
    """Adds 1 to every byte of the input; ``variant`` makes modules that differ only in their digest."""
    return _module(_ADD1, variant)


def echo() -> bytes:
    """Gives the input back: what an invocation costs without any work in the guest."""
    return _module("", 0)


def spin() -> bytes:
    """Burns CPU for as many turns as the first 4 bytes of the input say, little-endian."""
    return _module(_SPIN, 0)


def spin_body(turns: int) -> bytes:
    return turns.to_bytes(4, "little")
