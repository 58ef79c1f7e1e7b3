"""sdk/edge_items.h, compiled to WebAssembly, reads what the node joins, and nothing else."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import wasmtime
from hypothesis import example, given
from hypothesis import strategies as st

from edgeagent.model.errors import BadRequest
from edgeagent.node.items import items_bytes, read_items, write_items

ROOT = Path(__file__).parents[3]
# Answers with the items in reverse, each behind a bar.
SOURCE = r"""
#include "edge_items.h"
EDGE_ALLOCATOR
EDGE_HANDLER(input, length) {
  struct edge_items all = edge_items_of(input, length);
  size_t size;
  const unsigned char *item;
  unsigned char *output = edge_take(length + 1), *at = output + length;
  while ((item = edge_items_next(&all, &size)) != 0) {
    at -= size + 1;
    *at = '|';
    for (size_t i = 0; i < size; ++i) {
      at[1 + i] = item[i];
    }
  }
  return edge_reply(at, (size_t)(output + length - at));
}
"""


@pytest.fixture(scope="module")
def reverse(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], bytes]:
    if not (shutil.which("clang") and shutil.which("wasm-ld")):
        pytest.skip("no wasm toolchain (clang, lld)")
    folder = tmp_path_factory.mktemp("items")
    (folder / "reverse.c").write_text(SOURCE)
    command = ["clang", "--target=wasm32", "-O2", "-std=c11", "-Wall", "-Wextra"]
    command += ["-Werror", "-mbulk-memory", f"-I{ROOT / 'sdk'}", "-nostdlib", "-Wl,--no-entry"]
    command += ["-o", str(folder / "reverse.wasm"), str(folder / "reverse.c")]
    subprocess.run(command, check=True, capture_output=True)
    engine = wasmtime.Engine()
    module = wasmtime.Module.from_file(engine, str(folder / "reverse.wasm"))
    linker = wasmtime.Linker(engine)
    three = wasmtime.FuncType([wasmtime.ValType.i32()] * 3, [])
    linker.define_func("edge_log", "log", three, lambda *_: None)

    def call(data: bytes) -> bytes:
        store = wasmtime.Store(engine)
        exports = linker.instantiate(store, module).exports(store)
        memory, allocate, handle = (exports[name] for name in ("memory", "edge_alloc", "edge_handle"))
        assert isinstance(memory, wasmtime.Memory)
        assert isinstance(allocate, wasmtime.Func)
        assert isinstance(handle, wasmtime.Func)
        at = allocate(store, len(data))
        memory.write(store, data, at)
        answer = handle(store, at, len(data)) & (1 << 64) - 1
        return bytes(memory.read(store, answer >> 32, (answer >> 32) + (answer & 0xFFFFFFFF)))

    return call


@given(st.lists(st.binary(max_size=40), max_size=12))
def test_items_as_the_node_joins_them(reverse: Callable[[bytes], bytes], items: list[bytes]) -> None:
    framed = bytearray(items_bytes([len(item) for item in items]))
    write_items(memoryview(framed), items)
    assert reverse(bytes(framed)) == b"".join(b"|" + item for item in reversed(items))


@given(st.binary(max_size=30))
@example(struct.pack("<I", 0xFFFFFFFF) + b"x")
@example(struct.pack("<I", 1))
def test_any_bytes_are_the_same_items_or_a_trap(reverse: Callable[[bytes], bytes], data: bytes) -> None:
    try:
        items = read_items(data)
    except BadRequest:
        with pytest.raises(wasmtime.Trap):
            reverse(data)
        return
    assert reverse(data) == b"".join(b"|" + bytes(item) for item in reversed(items))
