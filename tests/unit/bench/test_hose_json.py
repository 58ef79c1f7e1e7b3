"""The guests of the baseline ``http-json`` make and read real JSON and base64, and trap on anything else."""

from __future__ import annotations

import base64
import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.bench.hose_guests import expected_sum
from edgeagent.bench.hose_http import json_guest
from tests.unit.guests.guest import Guest

ROOT = Path(__file__).resolve().parents[3]
GUESTS = ("consume", "encode", "produce")
# Around the alphabet's ends, and any of the other bytes.
BYTES = st.binary(max_size=200) | st.lists(st.sampled_from(b"\x00\xff\xfb\xef\xbe"), max_size=40).map(bytes)


@pytest.fixture(scope="module")
def guests() -> dict[str, Guest]:
    """By name; no longer than the module, since no module of wasmtime may outlive the interpreter."""
    return {name: Guest(json_guest(name)) for name in GUESTS}


def decoded(reading: Guest, document: bytes) -> bytes:
    """What lies in the consumer's memory after it has read the document."""
    store = wasmtime.Store(reading.engine)
    exports = reading.exports(store)
    memory, allocate, handle = exports["memory"], exports["edge_alloc"], exports["edge_handle"]
    assert isinstance(memory, wasmtime.Memory)
    assert isinstance(allocate, wasmtime.Func)
    assert isinstance(handle, wasmtime.Func)
    at = allocate(store, len(document))
    memory.write(store, document, at)
    packed = handle(store, at, len(document)) & (1 << 64) - 1
    start, length = packed >> 32, packed & 0xFFFFFFFF
    count, _, where = struct.unpack("<QQQ", memory.read(store, start, start + length))
    return bytes(memory.read(store, where, where + count))


@given(BYTES)
def test_any_bytes_become_a_document_and_bytes_again(guests: dict[str, Guest], data: bytes) -> None:
    document = guests["encode"](data)
    found = json.loads(document)
    assert found == {
        "encoding": "base64",
        "read": False,
        "bytes": len(data),
        "data": base64.b64encode(data).decode(),
    }
    assert decoded(guests["consume"], document) == data


@pytest.mark.parametrize("count", [*range(13), 255, 256, 257, 65_535, 65_536, 65_537])
def test_every_length_at_either_side_of_three(guests: dict[str, Guest], count: int) -> None:
    data = bytes(i * 7 & 255 for i in range(count))
    document = guests["encode"](data)
    assert base64.b64decode(json.loads(document)["data"], validate=True) == data
    assert decoded(guests["consume"], document) == data
    assert guests["consume"](document)[:16] == struct.pack("<Q", count) + (
        data[-8:] if count >= 8 else bytes(8)
    )


@pytest.mark.parametrize("count", [0, 16, 1 << 10, 1 << 20])
def test_what_is_produced_is_read(guests: dict[str, Guest], count: int) -> None:
    document = guests["produce"](struct.pack("<II", count, 0))
    assert base64.b64decode(json.loads(document)["data"], validate=True) == b"\1" * count
    assert guests["consume"](document)[:16] == struct.pack("<Q", count) + expected_sum(count)


@given(
    data=BYTES,
    indent=st.none() | st.integers(0, 3),
    escapes=st.booleans(),
    last=st.booleans(),
    more=st.dictionaries(
        st.text(max_size=5).filter(lambda key: key not in ("data", "read")),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        max_size=3,
    ),
)
def test_documents_of_others_are_read(
    guests: dict[str, Guest],
    data: bytes,
    indent: int | None,
    escapes: bool,
    last: bool,
    more: dict[str, object],
) -> None:
    own = {"data": base64.b64encode(data).decode()}
    document = json.dumps({**more, **own} if last else {**own, **more}, indent=indent)
    if escapes:  # RFC 8259, section 7: a slash may be escaped, and some libraries do
        document = document.replace("/", "\\/")
    assert decoded(guests["consume"], document.encode()) == data


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"", "ends early"),
        (b'{"data":"AAAA', "ends early"),
        (b'["data"]', "no JSON object"),
        (b"{}", "a key is no string"),
        (b'{"data" "AAAA"}', "no colon"),
        (b'{"data":"AAAA" "read":true}', "no comma"),
        (b'{"other":1}', "no member data"),
        (b'{"data":{}}', "not flat"),
        (b'{"data":"AAA"}', "cut off"),
        (b'{"data":"A"}', "cut off"),
        (b'{"data":"A*AA"}', "not base64"),
        (b'{"data":"A=AA"}', "not base64"),
        (b'{"data":"AA=A"}', "not base64"),
        (b'{"data":"AA==AAAA"}', "behind its padding"),
        (b'{"data":"\\u0041AAA"}', "an escape"),
    ],
)
def test_anything_else_is_a_trap_that_says_why(guests: dict[str, Guest], document: bytes, said: str) -> None:
    with pytest.raises(wasmtime.Trap):
        guests["consume"](document)
    assert said in guests["consume"].lines[-1][1]


def test_a_producer_that_is_not_told_how_much(guests: dict[str, Guest]) -> None:
    with pytest.raises(wasmtime.Trap):
        guests["produce"](b"\1")
    assert "no number" in guests["produce"].lines[-1][1]


def test_the_modules_are_what_the_sources_give(tmp_path: Path) -> None:
    """Built again elsewhere, byte for byte."""
    if not (shutil.which("clang") and shutil.which("wasm-ld") and Path("/usr/lib/wasm32-wasi").exists()):
        pytest.skip("no wasm toolchain (clang, lld, wasi-libc)")
    version = subprocess.run(["clang", "--version"], capture_output=True, text=True, check=True).stdout
    if "version 14." not in version:
        pytest.skip("the modules were built with clang 14; other versions give other bytes")
    here = "edgeagent/bench/wasm"
    for folder in ("examples", "sdk", here):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.wasm"))
    command = ["make", "-s", "-f", "examples/guests.mk", "guests"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in GUESTS:
        assert (tmp_path / here / f"json_{name}.wasm").read_bytes() == json_guest(name), name
