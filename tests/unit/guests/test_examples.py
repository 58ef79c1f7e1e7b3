"""The small examples, and what holds for all of them: size, imports, and that their sources give these bytes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import wasmtime

from tests.unit.guests.guest import EXAMPLES, Guest

ROOT = EXAMPLES.parent
BY_HAND = {"wildfire/vet.wasm"}  # made of the text beside it: test_vet.py
MODULES = sorted(path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.wasm"))


def test_hello_in_c() -> None:
    hello = Guest((EXAMPLES / "hello-c/hello.wasm").read_bytes())
    assert hello(b"orbit") == b"hello, orbit!\n"
    assert hello.lines == [(2, "greeted")]
    assert hello(b"") == b"hello, !\n"


@pytest.mark.parametrize("size", [0, 1, 64000, 65536, 70000, 300000])
def test_hello_by_hand(size: int) -> None:
    upper = Guest(bytes(wasmtime.wat2wasm((EXAMPLES / "hello-wat/hello.wat").read_text())))
    text = (b"Az{`@[m-9" * (size // 9 + 1))[:size]
    assert upper(text) == text.upper()


@pytest.mark.parametrize("size", [-1, -15, -16, 2_000_000])
def test_a_guest_asks_for_more_memory_than_there_is(size: int) -> None:
    hello = Guest((EXAMPLES / "hello-c/hello.wasm").read_bytes())
    store = wasmtime.Store(hello.engine)
    store.set_limits(memory_size=1_000_000)
    allocate = hello.exports(store)["edge_alloc"]
    assert isinstance(allocate, wasmtime.Func)
    with pytest.raises(wasmtime.Trap):
        allocate(store, size)
    assert hello.lines == [(4, "out of memory")]


@pytest.mark.parametrize(
    ("words", "text", "says", "code"),
    [
        ([], b"one\ntwo\n", "2 lines, 8 bytes\n", 0),
        (["two"], b"one\ntwo\ntwo three", "3 lines, 17 bytes, 2 with two\n", 0),
        ([], b"", "0 lines, 0 bytes\n", 3),
        ([], b"a\0b\nc\0", "2 lines, 6 bytes\n", 0),
    ],
)
def test_command_in_c(tmp_path: Path, words: list[str], text: bytes, says: str, code: int) -> None:
    engine = wasmtime.Engine()
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    store = wasmtime.Store(engine)
    wasi = wasmtime.WasiConfig()
    wasi.argv = ["count", *words]
    (tmp_path / "in").write_bytes(text)
    wasi.stdin_file = tmp_path / "in"
    wasi.stdout_file = tmp_path / "out"
    store.set_wasi(wasi)
    module = wasmtime.Module.from_file(engine, str(EXAMPLES / "command-c/count.wasm"))
    start = linker.instantiate(store, module).exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    if code:
        with pytest.raises(wasmtime.ExitTrap) as exited:
            start(store)
        assert exited.value.code == code
    else:
        start(store)
    assert (tmp_path / "out").read_text() == says


def test_all_are_here() -> None:
    wildfire = {f"wildfire/{name}.wasm" for name in ("alert", "calibrate", "cluster", "detect", "index")}
    streams = {"streams/rows.wasm", "streams/sum.wasm"}
    state = {"state/report.wasm", "state/tally.wasm"}
    small = {"accel/water.wasm", "command-c/count.wasm", "hello-c/hello.wasm"}
    assert set(MODULES) == small | state | streams | wildfire | BY_HAND


@pytest.mark.parametrize("name", MODULES)
def test_small_and_without_traces_of_where_it_was_built(name: str) -> None:
    wasm = (EXAMPLES / name).read_bytes()
    assert len(wasm) <= 36_000
    assert not re.search(rb"/(home|work|tmp|root|usr)/|\.debug_|clang version", wasm)


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("command")])
def test_a_bytes_function_imports_what_it_needs_only(name: str) -> None:
    module = wasmtime.Module.from_file(wasmtime.Engine(), str(EXAMPLES / name))
    state = {"cas", "get", "group", "put", "version"} if name.startswith("state") else set()
    accel = {"call"} if name.startswith("accel") else set()
    hose = (
        {"accept", "close", "open", "recv", "recv_info", "release", "send"} if "streams" in name else {"loan"}
    )
    assert {(each.module, each.name) for each in module.imports} <= {
        ("edge_log", "log"),
        *(("edge_hose", each) for each in hose),
        *(("edge_state", each) for each in state),
        *(("edge_accel", each) for each in accel),
    }
    aligned = set() if name in BY_HAND else {"edge_alloc_aligned"}
    assert {each.name for each in module.exports} == {"memory", "edge_alloc", "edge_handle"} | aligned


def test_the_modules_are_what_the_sources_give(tmp_path: Path) -> None:
    """Built again elsewhere, byte for byte."""
    if not (shutil.which("clang") and shutil.which("wasm-ld") and Path("/usr/lib/wasm32-wasi").exists()):
        pytest.skip("no wasm toolchain (clang, lld, wasi-libc)")
    version = subprocess.run(["clang", "--version"], capture_output=True, text=True, check=True).stdout
    if "version 14." not in version:
        pytest.skip("the modules were built with clang 14; other versions give other bytes")
    for folder in ("examples", "sdk"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.wasm"))
    done = subprocess.run(
        ["make", "-s", "-f", "examples/guests.mk", "guests"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in sorted(set(MODULES) - BY_HAND):
        assert (tmp_path / "examples" / name).read_bytes() == (EXAMPLES / name).read_bytes(), name
