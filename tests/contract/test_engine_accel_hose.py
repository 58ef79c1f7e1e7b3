"""Where the memory that a guest got by a hose lies: said while it is as it came, and of nothing else."""

from __future__ import annotations

import functools
import mmap
import os
import struct
from collections.abc import Callable
from typing import Any

import pytest
import wasmtime

from edgeagent.accel.mapped import Mappings
from edgeagent.runtime.open_engine import open_engine
from edgeagent.runtime.port import Ask, Engine, HoseSource, Payload, Window
from tests.conftest import engine_names
from tests.contract.calls import load, start
from tests.contract.hose_calls import HoseProgram, hose_guest
from tests.contract.test_engine_accel import Node, run

MIB = 1 << 20
COUNT = 3 * MIB + 100
_MODULE = """(module
  (import "edge_accel" "call" (func $call (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "kernel")
  (func (export "edge_alloc") (param i32) (result i32) (i32.const 16))
  (func (export "edge_alloc_aligned") (param $len i32) (param $align i32) (result i32)
    (drop (memory.grow (i32.shr_u (i32.add (local.get $len) (i32.shl (local.get $align) (i32.const 1)))
                                  (i32.const 16))))
    (i32.and (i32.add (i32.const 65536) (i32.sub (local.get $align) (i32.const 1)))
             (i32.sub (i32.const 0) (local.get $align))))
  ;; the first word says where to write a byte before the call; the call is described by where the input lies
  (func (export "edge_handle") (param $p i32) (param $len i32) (result i64)
    (if (i32.load (local.get $p))
      (then (i32.store8 (i32.add (local.get $p) (i32.load (local.get $p))) (i32.const 7))))
    (i32.store (i32.const 0) (local.get $p))
    (drop (call $call (i32.const 8) (i32.const 6) (i32.const 0) (i32.const 4)))
    (i64.const 0)))"""


@functools.cache
def reading_guest() -> bytes:
    return bytes(wasmtime.wat2wasm(_MODULE))


def lent(engine: Engine, compiled: Any, write_at: int = 0) -> Payload:
    """An output that lies in a hose: 0x5a, but for the first word and the last byte."""
    p = HoseProgram()
    at = p.call("loan", COUNT)
    p.call("fill", at, 0x5A, COUNT)
    p.call("store", at, write_at)
    p.call("reply", at, COUNT)
    function = load(engine, compiled, hose_guest(), memory_bytes=64 * MIB)
    made = function.call(p.encoded(), keep=True)
    assert made.error is None, made.error
    assert made.payload is not None
    return made.payload


Look = Callable[[Window, int], None]


def looked(name: Any, compiled: Any, look: Look, *, write_at: int = 0, body: bytes = b"") -> None:
    """``look`` gets the window of a guest that waits, and where its input lies."""
    engine = open_engine(name, workers=2, small_slots=16, large_slots=4)

    async def main() -> None:
        failed: list[BaseException] = []

        def does(ask: Ask) -> int:
            assert ask.window is not None
            try:
                look(ask.window, struct.unpack("<I", ask.extra)[0])
            except BaseException as error:  # noqa: BLE001 - told to the test, not to the engine
                failed.append(error)
            return 0

        node = Node(engine, does)
        function = load(engine, compiled, reading_guest(), memory_bytes=64 * MIB)
        payload = None if body else lent(engine, compiled, write_at)
        outcome = await start(function, body or payload)
        assert outcome.error is None, outcome.error
        assert len(node.asks) == 1
        if payload is not None:
            payload.close()
        if failed:
            raise failed[0]

    run(engine, main)


native = pytest.mark.skipif("native" not in engine_names(), reason="the extension is not built")


def bytes_of(source: HoseSource, count: int) -> bytes:
    """As a broker would read them."""
    (memory,) = Mappings(lambda _: None, lambda _: None).of([source.fd], [(source.offset, count)])
    return bytes(memory)


@native
def test_what_came_by_a_hose_is_found_whole_and_in_parts(compiled: Any) -> None:
    def look(window: Window, at: int) -> None:
        for start_, count in ((0, COUNT), (4096, MIB), (12345, 678), (COUNT - 50, 50), (COUNT - 5000, 5000)):
            source = window.source(at + start_, count)
            assert source is not None, start_
            expected = (bytes(4) + b"\x5a" * count)[:count] if not start_ else b"\x5a" * count
            assert bytes_of(source, count) == expected

    looked("native", compiled, look)


@native
def test_others_can_only_read_it(compiled: Any) -> None:
    def look(window: Window, at: int) -> None:
        source = window.source(at, COUNT)
        assert source is not None
        with pytest.raises(PermissionError):
            mmap.mmap(source.fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(source.fd, b"x", 0)

    looked("native", compiled, look)


@native
@pytest.mark.parametrize("write_at", [8, 2 * MIB + 1, COUNT - 1])
def test_what_the_guest_wrote_to_must_be_copied(compiled: Any, write_at: int) -> None:
    """A written page, and the last one, of which the guest has a copy in any case."""

    def look(window: Window, at: int) -> None:
        assert window.source(at, COUNT) is None
        assert window.source(at + write_at, 1) is None
        elsewhere = MIB if write_at != MIB else 0
        assert window.source(at + elsewhere, 4096) is not None

    looked("native", compiled, look, write_at=write_at)


@native
def test_what_reaches_beyond_or_lies_elsewhere_is_not_found(compiled: Any) -> None:
    def look(window: Window, at: int) -> None:
        for start_, count in (
            (at, COUNT + 1),
            (at - 1, 2),
            (0, 8),
            (at, 0),
            (window.size, 1),
            (2**63, 2**63),
        ):
            assert window.source(start_, count) is None

    looked("native", compiled, look)


@native
def test_a_source_outlives_its_call_and_its_payload(compiled: Any) -> None:
    kept: list[HoseSource] = []

    def look(window: Window, at: int) -> None:
        source = window.source(at, COUNT)
        assert source is not None
        kept.append(source)

    looked("native", compiled, look)
    assert bytes_of(kept[0], COUNT)[4:] == b"\x5a" * (COUNT - 4)


@native
def test_a_system_that_says_nothing_of_its_pages(compiled: Any) -> None:
    from edgeagent import native as extension

    assert extension.core is not None

    def look(window: Window, at: int) -> None:
        assert extension.core is not None
        extension.core.break_for_tests(512)
        try:
            assert window.source(at, COUNT) is None
        finally:
            extension.core.break_for_tests(0)

    looked("native", compiled, look)


@pytest.mark.parametrize("name", engine_names())
def test_a_body_that_came_otherwise_must_be_copied(compiled: Any, name: str) -> None:
    def look(window: Window, at: int) -> None:
        assert window.source(at, 4096) is None

    looked(name, compiled, look, body=bytes(8192))


@native
def test_a_call_that_is_over_has_no_sources(compiled: Any) -> None:
    kept: list[Window] = []
    looked("native", compiled, lambda window, _: kept.append(window))
    assert kept[0].source(65536, 4096) is None
