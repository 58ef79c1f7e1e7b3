"""A guest that makes any sequence of edge_state calls; its memory is laid out by the test.

Its input, which always lies at ``INPUT``, begins with a program: a count, then records of an operation and six
arguments. Text for the calls follows the program. Results are 32-bit words from ``RESULTS`` on; what lies behind them,
from ``ROOM`` on, is free. It answers with the results, and as many bytes behind ``ROOM`` as the test asks for.
"""

from __future__ import annotations

import functools
import struct

import wasmtime

from edgeagent.runtime.port import Outcome

__all__ = ["INPUT", "ROOM", "StateProgram", "results", "room", "state_guest"]

INPUT = 65536
RESULTS = 0xFF000
ROOM = 0x100000
_CALLS_MAX = 64
_RECORD_BYTES = 28
_TEXT = INPUT + 4 + _CALLS_MAX * _RECORD_BYTES
_IMPORTS = {
    "get": 4,
    "put": 5,
    "delete": 2,
    "list": 4,
    "list_after": 6,
    "cas": 5,
    "group": 4,
    "version": 4,
}
_OPERATIONS = (*_IMPORTS, "fill")
_MODULE = """(module
  %s
  (type $do (func (result i32)))
  (memory (export "memory") %d)
  (table funcref (elem %s))
  (global $at (mut i32) (i32.const 0))
  (global $i (mut i32) (i32.const 0))
  (func (export "edge_alloc") (param i32) (result i32) (i32.const 65536))
  (func $arg (param $i i32) (result i32)
    (i32.load offset=4 (i32.add (global.get $at) (i32.shl (local.get $i) (i32.const 2)))))
  %s
  (func (export "edge_handle") (param $ptr i32) (param $len i32) (result i64)
    (local $n i32) (local $more i32)
    (local.set $n (i32.and (i32.load (local.get $ptr)) (i32.const 255)))
    (local.set $more (i32.shr_u (i32.load (local.get $ptr)) (i32.const 8)))
    (global.set $at (i32.add (local.get $ptr) (i32.const 4)))
    (block $done (loop $next
      (br_if $done (i32.ge_u (global.get $i) (local.get $n)))
      (i32.store offset=1044480 (i32.shl (global.get $i) (i32.const 2))
                 (call_indirect (type $do) (i32.load (global.get $at))))
      (global.set $i (i32.add (global.get $i) (i32.const 1)))
      (global.set $at (i32.add (global.get $at) (i32.const 28)))
      (br $next)))
    (i64.or (i64.shl (i64.const 1044480) (i64.const 32))
            (i64.extend_i32_u (i32.add (i32.const 4096) (local.get $more))))))"""


@functools.cache
def state_guest(*, pages: int = 256) -> bytes:
    """The binary; ``pages`` of 64 KiB."""
    imports = " ".join(
        f'(import "edge_state" "{name}" (func ${name} (param {" i32" * count}) (result i32)))'
        for name, count in _IMPORTS.items()
    )
    bodies = {name: f"(call ${name} {_args(count)})" for name, count in _IMPORTS.items()}
    bodies["fill"] = f"(memory.fill {_args(3)}) (i32.const 0)"
    functions = " ".join(f"(func $do_{name} (result i32) {bodies[name]})" for name in _OPERATIONS)
    table = " ".join(f"$do_{name}" for name in _OPERATIONS)
    return bytes(wasmtime.wat2wasm(_MODULE % (imports, pages, table, functions)))


def _args(count: int) -> str:
    return " ".join(f"(call $arg (i32.const {i}))" for i in range(count))


class StateProgram:
    """Calls under construction; ``call`` gives the position of its result, ``text`` an address and a length."""

    def __init__(self, show: int = 0) -> None:
        self._show = show
        self._records: list[bytes] = []
        self._text = bytearray()

    def text(self, data: bytes) -> tuple[int, int]:
        at = _TEXT + len(self._text)
        self._text += data
        return at, len(data)

    def call(self, name: str, *args: int) -> int:
        assert len(self._records) < _CALLS_MAX
        words = (_OPERATIONS.index(name), *args, *[0] * (6 - len(args)))
        self._records.append(struct.pack("<7I", *(word & 0xFFFFFFFF for word in words)))
        return len(self._records) - 1

    def encoded(self) -> bytes:
        head = struct.pack("<I", len(self._records) | self._show << 8) + b"".join(self._records)
        return head.ljust(_TEXT - INPUT, b"\0") + bytes(self._text)


def results(outcome: Outcome, count: int) -> list[int]:
    """Signed results in the order of the calls; the guest must have come to its end."""
    assert outcome.error is None, outcome.error
    return list(struct.unpack_from(f"<{count}i", bytes(outcome.output)))


def room(outcome: Outcome) -> bytes:
    """What lay from ``ROOM`` on."""
    assert outcome.error is None, outcome.error
    return bytes(outcome.output[4096:])
