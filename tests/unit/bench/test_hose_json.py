"""The guests of the http-json baseline really make and read JSON with base64."""

from __future__ import annotations

import base64
import json

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.bench.hose_guests import expected_sum, json_consumer, json_producer, request


def run(wasm: bytes, data: bytes) -> bytes:
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    exports = wasmtime.Linker(engine).instantiate(store, wasmtime.Module(engine, wasm)).exports(store)
    alloc, handle, memory = exports["edge_alloc"], exports["edge_handle"], exports["memory"]
    assert isinstance(alloc, wasmtime.Func)
    assert isinstance(handle, wasmtime.Func)
    assert isinstance(memory, wasmtime.Memory)
    at = alloc(store, len(data))
    memory.write(store, data, at)
    packed = handle(store, at, len(data)) & ((1 << 64) - 1)
    return bytes(memory.read(store, packed >> 32, (packed >> 32) + (packed & 0xFFFFFFFF)))


@pytest.mark.parametrize("count", [16, 32, 48, 4096])
def test_what_is_produced_is_json(count: int) -> None:
    made = run(json_producer(), request(count, lent=False))
    assert base64.b64decode(json.loads(made)["data"], validate=True) == b"\1" * count
    assert run(json_consumer(), made) == expected_sum(count)


@given(st.binary(max_size=100))
def test_any_bytes_are_decoded(raw: bytes) -> None:
    document = json.dumps({"data": base64.b64encode(raw).decode()}, indent=1).encode()
    assert run(json_consumer(adds_up=False), document) == raw


@pytest.mark.parametrize(
    "document", [b"", b"{}", b'{"data": "AAA"}', b'{"data": "A*AA"}', b'{"data": "\\u0041AAA"}']
)
def test_anything_else_is_a_trap(document: bytes) -> None:
    with pytest.raises(wasmtime.Trap):
        run(json_consumer(adds_up=False), document)
