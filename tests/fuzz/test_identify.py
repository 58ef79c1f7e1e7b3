"""Hostile input to the execution-mode identifier: a typed error or an answer, in bounded time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.accel.identify import Kind, identify
from edgeagent.bench.accel_corpus import case_bytes, corpus
from edgeagent.model.errors import Refused
from tests.fuzz.huge_modules import hostile, leb

CASES = [(case.kind, case_bytes(case)) for case in corpus()]
BOUND_S = 30.0  # of a processor; some seconds on the machine of a person


def _answers(kind: Kind, data: bytes) -> None:
    try:
        found = identify(kind, data)
    except Refused:
        return
    assert found.mode in ("cpu", "cpu_preferred", "gpu_preferred", "gpu")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["wasm", "python", "onnx"]), st.binary(max_size=300))
def test_any_bytes(kind: Kind, data: bytes) -> None:
    _answers(kind, b"\0asm\x01\0\0\0" + data if kind == "wasm" else data)


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_damaged_cases(data: st.DataObject) -> None:
    kind, whole = data.draw(st.sampled_from(CASES))
    binary = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(binary) - 1))
        how = data.draw(st.sampled_from(["flip", "cut", "insert", "repeat"]))
        if how == "flip":
            binary[at] ^= 1 << data.draw(st.integers(0, 7))
        elif how == "cut" and at:
            del binary[at:]
        elif how == "repeat":
            binary[at:at] = binary[at : at + data.draw(st.integers(1, 40))]
        else:
            binary[at:at] = data.draw(st.binary(min_size=1, max_size=8))
    _answers(kind, bytes(binary))


def _module(body: bytes, imports: bytes = b"") -> bytes:
    code = leb(1) + leb(len(body)) + body
    entry = b"\x07\x0a\x01\x06_start\0" + (b"\x01" if imports else b"\0")
    head = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0"
    return head + imports + b"\x03\x02\x01\0" + entry + b"\x0a" + leb(len(code)) + code


IMPORT = b"\x02\x13\x01\x0aedge_accel\x04call\0\0"

NESTED = (
    b"".join(b" " * n + b"for i in (1, 2, 3, 4, 5, 6, 7, 8):\n" for n in range(15)) + b" " * 15 + b"x = i\n"
)
CALLS = b"".join(b"def f%d(): return f%d(f%d())\n" % (n, n + 1, n + 1) for n in range(500)) + b"f0()\n"
BASES = b"".join(b"class C%d(%s): pass\n" % (n + 1, b",".join([b"C%d" % n] * 40)) for n in range(9))

HUGE: dict[str, tuple[Kind, bytes]] = {
    "many instructions": ("wasm", _module(b"\0" + b"\x01" * (16 << 20) + b"\x0b", IMPORT)),
    "many branches": ("wasm", _module(b"\0" + (b"\x02\x40" * 9000 + b"\x41\0\x0d\0\x0b" * 9000) * 20 + b"\x0b")),
    "a long number": ("wasm", _module(b"\0\x41" + b"\x80" * (8 << 20) + b"\0\x0b")),
    "blocks without end": ("wasm", _module(b"\0" + b"\x02\x40" * (4 << 20))),
    "many names": ("python", b"\n".join(b"x%d = %d" % (n, n) for n in range(100_000))),
    "one sum": ("python", b"x = 1" + b" + 1" * 3000),
    "deep brackets": ("python", b"(" * 90_000),
    "nested loops": ("python", NESTED),
    "calls of calls": ("python", CALLS),
    "classes of classes": ("python", b"import torch\nclass C0: pass\n" + BASES + b"C9().missing()\n"),
    "growing numbers": ("python", b"x = 9 ** 9 ** 9\ny = 'a' * 9999999999\nz = 1 << 999999999\n"),
    "too long": ("python", b"#" * (3 << 20)),
    "many fields": ("onnx", b"\x08\x01" * (4 << 20)),
    "deep graphs": ("onnx", b"\x3a\x80\x80\x01" * 5000),
    **hostile(),
}  # fmt: skip


@pytest.mark.parametrize("name", list(HUGE))
def test_huge_input_takes_bounded_time(name: str) -> None:
    kind, data = HUGE[name]
    started = time.process_time()  # a busy machine is no fault of what is measured
    _answers(kind, data)
    assert time.process_time() - started < BOUND_S


def test_what_is_cut_short_is_not_called_cpu() -> None:
    """A call of the host may stand behind what was read."""
    found = identify(*HUGE["many instructions"])
    assert found.mode == "cpu_preferred"
    assert found.confidence <= 0.5
    source = b"\n".join([*(b"x%d = %d" % (n, n) for n in range(90_000)), b"import torch"])
    assert identify("python", source).mode == "cpu_preferred"
