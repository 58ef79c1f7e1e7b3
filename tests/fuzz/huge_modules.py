"""Modules and graphs that would cost far more to follow than to send: each of a few megabytes at most."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from edgeagent.accel.identify import Kind
from edgeagent.bench.accel_corpus import onnx_model

__all__ = ["hostile", "leb"]

CALL_TYPE, NOTHING, LOAD_TYPE = (
    b"\x60\4\x7f\x7f\x7f\x7f\1\x7f",
    b"\x60\0\0",
    b"\x60\5\x7f\x7f\x7f\x7f\x7f\1\x7f",
)
DROP = b"\x1a"


def leb(value: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _i32(value: int) -> bytes:
    """``i32.const`` of a number that is not negative; its sign bit must be clear."""
    out = bytearray()
    while value > 0x3F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return b"\x41" + bytes([*out, value])


def _vector(items: Sequence[bytes]) -> bytes:
    return leb(len(items)) + b"".join(items)


def _section(number: int, content: bytes) -> bytes:
    return bytes([number]) + leb(len(content)) + content


def _name(text: str) -> bytes:
    return leb(len(text)) + text.encode()


def _body(code: bytes, locals_: bytes = b"\0") -> bytes:
    return leb(len(locals_) + len(code) + 1) + locals_ + code + b"\x0b"


CALL = _i32(0) + _i32(6) + _i32(16) + _i32(64) + b"\x10\0" + DROP


def _module(
    bodies: Sequence[bytes],
    *,
    data: Sequence[tuple[int, bytes]] = (),
    table: int = 0,
    held: Sequence[int] = (),
    types: Sequence[bytes] = (),
    type_index: int = 2,
    locals_: bytes = b"\0",
) -> bytes:
    """Function 0 is ``edge_accel.call``, 1 ``wasi_ephemeral_nn.load``, 2 the first body, which is ``_start``."""
    imports = [
        _name("edge_accel") + _name("call") + b"\0\0",
        _name("wasi_ephemeral_nn") + _name("load") + b"\0\1",
    ]
    sections = [
        (1, _vector([CALL_TYPE, LOAD_TYPE, NOTHING, *types])),
        (2, _vector(imports)),
        (3, _vector([leb(2), *[leb(type_index)] * (len(bodies) - 1)])),
        (4, _vector([b"\x70\0" + leb(table)]) if table else b""),
        (5, b"\1\0\1"),
        (7, _vector([_name("_start") + b"\0\2"])),
        (9, _vector([b"\0\x41\0\x0b" + _vector([leb(one) for one in held])]) if held else b""),
        (10, _vector([_body(one, locals_) for one in bodies])),
        (11, _vector([b"\0" + _i32(at) + b"\x0b" + leb(len(one)) + one for at, one in data])),
    ]
    return b"\0asm\1\0\0\0" + b"".join(_section(number, content) for number, content in sections if content)


def _mentions(count: int) -> bytes:
    """Each function takes the address of the next one, and the first calls through the table."""
    first = b"\x41\0\x11\2\0" + b"\xd2\3" + DROP
    rest = [b"\xd2" + leb(n + 1) + DROP for n in range(3, count + 2)]
    return _module([first, *rest, CALL], table=4)


def _loads(model: bytes) -> bytes:
    builder = (1000).to_bytes(4, "little") + len(model).to_bytes(4, "little")
    sizes = [(1000).to_bytes(4, "little") + (len(model) - n).to_bytes(4, "little") for n in range(100)]
    lists = b"".join([builder, *sizes])
    loads = [_i32(8 * n) + _i32(1) + _i32(1) + _i32(0) + _i32(64) + b"\x10\1" + DROP for n in range(100)]
    return _module([b"".join(loads)], data=[(0, lists), (1000, model)])


def _doubled(depth: int) -> str:
    """Functions of the model itself, each of which calls the one below it ten times."""
    lines = ["input x 8x8", "function f0 a -> b", "node Relu a -> b", "end"]
    for level in range(1, depth):
        lines.append(f"function f{level} a -> b")
        steps = ["a", *(f"c{n}" for n in range(9)), "b"]
        lines += [f"node own:f{level - 1} {one} -> {two}" for one, two in itertools.pairwise(steps)]
        lines.append("end")
    return "\n".join([*lines, f"node own:f{depth - 1} x -> y", "output y"])


def _sizes() -> dict[str, tuple[Kind, bytes]]:
    """What one instruction, or one node, has to copy is large."""
    maybe = b"\x3f\0\x0d\0"  # a branch that nobody knows of
    several = _vector([b"\x7f"] * 1000)
    takes, gives = b"\x60" + several + b"\0", b"\x60\0" + several
    calls = [f"node own:f x -> y{n}" for n in range(10_000)]
    concat = ["function f a -> b", f"node Concat {'a ' * 50_000}-> b axis=0", "end"]
    relus = [f"node Relu x{n} -> x{n + 1}" for n in range(20_000)]
    loops = [f"node Loop c c -> y{n} body=@t" for n in range(10_000)]
    inner = ["graph t", "node Relu x0 -> t", "output t", "end"]
    ends = " ".join(f"y{n}" for n in range(10_000))
    parts = f"node Split x -> {' '.join(f'y{n}' for n in range(100_000))} axis=0 split={'1,' * 99_999}1"
    return {
        "branches among locals": (
            "wasm",
            _module([CALL + b"\x03\x40" + maybe * 250_000 + b"\x0b"], locals_=b"\1" + leb(4096) + b"\x7f"),
        ),
        "a block without end": (
            "wasm",
            _module([CALL + b"\x10\3", b"\x02\x40" * 2 + b"\x01" * 1_000_100]),
        ),
        "blocks of many results": ("wasm", _module([CALL + b"\x02\3\x0b" * 250_000], types=[gives])),
        "calls with many numbers": (
            "wasm",
            _module([CALL + b"\x41\0\x11\3\0" * 150_000], table=1, types=[takes]),
        ),
        "one node of many inputs": (
            "onnx",
            onnx_model("\n".join(["input x 8", *concat, *calls, f"output {ends}"])),
        ),
        "loops among names": (
            "onnx",
            onnx_model(
                "\n".join(["input x0 8", "input c 1", *inner, *relus, *loops, f"output x20000 {ends}"])
            ),
        ),
        "many parts": ("onnx", onnx_model(f"input x 100000\n{parts}\noutput y1")),
    }


def hostile() -> dict[str, tuple[Kind, bytes]]:
    """By what they do."""
    described = [(0, b"matmul" + b"\1" * 4000)]
    store = _i32(100) + _i32(7) + b"\x36\2\0"
    fill = _i32(0) + _i32(1) + _i32(65536) + b"\xfc\x0b\0"
    many = b"".join(b"\x10" + leb(n) for n in range(3, 20_003))
    relus = [f"node Relu x{n} -> x{n + 1}" for n in range(20_000)]
    branches = [f"node If c -> y{n} then_branch=@t else_branch=@t\noutput y{n}" for n in range(5000)]
    inner = ["graph t", "node Relu x -> t", "output t", "end"]
    of_a_kind = [b"\x60" + _vector([b"\x7f"] * n) + b"\0" for n in range(40)]
    return {
        "memory filled and filled": ("wasm", _module([fill * 40_000 + CALL])),
        "one load, many segments": (
            "wasm",
            _module(
                [CALL + (_i32(0) + b"\x28\2\0" + DROP) * 100_000],
                data=[(8 * n, b"abcdefgh") for n in range(4096)],
            ),
        ),
        "segments over each other": (
            "wasm",
            _module([(_i32(0) + b"\x28\2\0" + DROP) * 100_000 + CALL], data=[(0, b"abcd")] * 4096),
        ),
        "each mentions the next": ("wasm", _mentions(40_000)),
        "each describes a call": ("wasm", _module([many, *[store + CALL] * 20_000], data=described)),
        "tables of unknown types": (
            "wasm",
            _module(
                [b"\x41\0\x11\2\0" * 100_000, *[b""] * 50_000],
                table=50_001,
                held=range(2, 50_002),
                types=[*of_a_kind, b"\x5f\0", NOTHING],
                type_index=44,
            ),
        ),
        "one model, many loads": (
            "wasm",
            _loads(onnx_model("\n".join(["input x0 8", *relus, "output x20000"]))),
        ),
        "functions of functions": ("onnx", onnx_model(_doubled(14))),
        "branches among names": (
            "onnx",
            onnx_model("\n".join(["input x 8", "input c 1", *inner, *branches])),
        ),
        **_sizes(),
    }
