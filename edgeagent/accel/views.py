"""Arrays over a guest's memory: no byte is copied. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeagent.accel.descriptors import Operand

__all__ = ["MAP_ALIGN_BYTES", "map_bases", "view", "whole"]

MAP_ALIGN_BYTES = 4096


def map_bases(slot_bytes: int, maps: Sequence[tuple[int, int]]) -> tuple[list[int], int]:
    """At which offsets of a call's memory maps of (offset, bytes) lie, behind its slot; and where all of it ends."""
    bases, at = [], slot_bytes
    for _, count in maps:
        at = -(-at // MAP_ALIGN_BYTES) * MAP_ALIGN_BYTES
        bases.append(at)
        at += count
    return bases, at


def whole(memory: memoryview) -> Any:
    """All of a memory as a numpy array of bytes; as the base of every view it lives for as long as one does."""
    import numpy as np

    return np.frombuffer(memory, "uint8")


def view(memory: Any, operand: Operand, *, writable: bool) -> Any:
    """A numpy array that is this operand; ``memory`` is a ``whole`` one, and ``check_operands`` has passed it.

    numpy holds offset, shape and strides against the buffer once more. Raises ValueError where they lead out of it.
    """
    import numpy as np

    array: Any = np.ndarray(
        operand.shape, operand.dtype.array_name, memory, offset=operand.offset, strides=operand.strides
    )
    array.flags.writeable = writable
    return array
