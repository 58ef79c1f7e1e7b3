"""What the node and the process that runs ONNX models say to each other: msgpack, each with its length before it."""

from __future__ import annotations

import struct

import msgspec

__all__ = ["HEAD", "NnAnswer", "NnAsk", "framed"]

HEAD = struct.Struct("<I")

Tensor = tuple[int, tuple[int, ...], bytes]  # type (nn_layout.TensorType), dimensions, elements


class NnAsk(msgspec.Struct, frozen=True, array_like=True):
    """``model`` given: load it as ``key``. ``drop``: forget ``key``. Else run ``key`` on ``inputs``, by their index."""

    key: str
    model: bytes | None = None
    drop: bool = False
    inputs: dict[int, Tensor] = {}


class NnAnswer(msgspec.Struct, frozen=True, array_like=True):
    """``errno`` as in nn_layout.NnErrno, with ``why`` for the node's log. The first one, unasked, is a greeting."""

    errno: int = 0
    why: str = ""
    outputs: list[Tensor] = []


def framed(message: NnAsk | NnAnswer) -> bytes:
    """With its length in front."""
    payload = msgspec.msgpack.encode(message)
    return HEAD.pack(len(payload)) + payload
