"""What guests say to the node and read of its answers, byte by byte as sdk/*.h do it: the other end of the layouts."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from edgeagent.accel.descriptors import RANK_MAX, Description
from edgeagent.accel.guest_layout import Backend
from edgeagent.state.guest_layout import Answered, GuestOp

__all__ = ["pack_call", "pack_group", "unpack_query", "unpack_replies"]

_COUNT = struct.Struct("<I")
_OP = struct.Struct("<BBHHHII")
_REPLY = struct.Struct("<iHHI")
_QUERY = struct.Struct("<III")
_CALL = struct.Struct("<HHHHHHI")
_OPERAND = struct.Struct(f"<QII{RANK_MAX}Q{RANK_MAX}q")
_NUMBER = struct.Struct("<d")
_CALL_VERSION = 1


def pack_group(ops: Sequence[GuestOp]) -> bytes:
    pieces = [_COUNT.pack(len(ops))]
    for op in ops:
        key, version = op.key.encode(), op.version.encode()
        head = _OP.pack(op.op, op.flags, len(key), len(version), 0, len(op.value), op.ttl_ms)
        pieces += [head, key, version, bytes(op.value)]
    return b"".join(pieces)


def unpack_replies(data: bytes) -> list[Answered]:
    (count,) = _COUNT.unpack_from(data)
    at, found = _COUNT.size, []
    for _ in range(count):
        status, key, version, value = _REPLY.unpack_from(data, at)
        at += _REPLY.size
        ends = at + key, at + key + version, at + key + version + value
        texts = data[at : ends[0]].decode(), data[ends[0] : ends[1]].decode()
        found.append(Answered(status, *texts, data[ends[1] : ends[2]]))
        at = ends[2]
    return found


def pack_call(call: Description) -> bytes:
    text = call.text.encode()
    head = (_CALL_VERSION, 0, len(call.inputs), len(call.outputs), len(call.numbers), 0, len(text))
    pieces = [_CALL.pack(*head)]
    for one in (*call.inputs, *call.outputs):
        rest = (0,) * (RANK_MAX - one.rank)
        pieces.append(_OPERAND.pack(one.offset, one.dtype, one.rank, *one.shape, *rest, *one.strides, *rest))
    return b"".join([*pieces, *map(_NUMBER.pack, call.numbers), text])


def unpack_query(data: bytes) -> tuple[Backend, list[str]]:
    _, backends, count = _QUERY.unpack_from(data)
    at, names = _QUERY.size, []
    for _ in range(count):
        names.append(data[at + 1 : at + 1 + data[at]].decode())
        at += 1 + data[at]
    return Backend(backends), names
