"""A guest that runs an ONNX model through wasi-nn, as compilers lay its calls out, and small models for it.

Its input: how the model comes (0: as bytes, 1: by name), the encoding, the bytes of the model or name, the bytes of
the elements, three words each of dimensions; then both. It answers with an errno, the number of the call that gave it
(0: none failed), the size of the output, and the output.
"""

from __future__ import annotations

import functools
import struct

import numpy as np
import wasmtime
from numpy.typing import NDArray

from edgeagent.bench.accel_corpus import onnx_model
from edgeagent.runtime.port import Outcome

__all__ = ["SQUARES", "nn_guest", "nn_input", "nn_result"]

# x * x + x
SQUARES = onnx_model("input x 1x3\nnode Mul x x -> y\nnode Add y x -> z\noutput z")

_MODULE = """(module
  (import "wasi_ephemeral_nn" "load" (func $load (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_ephemeral_nn" "load_by_name" (func $named (param i32 i32 i32) (result i32)))
  (import "wasi_ephemeral_nn" "init_execution_context" (func $init (param i32 i32) (result i32)))
  (import "wasi_ephemeral_nn" "set_input" (func $set (param i32 i32 i32) (result i32)))
  (import "wasi_ephemeral_nn" "get_output" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_ephemeral_nn" "compute" (func $compute (param i32) (result i32)))
  %s
  (memory (export "memory") 8)
  (func (export "edge_alloc") (param i32) (result i32) (i32.const 65536))
  (func $failed (param $errno i32) (param $call i32) (result i32)
    (i32.store (i32.const 4096) (local.get $errno))
    (if (local.get $errno) (then (i32.store (i32.const 4100) (local.get $call))))
    (local.get $errno))
  (func $work (param $p i32) (local $m i32)
    (local.set $m (i32.add (local.get $p) (i32.const 28)))
    (if (i32.load (local.get $p))
      (then (br_if 1 (call $failed (call $named (local.get $m) (i32.load offset=8 (local.get $p))
                                                (i32.const 1040)) (i32.const 1))))
      (else
        (i32.store (i32.const 1024) (local.get $m))
        (i32.store (i32.const 1028) (i32.load offset=8 (local.get $p)))
        (br_if 1 (call $failed (call $load (i32.const 1024) (i32.const 1) (i32.load offset=4 (local.get $p))
                                           (i32.const 0) (i32.const 1040)) (i32.const 1)))))
    (br_if 0 (call $failed (call $init (i32.load (i32.const 1040)) (i32.const 1044)) (i32.const 2)))
    (i32.store (i32.const 1064) (i32.add (local.get $p) (i32.const 16)))
    (i32.store (i32.const 1068) (i32.const 2))
    (i32.store (i32.const 1072) (i32.load offset=24 (local.get $p)))
    (i32.store (i32.const 1076) (i32.add (local.get $m) (i32.load offset=8 (local.get $p))))
    (i32.store (i32.const 1080) (i32.load offset=12 (local.get $p)))
    (br_if 0 (call $failed (call $set (i32.load (i32.const 1044)) (i32.const 0) (i32.const 1064)) (i32.const 3)))
    (br_if 0 (call $failed (call $compute (i32.load (i32.const 1044))) (i32.const 4)))
    (drop (call $failed (call $get (i32.load (i32.const 1044)) (i32.const 0) (i32.const 4108) (i32.const 4096)
                                   (i32.const 4104)) (i32.const 5))))
  (func (export "edge_handle") (param $p i32) (param $len i32) (result i64)
    (call $work (local.get $p))
    (i64.or (i64.const 0x100000000000)
            (i64.extend_i32_u (i32.add (i32.const 12) (select (i32.const 0) (i32.load (i32.const 4104))
                                                              (i32.load (i32.const 4096))))))))"""
_EARLY = """(func $begin (if (i32.ne (call $compute (i32.const 0)) (i32.const 3)) (then unreachable)))
  (start $begin)"""


@functools.cache
def nn_guest(*, early: bool = False) -> bytes:
    """The binary. ``early``: it calls from its start function too, and traps unless it gets missing_memory there."""
    return bytes(wasmtime.wat2wasm(_MODULE % (_EARLY if early else "")))


def nn_input(
    values: NDArray[np.float32], model: bytes = SQUARES, *, name: str = "", encoding: int = 1
) -> bytes:
    """One row of 32-bit floats for the model, or for the one of that name."""
    graph = name.encode() or model
    data = values.astype("<f4").tobytes()
    head = (int(bool(name)), encoding, len(graph), len(data), 1, values.size, 1)
    return struct.pack("<7I", *head) + graph + data


def nn_result(outcome: Outcome) -> tuple[int, int, list[float]]:
    """(errno, the call that gave it, the output); the guest must have come to its end."""
    assert outcome.error is None, outcome.error
    output = bytes(outcome.output)
    errno, call, _ = struct.unpack_from("<3I", output)
    return errno, call, np.frombuffer(output[12:], "<f4").tolist()
