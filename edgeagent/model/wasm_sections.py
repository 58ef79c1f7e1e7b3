"""A look at the outside of a wasm binary before anything heavier touches it: pure, bounded, made for hostile input.

WebAssembly core specification 2.0, section 5.5 (binary format of modules). The section headers are read, and where
active data segments end; all else inside is wasmtime's to judge, in the compile worker.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from edgeagent.model.errors import WasmRefused

__all__ = ["Sections", "read_s32", "read_u32", "scan", "section_bounds"]

MAGIC = b"\0asm"
_SECTIONS_MAX = 4096
_KNOWN = range(14)
_START = 8
_DATA = 11
_I32_CONST, _END = 0x41, 0x0B


class Sections(msgspec.Struct, frozen=True):
    ids: tuple[int, ...]
    has_start: bool
    # Above it no data segment was placed; None where that is not written in the module.
    data_end_bytes: int | None = 0


def scan(wasm: bytes) -> Sections:
    """Read the section headers; raises WasmRefused for anything that cannot be a core module."""
    if wasm[:4] != MAGIC:
        shown = wasm[:4].hex() or "nothing"
        raise WasmRefused(f"not WebAssembly: it starts with {shown}, not 0061736d ('\\0asm')")
    if len(wasm) < 8:
        raise WasmRefused(f"truncated: {len(wasm)} bytes are no module")
    if wasm[6:8] == b"\x01\x00":
        raise WasmRefused(
            "this is a WebAssembly component, not a core module", hint="build for wasm32-wasi (preview 1)"
        )
    if wasm[4:8] != b"\x01\0\0\0":
        raise WasmRefused(f"unknown WebAssembly version {wasm[4:8].hex()}")
    return _walk(wasm)


def _walk(wasm: bytes) -> Sections:
    ids: list[int] = []
    data_end: int | None = 0
    for section, start, end in section_bounds(wasm):
        ids.append(section)
        if section == _DATA:
            data_end = _data_end(wasm[start:end])
    return Sections(tuple(ids), _START in ids, data_end)


def section_bounds(wasm: bytes) -> Iterator[tuple[int, int, int]]:
    """Each section's id and where its content begins and ends; for a module that :func:`scan` took.

    Raises WasmRefused.
    """
    at = 8
    count = 0
    while at < len(wasm):
        if count == _SECTIONS_MAX:
            raise WasmRefused(f"more than {_SECTIONS_MAX} sections")
        section = wasm[at]
        if section not in _KNOWN:
            raise WasmRefused(f"unknown section {section} at offset {at}")
        size, start = read_u32(wasm, at + 1)
        if size > len(wasm) - start:
            raise WasmRefused(
                f"truncated: section {section} at offset {at} needs {size} bytes, {len(wasm) - start} are left"
            )
        yield section, start, start + size
        count += 1
        at = start + size


def _data_end(section: bytes) -> int | None:
    """Where the last active segment ends (binary format, section 5.5.14); None where an offset is computed."""
    try:
        count, at = read_u32(section, 0)
        end = 0
        for _ in range(count):
            flag, at = read_u32(section, at)
            if flag == 2:
                _, at = read_u32(section, at)
            offset = 0
            if flag != 1:
                if section[at] != _I32_CONST:
                    return None
                offset, at = read_s32(section, at + 1)
                if section[at] != _END:
                    return None
                at += 1
            size, at = read_u32(section, at)
            at += size
            if flag != 1:
                end = max(end, (offset & 0xFFFFFFFF) + size)
        return end
    except (IndexError, WasmRefused):  # malformed: wasmtime says so, with its place
        return None


def read_s32(wasm: bytes, at: int) -> tuple[int, int]:
    """A signed LEB128 of 32 bits and where it ends. Raises WasmRefused, IndexError at the end of the input."""
    value = 0
    for shift in range(0, 35, 7):
        byte = wasm[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value - (1 << (shift + 7)) if byte & 0x40 else value), at
    raise WasmRefused(f"bad number at offset {at}")


def read_u32(wasm: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 of 32 bits and where it ends. Raises WasmRefused."""
    value = 0
    for shift in range(0, 35, 7):
        if at >= len(wasm):
            raise WasmRefused(f"truncated at offset {at}")
        byte = wasm[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 32:
                break
            return value, at
    raise WasmRefused(f"bad number at offset {at}")
