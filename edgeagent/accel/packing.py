"""A call's operands on their way to a broker: where each lies in a slot of the arena, and how it gets there. Pure.

Inputs are written once; outputs come back once, when all has gone well, so that a guest's memory is as it was until
then and the call can be done again elsewhere. What a slot holds beside the inputs is of earlier calls: a kernel that
leaves an element of its output unwritten shows some of it, on a GPU as here (``kernels.kernel`` forbids it).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from edgeagent.accel.descriptors import Description, Operand, contiguous, pack_call
from edgeagent.accel.execute import Prepared
from edgeagent.accel.views import MAP_ALIGN_BYTES, map_bases, view, whole

__all__ = ["Lying", "Packing", "pack_operands", "read_outputs", "write_inputs"]

_ALIGN_BYTES = 256  # as device memory is; more than any element needs
# Numpy lets other threads run while it copies, which is worth its overhead beyond this.
_PLAIN_BYTES_MAX = 64 << 10


class _Part(NamedTuple):
    """An operand in the guest's memory, and its twin in the slot; ``raw``: its whole range is copied as it is."""

    guest: Operand
    slot: Operand
    raw: bool


class Lying(NamedTuple):
    """Where an input, by its place in the call, lies that need not be copied: its first byte in a file."""

    place: int
    offset: int


class Packing(NamedTuple):
    """``slot_bytes`` is what the slot must have; ``described`` is the call with offsets in the slot, and behind it in
    ``maps``, (offset, bytes) of files (``views.map_bases``). ``inputs`` are those that are copied.
    """

    inputs: tuple[_Part, ...]
    outputs: tuple[_Part, ...]
    slot_bytes: int
    described: bytes
    maps: tuple[tuple[int, int], ...] = ()

    @property
    def is_raw(self) -> bool:
        """Whether each operand is one piece, there and back."""
        return all(one.raw for one in (*self.inputs, *self.outputs))

    @property
    def input_bytes(self) -> int:
        """That are copied into the slot."""
        return sum(one.slot.range[1] - one.slot.range[0] for one in self.inputs)

    @property
    def copied_bytes(self) -> int:
        """Both ways."""
        return sum(one.slot.range[1] - one.slot.range[0] for one in (*self.inputs, *self.outputs))


def pack_operands(prepared: Prepared, lying: Sequence[Lying] = ()) -> Packing:
    """Where everything goes. Operands that see an element many times are not made larger by it. Inputs that are
    ``lying`` somewhere stay there, and each gets an entry of ``maps``, in order.
    """
    call, at = prepared.call, 0
    inputs, outputs = [], []
    elsewhere = {source.place for source in lying}
    twins = list(call.inputs)
    for place, one in enumerate(call.inputs):
        if place in elsewhere:
            continue
        part, at = _input_at(one, at)
        inputs.append(part)
        twins[place] = part.slot
    for one in call.outputs:
        twin = contiguous(at, one.dtype, one.shape)
        outputs.append(_Part(one, twin, twin.strides == one.strides))
        at = _aligned(at + twin.bytes)
    numbers = tuple(call.values[param.name] for param in prepared.kernel.params)
    maps = [_map_of(call.inputs[source.place], source) for source in lying]
    for source, base, (start, _) in zip(lying, map_bases(at, maps)[0], maps, strict=True):
        operand = call.inputs[source.place]
        lead = source.offset - start + operand.offset - operand.range[0]
        twins[source.place] = operand._replace(offset=base + lead)
    described = Description(tuple(twins), tuple(part.slot for part in outputs), numbers, call.text)
    return Packing(tuple(inputs), tuple(outputs), at, pack_call(described), tuple(maps))


def _map_of(operand: Operand, lying: Lying) -> tuple[int, int]:
    """From the page that its first byte is on."""
    low, high = operand.range
    start = lying.offset - lying.offset % MAP_ALIGN_BYTES
    return start, lying.offset - start + high - low


def _input_at(one: Operand, at: int) -> tuple[_Part, int]:
    low, high = one.range
    seen_once = [1 if not stride else size for size, stride in zip(one.shape, one.strides, strict=True)]
    dense = contiguous(at, one.dtype, seen_once)
    if high - low <= dense.bytes:
        return _Part(one, one._replace(offset=at + one.offset - low), True), _aligned(at + high - low)
    strides = tuple(new if old else 0 for new, old in zip(dense.strides, one.strides, strict=True))
    return _Part(one, one._replace(offset=at, strides=strides), False), _aligned(at + dense.bytes)


def _aligned(at: int) -> int:
    return -(-at // _ALIGN_BYTES) * _ALIGN_BYTES


def write_inputs(packing: Packing, memory: memoryview, slot: memoryview) -> None:
    """From the guest's memory; nothing of it is held on to."""
    for part in packing.inputs:
        _copy(part.guest, memory, part.slot, slot, part.raw)


def read_outputs(packing: Packing, slot: memoryview, memory: memoryview) -> None:
    """Into the guest's memory; nothing of it is held on to."""
    for part in packing.outputs:
        _copy(part.slot, slot, part.guest, memory, part.raw)


def _copy(source: Operand, of: memoryview, target: Operand, to: memoryview, raw: bool) -> None:
    (low, high), (start, end) = source.range, target.range
    if raw and high - low <= _PLAIN_BYTES_MAX:
        to[start:end] = of[low:high]
        return
    held, room = whole(of), whole(to)
    if raw:
        room[start:end] = held[low:high]
        return
    steps = zip(source.strides, target.strides, strict=True)
    once = tuple(slice(None) if one and other else slice(0, 1) for one, other in steps)
    given: Any = view(held, source, writable=False)[(*once, ...)]
    view(room, target, writable=True)[(*once, ...)] = given
