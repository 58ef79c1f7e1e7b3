"""A guest that makes one call of edge_accel; its memory is laid out by the test.

Its input lies at ``INPUT``: which function, four arguments, how many bytes to answer with, then whatever the test wants
there. The result of the call takes the place of the first word, and it answers with its memory from ``INPUT`` on.
"""

from __future__ import annotations

import functools
import struct

import wasmtime

from edgeagent.runtime.port import Outcome

__all__ = ["DATA", "INPUT", "PAGES", "accel_guest", "program", "result"]

INPUT = 65536
DATA = INPUT + 24
PAGES = 8
_FUNCTIONS = ("call", "query")
_MODULE = """(module
  (import "edge_accel" "call" (func $call (param i32 i32 i32 i32) (result i32)))
  (import "edge_accel" "query" (func $query (param i32 i32) (result i32)))
  %s
  (memory (export "memory") %d)
  (func (export "edge_alloc") (param i32) (result i32) (i32.const 65536))
  (func (export "edge_handle") (param $p i32) (param $len i32) (result i64)
    (i32.store (local.get $p) (if (result i32) (i32.load (local.get $p))
      (then (call $query (i32.load offset=4 (local.get $p)) (i32.load offset=8 (local.get $p))))
      (else (call $call (i32.load offset=4 (local.get $p)) (i32.load offset=8 (local.get $p))
                        (i32.load offset=12 (local.get $p)) (i32.load offset=16 (local.get $p))))))
    (i64.or (i64.shl (i64.extend_i32_u (local.get $p)) (i64.const 32))
            (i64.load32_u offset=20 (local.get $p)))))"""
_EARLY = """(global $early (mut i32) (i32.const 0))
  (func $begin (global.set $early (call $call (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)))
    (if (i32.ne (global.get $early) (i32.const -1)) (then unreachable)))
  (start $begin)"""


@functools.cache
def accel_guest(*, early: bool = False, pages: int = PAGES) -> bytes:
    """The binary. ``early``: it calls from its start function too, and traps unless it gets -1 there."""
    return bytes(wasmtime.wat2wasm(_MODULE % (_EARLY if early else "", pages)))


def program(function: str, *args: int, data: bytes = b"", show: int = 0) -> bytes:
    """An input; ``data`` lies at ``DATA``, ``show`` more bytes from there on come back."""
    words = [*args, *[0] * (4 - len(args))]
    head = struct.pack("<6I", _FUNCTIONS.index(function), *(word & 0xFFFFFFFF for word in words), 24 + show)
    return head + data


def result(outcome: Outcome) -> tuple[int, bytes]:
    """What the call returned, and what lies from ``DATA`` on; the guest must have come to its end."""
    assert outcome.error is None, outcome.error
    output = bytes(outcome.output)
    return int(struct.unpack_from("<i", output)[0]), output[24:]
