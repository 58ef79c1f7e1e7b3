"""A guest that makes any sequence of edge_hose calls, so that tests can be written as calls and results.

Its input begins with a program: a count, then records of an operation and three arguments, each a number or the
result of an earlier call plus a number. What follows the program is data: a producer makes the program of the next
function part of its output. It answers with the result of every operation, unless ``reply`` names another range.
"""

from __future__ import annotations

import functools
import struct
from typing import Any, NamedTuple

import wasmtime

from edgeagent.runtime.port import Function, Outcome, Payload

__all__ = [
    "CALLS_MAX",
    "HoseProgram",
    "Ref",
    "Small",
    "hand_over",
    "hose_guest",
    "produce",
    "reader",
    "results",
]

CALLS_MAX = 96
_RECORD_BYTES = 28
_RESULTS_AT = 1024
_HOSE = {
    "recv_info": 1,
    "recv": 3,
    "loan": 1,
    "publish": 2,
    "map": 3,
    "release": 1,
    "open": 2,
    "close": 2,
    "accept": 2,
}
_OPERATIONS = (
    *_HOSE,
    "fill",  # memory.fill(ptr, value, count)
    "copy",  # memory.copy(to, from, count)
    "load",  # the 32-bit word at ptr
    "store",  # the 32-bit word at ptr becomes value
    "grow",  # memory.grow(pages)
    "take",  # edge_alloc_aligned(count, align)
    "input",  # where the input lies
    "any",  # bitwise or of the 64-bit words from ptr on, count a multiple of 8, folded to 0 or 1
    "reply",  # the output is (ptr, count)
    "to",  # whom the next send goes to (ptr, count)
    "send",  # edge_hose.send of (ptr, count, flags)
    "again",  # back to the record a, until the result of the call before is negative or all were done b times
)


class Ref(NamedTuple):
    """The result of an earlier call, plus ``offset``."""

    call: int
    offset: int = 0


@functools.cache
def hose_guest(*, aligned: bool = True) -> bytes:
    """The binary; without ``aligned`` it has no ``edge_alloc_aligned``, so that most things are copied."""
    imports = " ".join(
        f'(import "edge_hose" "{name}" (func ${name} (param {" i32" * count}) (result i32)))'
        for name, count in _HOSE.items()
    )
    bodies = {name: f"(call ${name} {_args(count)})" for name, count in _HOSE.items()}
    imports += f' (import "edge_hose" "send" (func $send (param {" i32" * 5}) (result i32)))'
    bodies |= {
        "to": "(global.set $to (call $arg (i32.const 0)))"
        " (global.set $to_len (call $arg (i32.const 1))) (i32.const 0)",
        "send": f"(call $send (global.get $to) (global.get $to_len) {_args(3)})",
        "again": _AGAIN,
        "fill": f"(memory.fill {_args(3)}) (i32.const 0)",
        "copy": f"(memory.copy {_args(3)}) (i32.const 0)",
        "load": f"(i32.load {_args(1)})",
        "store": f"(i32.store {_args(2)}) (i32.const 0)",
        "grow": f"(memory.grow {_args(1)})",
        "take": f"(call $take {_args(2)})",
        "input": "(global.get $input)",
        "any": f"(call $any {_args(2)})",
        "reply": "(global.set $reply (call $arg (i32.const 0)))"
        " (global.set $reply_len (call $arg (i32.const 1))) (i32.const 0)",
    }
    functions = " ".join(f"(func $do_{name} (result i32) {bodies[name]})" for name in _OPERATIONS)
    table = " ".join(f"$do_{name}" for name in _OPERATIONS)
    export = '(export "edge_alloc_aligned")' if aligned else ""
    return bytes(wasmtime.wat2wasm(_MODULE % (imports, table, export, functions)))


def _args(count: int) -> str:
    return " ".join(f"(call $arg (i32.const {i}))" for i in range(count))


_AGAIN = """(global.set $rounds (i32.add (global.get $rounds) (i32.const 1)))
  (if (i32.and (i32.ge_s (i32.load offset=1020 (i32.shl (global.get $i) (i32.const 2))) (i32.const 0))
               (i32.lt_u (global.get $rounds) (call $arg (i32.const 1))))
    (then (global.set $jump (call $arg (i32.const 0)))))
  (global.get $rounds)"""

_MODULE = """(module
  %s
  (type $do (func (result i32)))
  (memory (export "memory") 1)
  (table funcref (elem %s))
  (global $next (mut i32) (i32.const 4096))
  (global $at (mut i32) (i32.const 0))
  (global $input (mut i32) (i32.const 0))
  (global $to (mut i32) (i32.const 0))
  (global $to_len (mut i32) (i32.const 0))
  (global $i (mut i32) (i32.const 0))
  (global $rounds (mut i32) (i32.const 0))
  (global $jump (mut i32) (i32.const -1))
  (global $reply (mut i32) (i32.const -1))
  (global $reply_len (mut i32) (i32.const 0))
  (func $take %s (param $len i32) (param $align i32) (result i32)
    (local $at i32) (local $end i32) (local $have i32)
    (local.set $at (i32.and (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
                            (i32.sub (i32.const 0) (local.get $align))))
    (local.set $end (i32.add (local.get $at) (local.get $len)))
    (local.set $have (i32.shl (memory.size) (i32.const 16)))
    (if (i32.gt_u (local.get $end) (local.get $have))
      (then (if (i32.eq (memory.grow (i32.shr_u (i32.add (i32.sub (local.get $end) (local.get $have)) (i32.const 65535))
                                                (i32.const 16)))
                        (i32.const -1))
              (then (return (i32.const -16))))))
    (global.set $next (local.get $end))
    (local.get $at))
  (func (export "edge_alloc") (param $len i32) (result i32)
    (call $take (local.get $len) (i32.const 16)))
  (func $any (param $at i32) (param $len i32) (result i32)
    (local $end i32) (local $or i64)
    (local.set $end (i32.add (local.get $at) (local.get $len)))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
      (local.set $or (i64.or (local.get $or) (i64.load (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br $next)))
    (i32.eqz (i64.eqz (local.get $or))))
  ;; argument i of the current record: a number, plus the result of call (reference - 1) where there is one
  (func $arg (param $i i32) (result i32)
    (local $slot i32) (local $ref i32)
    (local.set $slot (i32.add (global.get $at) (i32.add (i32.const 4) (i32.shl (local.get $i) (i32.const 3)))))
    (local.set $ref (i32.load offset=4 (local.get $slot)))
    (i32.add (i32.load (local.get $slot))
      (if (result i32) (local.get $ref)
        (then (i32.load offset=1020 (i32.shl (local.get $ref) (i32.const 2))))
        (else (i32.const 0)))))
  %s
  (func (export "edge_handle") (param $ptr i32) (param $len i32) (result i64)
    (local $n i32)
    (global.set $input (local.get $ptr))
    (if (i32.ge_u (local.get $len) (i32.const 4)) (then (local.set $n (i32.load (local.get $ptr)))))
    ;; the program is copied away: an operation may change the input it came with
    (memory.copy (i32.const 1408) (i32.add (local.get $ptr) (i32.const 4)) (i32.mul (local.get $n) (i32.const 28)))
    (global.set $at (i32.const 1408))
    (block $done (loop $next
      (br_if $done (i32.ge_u (global.get $i) (local.get $n)))
      (i32.store offset=1024 (i32.shl (global.get $i) (i32.const 2))
                 (call_indirect (type $do) (i32.load (global.get $at))))
      (global.set $i (i32.add (global.get $i) (i32.const 1)))
      (if (i32.ge_s (global.get $jump) (i32.const 0))
        (then (global.set $i (global.get $jump)) (global.set $jump (i32.const -1))))
      (global.set $at (i32.add (i32.const 1408) (i32.mul (global.get $i) (i32.const 28))))
      (br $next)))
    (if (i32.eq (global.get $reply) (i32.const -1))
      (then (global.set $reply (i32.const 1024)) (global.set $reply_len (i32.shl (local.get $n) (i32.const 2)))))
    (i64.or (i64.shl (i64.extend_i32_u (global.get $reply)) (i64.const 32))
            (i64.extend_i32_u (global.get $reply_len)))))"""


class HoseProgram:
    """Calls under construction; each method call returns a reference to its result."""

    def __init__(self) -> None:
        self._records: list[bytes] = []

    def call(self, name: str, *args: int | Ref) -> Ref:
        assert len(self._records) < CALLS_MAX
        words = [_OPERATIONS.index(name)]
        for arg in (*args, *[0] * (3 - len(args))):
            words += (
                [arg.offset & 0xFFFFFFFF, arg.call + 1] if isinstance(arg, Ref) else [arg & 0xFFFFFFFF, 0]
            )
        self._records.append(struct.pack("<7I", *words))
        return Ref(len(self._records) - 1)

    def encoded(self) -> bytes:
        return struct.pack("<I", len(self._records)) + b"".join(self._records)

    def size(self) -> int:
        return len(self.encoded())


def results(outcome: Outcome) -> list[int]:
    """Signed results in the order of the calls; the guest must have come to its end."""
    assert outcome.error is None, outcome.error
    raw = bytes(outcome.output)
    return list(struct.unpack(f"<{len(raw) // 4}i", raw))


class Small:
    """An output that was too small to be kept."""

    kind = "host"
    hops = 0

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def share(self) -> bool:
        return False

    def read(self) -> bytes:
        return self.data

    def export(self) -> tuple[int, int, int]:
        raise NotImplementedError

    def close(self) -> None:
        pass


def produce(count: int, consumer: HoseProgram, *, lent: bool) -> HoseProgram:
    """Output: ``count`` bytes of 0x5a behind the consumer's program, which comes with the input."""
    size = consumer.size()
    p = HoseProgram()
    at = p.call("loan", size + count) if lent else p.call("take", size + count, 16)
    source = p.call("input")
    p.call("fill", Ref(at.call, size), 0x5A, count)
    # This program is 28 bytes longer for each of the two calls that follow.
    p.call("copy", at, Ref(source.call, p.size() + 2 * 28), size)
    p.call("reply", at, size + count)
    return p


def hand_over(
    first: Function, second: Function, count: int, consumer: HoseProgram, *, lent: bool, **more: Any
) -> tuple[Outcome, Payload]:
    program = produce(count, consumer, lent=lent)
    made = first.call(program.encoded() + consumer.encoded(), keep=True)
    assert made.error is None, made.error
    given = made.payload or Small(bytes(made.output))
    return second.call(made.payload or made.output, **more), given


def reader(count: int) -> tuple[HoseProgram, list[Ref]]:
    """Looks at the first, a middle and the last byte behind its program, and at what lies behind the input."""
    p = HoseProgram()
    at = p.call("input")
    size = 4 + 28 * 6
    looks = [p.call("load", Ref(at.call, size + max(0, offset))) for offset in (0, count // 2 - 4, count - 4)]
    p.call("recv_info", 0)
    p.call("recv_info", 1)
    return p, looks
