"""wasi-nn as its preview 1 witx has it: functions, errors, types of tensors, and how a guest lays them out.

Source: wasmtime's crates/wasi-nn/witx/wasi-nn.witx, which WasmEdge's types follow. Lists are a pointer and a length, 32
bits each; a tensor is its dimensions (list of u32), its type (one byte, padded to four), its data (list of bytes): 20
bytes. Guests built for the older witx, without 64-bit types, agree on f16 and f32 only.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from typing import NamedTuple

from edgeagent.model.errors import EdgeError

__all__ = [
    "NN_MODULE",
    "NN_PARAMETERS",
    "RANK_MAX",
    "Encoding",
    "NnErrno",
    "NnFunction",
    "NnRefused",
    "NnTensor",
    "TensorType",
    "bytes_at",
    "read_tensor",
    "span",
    "write_u32",
]

NN_MODULE = "wasi_ephemeral_nn"
RANK_MAX = 16


class NnFunction(enum.IntEnum):
    """As in native/nn/guest_calls.cpp."""

    LOAD = 0
    LOAD_BY_NAME = 1
    INIT_EXECUTION_CONTEXT = 2
    SET_INPUT = 3
    GET_OUTPUT = 4
    COMPUTE = 5


# Each function's parameters; i = i32.
NN_PARAMETERS: Mapping[str, str] = {
    "load": "iiiii",
    "load_by_name": "iii",
    "init_execution_context": "ii",
    "set_input": "iii",
    "get_output": "iiiii",
    "compute": "i",
}


class NnErrno(enum.IntEnum):
    """What a function returns."""

    SUCCESS = 0
    INVALID_ARGUMENT = 1
    INVALID_ENCODING = 2
    MISSING_MEMORY = 3
    BUSY = 4
    RUNTIME_ERROR = 5
    UNSUPPORTED_OPERATION = 6
    TOO_LARGE = 7
    NOT_FOUND = 8


class Encoding(enum.IntEnum):
    """Of a graph; what else there is nobody here reads."""

    ONNX = 1
    AUTODETECT = 5


class TensorType(enum.IntEnum):
    """``bytes`` of one element."""

    F16 = 0
    F32 = 1
    F64 = 2
    U8 = 3
    I32 = 4
    I64 = 5

    @property
    def bytes(self) -> int:
        return (2, 4, 8, 1, 4, 8)[self]


class NnRefused(EdgeError):
    """A call of wasi-nn that cannot be; ``errno`` is what the guest gets."""

    slug = "nn-refused"

    def __init__(self, errno: NnErrno, message: str) -> None:
        super().__init__(message)
        self.errno = errno


class NnTensor(NamedTuple):
    """``data`` are the elements, in C order, little-endian."""

    type: int
    dimensions: tuple[int, ...]
    data: bytes


def span(memory: memoryview, ptr: int, count: int) -> memoryview:
    """A range of the guest's memory. Raises NnRefused."""
    if ptr > len(memory) or count > len(memory) - ptr:
        raise NnRefused(NnErrno.INVALID_ARGUMENT, "a range is outside of the memory")
    return memory[ptr : ptr + count]


def bytes_at(memory: memoryview, ptr: int, count: int) -> bytes:
    """A copy of a range. Raises NnRefused."""
    with span(memory, ptr, count) as found:
        return bytes(found)


def write_u32(memory: memoryview, ptr: int, value: int) -> None:
    """Raises NnRefused."""
    with span(memory, ptr, 4) as place:
        place[:] = struct.pack("<I", value)


def read_tensor(memory: memoryview, ptr: int, bytes_max: int) -> NnTensor:
    """A copy of the tensor that is described at ``ptr``. Raises NnRefused."""
    dims_ptr, rank, kind, data_ptr, size = struct.unpack("<IIB3xII", bytes_at(memory, ptr, 20))
    if rank > RANK_MAX:
        raise NnRefused(NnErrno.INVALID_ARGUMENT, f"{rank} dimensions, at most {RANK_MAX}")
    if kind not in set(TensorType):
        raise NnRefused(NnErrno.INVALID_ARGUMENT, f"no type of tensors is {kind}")
    if size > bytes_max:
        raise NnRefused(NnErrno.TOO_LARGE, f"a tensor of {size} bytes, at most {bytes_max}")
    dimensions = struct.unpack(f"<{rank}I", bytes_at(memory, dims_ptr, 4 * rank))
    count = TensorType(kind).bytes
    for one in dimensions:
        count *= one
    if count != size:
        raise NnRefused(
            NnErrno.INVALID_ARGUMENT, f"{size} bytes of data, dimensions {list(dimensions)} take {count}"
        )
    return NnTensor(kind, dimensions, bytes_at(memory, data_ptr, size))
