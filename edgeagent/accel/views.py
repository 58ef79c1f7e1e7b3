"""Arrays over a guest's memory: no byte is copied. Pure."""

from __future__ import annotations

from typing import Any

from edgeagent.accel.descriptors import Operand

__all__ = ["view"]


def view(memory: memoryview, operand: Operand, *, writable: bool) -> Any:
    """A numpy array that is this operand; ``check_operands`` has passed it. It must not outlive ``memory``.

    numpy holds offset, shape and strides against the buffer once more. Raises ValueError where they lead out of it.
    """
    import numpy as np

    array: Any = np.ndarray(
        operand.shape, operand.dtype.array_name, memory, offset=operand.offset, strides=operand.strides
    )
    array.flags.writeable = writable
    return array
