"""A guest alone: called through wasmtime's Python API, with nothing of ours between."""

from __future__ import annotations

import functools
from pathlib import Path

import wasmtime

__all__ = ["EXAMPLES", "Guest", "wildfire"]

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


class Guest:
    """A bytes function; each call gets a new instance. ``lines`` are what the last call logged: (level, text)."""

    def __init__(self, wasm: bytes) -> None:
        self.engine = wasmtime.Engine()
        self._module = wasmtime.Module(self.engine, wasm)
        self.lines: list[tuple[int, str]] = []

    def exports(self, store: wasmtime.Store) -> wasmtime._instance.InstanceExports:
        """The exports of a new instance."""
        self.lines = []
        linker = wasmtime.Linker(self.engine)
        kind = wasmtime.FuncType([wasmtime.ValType.i32()] * 3, [])
        linker.define_func("edge_log", "log", kind, self._log, access_caller=True)
        lends = wasmtime.FuncType([wasmtime.ValType.i32()], [wasmtime.ValType.i32()])
        linker.define_func("edge_hose", "loan", lends, self._loan, access_caller=True)
        return linker.instantiate(store, self._module).exports(store)

    def __call__(self, data: bytes) -> bytes:
        store = wasmtime.Store(self.engine)
        exports = self.exports(store)
        memory, allocate, handle = exports["memory"], exports["edge_alloc"], exports["edge_handle"]
        assert isinstance(memory, wasmtime.Memory)
        assert isinstance(allocate, wasmtime.Func)
        assert isinstance(handle, wasmtime.Func)
        pointer = allocate(store, len(data)) & 0xFFFF_FFFF
        memory.write(store, data, pointer)
        packed = handle(store, pointer, len(data)) & 0xFFFF_FFFF_FFFF_FFFF
        start, length = packed >> 32, packed & 0xFFFF_FFFF
        return bytes(memory.read(store, start, start + length))

    def _loan(self, caller: wasmtime.Caller, length: int) -> int:
        allocate = caller["edge_alloc"]
        assert isinstance(allocate, wasmtime.Func)
        return int(allocate(caller, length))

    def _log(self, caller: wasmtime.Caller, level: int, pointer: int, length: int) -> None:
        memory = caller["memory"]
        assert isinstance(memory, wasmtime.Memory)
        self.lines.append((level, bytes(memory.read(caller, pointer, pointer + length)).decode()))


@functools.cache
def wildfire(name: str) -> Guest:
    """A guest of the wildfire example, as it is in the repository."""
    return Guest((EXAMPLES / "wildfire" / f"{name}.wasm").read_bytes())
