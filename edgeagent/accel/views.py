"""Arrays over a guest's memory: no byte is copied. Pure."""

from __future__ import annotations

from typing import Any

from edgeagent.accel.descriptors import Operand

__all__ = ["view", "whole"]


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
