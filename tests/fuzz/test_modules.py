"""Hostile modules: for every sequence of bytes the answer is a typed error or a description, nothing else."""

from __future__ import annotations

import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.model.errors import ManifestRefused, WasmRefused
from edgeagent.model.wasm_sections import scan
from edgeagent.runtime.engine_config import Settings, compile_config
from edgeagent.runtime.introspect import module_info
from edgeagent.runtime.manifest import parse_manifest
from tests.guests import names, wasm

GUESTS = [wasm(name) for name in names()]


def _describe(binary: bytes) -> None:
    try:
        sections = scan(binary)
    except WasmRefused:
        return
    try:
        module = wasmtime.Module(wasmtime.Engine(compile_config(Settings())), binary)
    except wasmtime.WasmtimeError:
        return
    info = module_info(module, sha256="", size_bytes=len(binary), sections=sections)
    assert info.abi in ("bytes", "command", None)
    assert bool(info.why_no_abi) == (info.abi is None)


@settings(max_examples=300)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes(data: bytes, with_magic: bool) -> None:
    _describe(b"\0asm\x01\0\0\0" + data if with_magic else data)


@settings(max_examples=300)
@given(st.data())
def test_damaged_modules(data: st.DataObject) -> None:
    binary = bytearray(data.draw(st.sampled_from(GUESTS)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(binary) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert"]))
        if kind == "flip":
            binary[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut" and len(binary) > 1:
            del binary[at:]
        else:
            binary[at:at] = data.draw(st.binary(min_size=1, max_size=6))
        if not binary:
            break
    _describe(bytes(binary))


@settings(max_examples=200)
@given(st.text(max_size=200))
def test_any_manifest(text: str) -> None:
    try:
        parse_manifest('[function]\nname = "x"\n' + text)
    except ManifestRefused:
        return
