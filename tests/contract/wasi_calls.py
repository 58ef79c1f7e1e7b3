"""A guest that makes any sequence of WASI calls, so that tests can be written as calls and error numbers.

The guest reads a program from standard input: an image of the first bytes of its memory, then records of a function
index and nine arguments. It answers with the error number of every call and the first ``WINDOW_BYTES`` of its memory.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence

import msgspec
import wasmtime

from edgeagent.runtime.port import Function, Outcome
from edgeagent.runtime.pure_wasi import PROCESS_FUNCTIONS
from edgeagent.runtime.pure_wasi_files import FILE_FUNCTIONS

__all__ = ["NAMES", "PARAMETERS", "Program", "WasiCall", "guest", "parse"]

PARAMETERS = {name: letters for name, (letters, _) in {**PROCESS_FUNCTIONS, **FILE_FUNCTIONS}.items()}
NAMES = sorted(PARAMETERS)
WINDOW_BYTES = 16384
_PROGRAM_AT, _RESULTS_AT, _ARGS_MAX, _RECORD_BYTES = 0x10000, 0x30000, 9, 80

WasiCall = tuple[str, tuple[int, ...]]


@functools.cache
def guest() -> bytes:
    """The binary; its functions are in a table in the order of ``NAMES``."""
    return bytes(wasmtime.wat2wasm(_text()))


def _text() -> str:
    imports, wrappers = [], []
    for name in NAMES:
        letters = PARAMETERS[name]
        types = " ".join("i64" if letter == "I" else "i32" for letter in letters)
        result = "" if name == "proc_exit" else "(result i32)"
        imports.append(f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {types}) {result}))')
        loads = " ".join(
            f"({'i64' if letter == 'I' else 'i32'}.load offset={8 * (i + 1)} (global.get $at))"
            for i, letter in enumerate(letters)
        )
        zero = " (i32.const 0)" if name == "proc_exit" else ""
        wrappers.append(f"(func $do_{name} (result i32) (call ${name} {loads}){zero})")
    table = " ".join(f"$do_{name}" for name in NAMES)
    return f"""(module {" ".join(imports)}
      (type $do (func (result i32)))
      (memory (export "memory") 4)
      (table funcref (elem {table}))
      (global $at (mut i32) (i32.const 0))
      {" ".join(wrappers)}
      (func $io (param $n i32) (param $from i32)
        (i32.store (i32.const 0x3fff0) (local.get $from)) (i32.store (i32.const 0x3fff4) (local.get $n)))
      (func (export "_start") (local $end i32) (local $out i32)
        (call $io (i32.const 0x20000) (i32.const {_PROGRAM_AT}))
        (drop (call $fd_read (i32.const 0) (i32.const 0x3fff0) (i32.const 1) (i32.const 0x3fff8)))
        (local.set $end (i32.add (i32.const {_PROGRAM_AT}) (i32.load (i32.const 0x3fff8))))
        (memory.copy (i32.const 0) (i32.const {_PROGRAM_AT + 8}) (i32.load (i32.const {_PROGRAM_AT})))
        (global.set $at (i32.add (i32.const {_PROGRAM_AT + 8}) (i32.load (i32.const {_PROGRAM_AT}))))
        (local.set $out (i32.const {_RESULTS_AT}))
        (block $done (loop $next
          (br_if $done (i32.ge_u (global.get $at) (local.get $end)))
          (i32.store (local.get $out) (call_indirect (type $do) (i32.load (global.get $at))))
          (local.set $out (i32.add (local.get $out) (i32.const 4)))
          (global.set $at (i32.add (global.get $at) (i32.const {_RECORD_BYTES})))
          (br $next)))
        (call $io (i32.sub (local.get $out) (i32.const {_RESULTS_AT})) (i32.const {_RESULTS_AT}))
        (drop (call $fd_write (i32.const 1) (i32.const 0x3fff0) (i32.const 1) (i32.const 0x3fff8)))
        (call $io (i32.const {WINDOW_BYTES}) (i32.const 0))
        (drop (call $fd_write (i32.const 1) (i32.const 0x3fff0) (i32.const 1) (i32.const 0x3fff8)))))"""


class Answers(msgspec.Struct, frozen=True):
    """``errnos`` in the order of the calls; ``memory`` is the window after the last of them."""

    errnos: tuple[int, ...]
    memory: bytes

    def u32(self, at: int) -> int:
        return int.from_bytes(self.memory[at : at + 4], "little")

    def u64(self, at: int) -> int:
        return int.from_bytes(self.memory[at : at + 8], "little")


class Program:
    """Calls under construction. Data go into the memory from 4096 on; the tests own what is below."""

    def __init__(self) -> None:
        self.image = bytearray(4096)
        self.calls: list[WasiCall] = []

    def data(self, content: bytes) -> int:
        """Place bytes; returns where."""
        at = len(self.image)
        self.image += content + bytes(-len(content) % 8)
        return at

    def text(self, path: str | bytes) -> tuple[int, int]:
        """Place a path; returns pointer and length."""
        raw = path.encode() if isinstance(path, str) else path
        return self.data(raw), len(raw)

    def vector(self, at: int, count: int) -> int:
        """Place one iovec; returns where."""
        return self.data(struct.pack("<II", at, count))

    def call(self, name: str, *args: int) -> None:
        self.calls.append((name, args))

    # -- calls that tests make again and again --------------------------------------------------------------------

    def open(
        self, path: str, *, create: bool = False, extra: int = 0, flags: int = 0, follow: bool = False
    ) -> None:
        """path_open beneath descriptor 3 for reading and writing; the new descriptor's number goes to address 0."""
        self.call("path_open", 3, int(follow), *self.text(path), extra | int(create), 66, 0, flags, 0)

    def write(self, fd: int, content: bytes) -> None:
        self.call("fd_write", fd, self.vector(self.data(content), len(content)), 1, 8)

    def read(self, fd: int, into: int, count: int) -> None:
        self.call("fd_read", fd, self.vector(into, count), 1, 8)

    def encoded(self) -> bytes:
        assert len(self.image) <= _PROGRAM_AT, "the image would run into the program"
        return bytes(struct.pack("<Q", len(self.image)) + self.image) + encode(self.calls)

    def run(self, function: Function) -> Answers:
        """Run on a loaded ``guest()``; the guest must come to its end."""
        outcome = function.call(self.encoded())
        assert outcome.error is None, outcome.error
        return parse(outcome, len(self.calls))


def encode(calls: Sequence[WasiCall]) -> bytes:
    records = []
    for name, args in calls:
        padded = [*args, *[0] * (_ARGS_MAX - len(args))]
        records.append(struct.pack("<10Q", NAMES.index(name), *(arg & (1 << 64) - 1 for arg in padded)))
    return b"".join(records)


def parse(outcome: Outcome, count: int) -> Answers:
    output = bytes(outcome.output)
    assert len(output) == 4 * count + WINDOW_BYTES
    return Answers(struct.unpack(f"<{count}I", output[: 4 * count]), output[4 * count :])
