"""The labelled cases of the execution-mode identifier: Python sources, wasm modules and ONNX graphs.

``corpus/*.txt`` hold one case after the other under a line ``=== NAME MODE``. Modules are written as text, in which
``{call INPUTS OUTPUTS TYPE:SHAPE ...}`` stands for the bytes of a call's description (sdk/edge_accel.h); graphs in
lines of ``input``, ``init``, ``ints``, ``floats``, ``node`` and ``output``, of which ``onnx_model`` makes the format's
bytes. ``graph NAME`` to ``end`` is a graph that a node's attribute names as ``@NAME``, ``function NAME INPUTS ->
OUTPUTS`` to ``end`` a function of the model itself, which nodes call as ``own:NAME``; ``opset N`` is another version
than 20.
Labels are by the rule in accel/modes.py.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import msgspec

from edgeagent.accel.identify import Kind
from edgeagent.model.function import ExecutionMode

__all__ = ["CASES_AT", "LabelledCase", "case_bytes", "corpus", "onnx_model", "read_cases"]

CASES_AT = Path(__file__).parent / "corpus"
_KINDS: tuple[Kind, ...] = ("python", "wasm", "onnx")
_HEAD = re.compile(r"^=== (\S+) (cpu|cpu_preferred|gpu_preferred|gpu)$", re.MULTILINE)
_CALL = re.compile(r"\{call (\d+) (\d+) ([^}]*)\}")
_DTYPES = {"u8": 1, "f32": 10, "f64": 11}


class LabelledCase(msgspec.Struct, frozen=True):
    name: str
    kind: Kind
    mode: ExecutionMode
    text: str


def corpus(folder: Path = CASES_AT) -> list[LabelledCase]:
    """All of them."""
    return [
        case
        for kind in _KINDS
        if (path := folder / f"{kind}.txt").exists()
        for case in read_cases(path.read_text(encoding="utf-8"), kind)
    ]


def read_cases(text: str, kind: Kind) -> list[LabelledCase]:
    pieces = _HEAD.split(text)[1:]
    return [
        LabelledCase(name, kind, msgspec.convert(mode, ExecutionMode), body.lstrip("\n"))
        for name, mode, body in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True)
    ]


def case_bytes(case: LabelledCase) -> bytes:
    """What the identifier is given."""
    if case.kind == "python":
        return case.text.encode()
    if case.kind == "onnx":
        return onnx_model(case.text)
    import wasmtime

    return bytes(wasmtime.wat2wasm(_CALL.sub(lambda found: _escaped(_call(*found.groups())), case.text)))


def _escaped(data: bytes) -> str:
    return "".join(f"\\{byte:02x}" for byte in data)


def _call(inputs: str, outputs: str, operands: str) -> bytes:
    """A description as a guest packs it; where its operands lie does not matter here."""
    pieces = [struct.pack("<HHHHHHI", 1, 0, int(inputs), int(outputs), 0, 0, 0)]
    for operand in operands.split():
        dtype, _, sizes = operand.partition(":")
        shape = [int(size) for size in sizes.split("x")]
        padded = [*shape, *[0] * (8 - len(shape))]
        pieces.append(struct.pack("<QII8Q8q", 0, _DTYPES[dtype], len(shape), *padded, *padded))
    return b"".join(pieces)


# -- ONNX, in the wire format of protocol buffers ------------------------------------------------------------


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def onnx_model(text: str) -> bytes:
    """The bytes of a model; weights are named and sized, and empty: they lie in a file beside it."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    inner: dict[str, bytes] = {}
    functions = b""
    opset = next((int(words[1]) for words in lines if words[0] == "opset"), 20)
    rest: list[list[str]] = []
    within: list[list[str]] | None = None
    for words in lines:
        if words[0] in ("graph", "function"):
            within = [words]
        elif words[0] == "end" and within is not None:
            head, body = within[0], within[1:]
            if head[0] == "graph":
                inner[head[1]] = b"".join(_graph_line(one, inner) for one in body) + _field(2, head[1])
            else:
                functions += _field(25, _own_function(head, body, inner))
            within = None
        else:
            (rest if within is None else within).append(words)
    graph = b"".join(_graph_line(words, inner) for words in rest) + _field(2, "g")
    versions = _opset("", opset) + (_opset("own", 1) if functions else b"")
    return _field(1, 9) + versions + _field(2, "edgeagent") + _field(7, graph) + functions


def _opset(domain: str, version: int) -> bytes:
    return _field(8, _field(1, domain) + _field(2, version))


def _own_function(head: list[str], body: list[list[str]], inner: dict[str, bytes]) -> bytes:
    arrow = head.index("->")
    pieces = [_field(1, head[1]), _field(10, "own"), _field(9, _field(1, "") + _field(2, 20))]
    pieces += [_field(4, name) for name in head[2:arrow]] + [_field(5, name) for name in head[arrow + 1 :]]
    return b"".join([*pieces, *(_field(7, _node(words[1:], inner)) for words in body)])


def _graph_line(words: list[str], inner: dict[str, bytes]) -> bytes:
    word, *rest = words
    if word == "node":
        return _field(1, _node(rest, inner))
    if word == "init":
        return _field(5, _tensor(rest[0], rest[1], 1, b"") + _field(14, 1))
    if word in ("ints", "floats"):
        code, data_type = ("q", 7) if word == "ints" else ("f", 1)
        numbers = [(int if word == "ints" else float)(one) for one in rest[1].split(",")]
        raw = struct.pack(f"<{len(numbers)}{code}", *numbers)
        return _field(5, _tensor(rest[0], str(len(numbers)), data_type, raw))
    if word == "input":
        return _field(11, _value(rest[0], rest[1]))
    return b"".join(_field(12, _field(1, name)) for name in rest if word == "output")


def _tensor(name: str, sizes: str, data_type: int, raw: bytes) -> bytes:
    dims = b"".join(_field(1, int(size)) for size in sizes.split("x"))
    return dims + _field(2, data_type) + _field(8, name) + (_field(9, raw) if raw else b"")


def _value(name: str, sizes: str) -> bytes:
    dims = b"".join(
        _field(1, _field(2, "n") if size == "?" else _field(1, int(size))) for size in sizes.split("x")
    )
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, dims)))


def _node(words: list[str], inner: dict[str, bytes]) -> bytes:
    op, *rest = words
    domain, _, op = op.rpartition(":")
    arrow = rest.index("->")
    attributes = [word for word in rest[arrow:] if "=" in word]
    outputs = [word for word in rest[arrow + 1 :] if "=" not in word]
    pieces = [_field(1, "" if name == "_" else name) for name in rest[:arrow]]
    pieces += (
        [_field(2, name) for name in outputs] + [_field(4, op)] + ([_field(7, domain)] if domain else [])
    )
    pieces += [_field(5, _attribute(one, inner)) for one in attributes]
    return b"".join(pieces)


def _attribute(text: str, inner: dict[str, bytes]) -> bytes:
    name, _, values = text.partition("=")
    if values.startswith("@"):
        return _field(1, name) + _field(6, inner[values[1:]]) + _field(20, 5)
    if not values.replace(",", "").replace("-", "").isdigit():
        return _field(1, name) + _field(4, values) + _field(20, 3)
    numbers = [int(value) for value in values.split(",")]
    if len(numbers) == 1:
        return _field(1, name) + _field(3, numbers[0]) + _field(20, 2)
    return _field(1, name) + b"".join(_field(8, number) for number in numbers) + _field(20, 7)
