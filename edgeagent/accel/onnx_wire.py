"""Reading protocol buffers (encoding: protobuf.dev/programming-guides/encoding) without a schema compiler: bounded,
made for hostile input, and without copying the weights that a model holds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from edgeagent.model.errors import SourceRefused

__all__ = ["Budget", "fields", "floats_of", "text_of", "varints_of"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_TEXT_BYTES_MAX = 4096


class Budget:
    """How many more fields may be read, of the whole file."""

    def __init__(self, fields_max: int) -> None:
        self._left = fields_max
        self._most = fields_max

    def spend(self, count: int = 1) -> None:
        self._left -= count
        if self._left < 0:
            raise SourceRefused(
                f"not an ONNX model of ours: more than {self._most} fields", hint="keep weights in raw_data"
            )


def _varint(data: memoryview, at: int, origin: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise SourceRefused(f"truncated protocol buffer at offset {origin + at}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise SourceRefused(f"bad number in a protocol buffer at offset {origin + at}")


def fields(
    data: memoryview, budget: Budget, origin: int = 0
) -> Iterator[tuple[int, int, int | memoryview, int]]:
    """Each field's number, wire type, value and offset; ``origin`` is the offset of ``data`` in the file.

    Values are integers, or memory for lengths and fixed sizes. Raises SourceRefused.
    """
    at = 0
    while at < len(data):
        budget.spend()
        start = at
        key, at = _varint(data, at, origin)
        number, wire = key >> 3, key & 7
        if number == 0 or wire not in (_VARINT, _FIXED64, _BYTES, _FIXED32):
            raise SourceRefused(
                f"not a protocol buffer: field {number} of type {wire} at offset {origin + start}"
            )
        if wire == _VARINT:
            value, at = _varint(data, at, origin)
            yield number, wire, value, origin + start
            continue
        size = 8 if wire == _FIXED64 else 4
        if wire == _BYTES:
            size, at = _varint(data, at, origin)
        if size > len(data) - at:
            raise SourceRefused(
                f"truncated protocol buffer: {size} bytes at offset {origin + at}, {len(data) - at} are left"
            )
        yield number, wire, data[at : at + size], origin + at
        at += size


def text_of(value: int | memoryview) -> str:
    """At most 4096 bytes of it. Raises SourceRefused where it is no text."""
    if isinstance(value, int):
        raise SourceRefused("not an ONNX model: a number where a name should be")
    return bytes(value[:_TEXT_BYTES_MAX]).decode("utf-8", "replace")


def varints_of(value: int | memoryview, budget: Budget) -> list[int]:
    """A repeated integer, packed or not, signed 64 bits."""
    if isinstance(value, int):
        return [_signed(value)]
    found, at = [], 0
    while at < len(value):
        budget.spend()
        one, at = _varint(value, at, 0)
        found.append(_signed(one))
    return found


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def floats_of(value: int | memoryview, budget: Budget) -> list[float]:
    """A repeated float, packed or not."""
    if isinstance(value, int):
        return []
    budget.spend(len(value) // 4)
    return [one for (one,) in struct.iter_unpack("<f", value[: len(value) // 4 * 4])]
