"""What controllers have learned, as it outlives them: a redeploy of the same code, and a restart of the node. Pure.

Kept are times, pairs of times and the backend of each size class; not what is of the moment: failures, budgets of
probes, heat. It is of one function's code on one GPU: another module has another digest, and what was learned of
another device is not taken up (``FunctionRoutes``). What is taken up is looked at once more by a probe.

File: a line that says format and version, the CRC-32 of the rest (4 bytes, little-endian), then MessagePack: an array
of records, the newest first. At most ``BYTES_MAX``; what was not used for longest is left out.
"""

from __future__ import annotations

import math
import zlib
from collections import OrderedDict
from typing import Annotated, Literal

import msgspec

from edgeagent.accel.errors import KeptDamaged
from edgeagent.model.decoding import UNDECODABLE

__all__ = [
    "BYTES_MAX",
    "PAIRS_KEPT",
    "TIMES_KEPT",
    "KeptClass",
    "KeptController",
    "KeptFunction",
    "Shelf",
    "read_shelf",
    "write_shelf",
]

BYTES_MAX = 1 << 20
TIMES_KEPT = 24  # of each backend, the newest: more than a change of backend ever asks for
PAIRS_KEPT = 12
_FUNCTION_BYTES_MAX = 64 << 10
_RECORDS_MAX = 1024
_HEAD = b"edgeagent accel 1\n"
_BEGINS = b"edgeagent accel "

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
Name = Annotated[str, msgspec.Meta(max_length=200)]
_Times = Annotated[tuple[tuple[Count, float], ...], msgspec.Meta(max_length=TIMES_KEPT)]
_Pairs = Annotated[tuple[tuple[Count, float], ...], msgspec.Meta(max_length=PAIRS_KEPT)]


class KeptClass(msgspec.Struct, frozen=True, array_like=True):
    """Of one size class; times in ms and logarithms of ratios, each with the number of its request, oldest first."""

    which: Annotated[int, msgspec.Meta(ge=0, le=64)]
    backend: Literal["cpu", "gpu"]
    number: Count
    requests: Count
    proven: bool
    changed: Annotated[tuple[Count, ...], msgspec.Meta(max_length=8)]
    prior: tuple[float, float]
    spread2: float
    cpu: _Times
    gpu: _Times
    pairs: _Pairs

    def __post_init__(self) -> None:
        """Raises ValueError for what no controller would have kept."""
        for known in (self.cpu, self.gpu, self.pairs):
            numbers = [number for number, _ in known]
            if numbers != sorted(numbers) or (numbers and numbers[-1] > self.number):
                raise ValueError("times are out of order")
        values = (*self.prior, self.spread2, *(one for _, one in (*self.cpu, *self.gpu, *self.pairs)))
        if not all(map(math.isfinite, values)):
            raise ValueError("a time is no number")
        if self.prior[1] <= 0.0 or self.spread2 < 0.0:
            raise ValueError("an error or a spread is negative")


class KeptController(msgspec.Struct, frozen=True, array_like=True):
    """Of one kernel of a function."""

    requests: Count
    classes: Annotated[tuple[KeptClass, ...], msgspec.Meta(max_length=64)]


class KeptFunction(msgspec.Struct, frozen=True, array_like=True):
    """``device`` is the GPU that its times are of, empty: none was seen; counts are of its calls of kernels."""

    device: Name
    mode: str
    last: Literal["cpu", "gpu"]
    why: Name
    changed_at: Name
    calls_cpu: Count
    calls_gpu: Count
    replays: Count
    switches: Count
    kernels: dict[Name, KeptController]

    def uncounted(self) -> KeptFunction:
        """What was learned, without what was counted: for a function that is gone, and may come again."""
        return msgspec.structs.replace(self, calls_cpu=0, calls_gpu=0, replays=0, switches=0)


class _Record(msgspec.Struct, frozen=True, array_like=True):
    name: Name
    sha256: Name
    function: KeptFunction


class Shelf:
    """By a function's name and the digest of its code; what was put there longest ago goes first."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], KeptFunction] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, name: str, sha256: str, kept: KeptFunction) -> None:
        self._kept[name, sha256] = kept
        self._kept.move_to_end((name, sha256))
        if len(self._kept) > _RECORDS_MAX:
            self._kept.popitem(last=False)

    def get(self, name: str, sha256: str) -> KeptFunction | None:
        return self._kept.get((name, sha256))

    def items(self) -> list[tuple[tuple[str, str], KeptFunction]]:
        """The newest first; the list is the caller's, and may go to another thread."""
        return list(reversed(self._kept.items()))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[_Record])


def write_shelf(items: list[tuple[tuple[str, str], KeptFunction]]) -> bytes:
    """The file's bytes, of what ``Shelf.items`` gave. Of a function that takes more than 64 KiB the kernels that were
    not called for longest are left out.
    """
    parts, left = [], BYTES_MAX - len(_HEAD) - 16
    for (name, sha256), kept in items:
        part = _encoder.encode(_Record(name, sha256, kept))
        while len(part) > _FUNCTION_BYTES_MAX and kept.kernels:
            newest = list(kept.kernels.items())[(len(kept.kernels) + 1) // 2 :]
            kept = msgspec.structs.replace(kept, kernels=dict(newest))
            part = _encoder.encode(_Record(name, sha256, kept))
        if len(part) <= left:
            parts.append(msgspec.Raw(part))
            left -= len(part)
    body = _encoder.encode(parts)
    return _HEAD + zlib.crc32(body).to_bytes(4, "little") + body


def read_shelf(data: bytes) -> Shelf:
    """Raises KeptDamaged for what ``write_shelf`` did not write."""
    if not data.startswith(_HEAD):
        why = "of another version" if data.startswith(_BEGINS) else "no such file"
        raise KeptDamaged(f"what was learned of GPUs cannot be read: it is {why}")
    checksum, body = data[len(_HEAD) : len(_HEAD) + 4], data[len(_HEAD) + 4 :]
    if len(data) > BYTES_MAX or zlib.crc32(body).to_bytes(4, "little") != checksum:
        raise KeptDamaged("what was learned of GPUs cannot be read: its checksum is wrong")
    try:
        records = _decoder.decode(body)
    except UNDECODABLE as error:
        raise KeptDamaged(f"what was learned of GPUs cannot be read: {error}") from None
    shelf = Shelf()
    for one in reversed(records):
        shelf.put(one.name, one.sha256, one.function)
    return shelf
