"""What a broker drives: a GPU, or in tests something that behaves, or misbehaves, like one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from edgeagent.accel.execute import Prepared

__all__ = ["Backend", "Described"]


class Described(NamedTuple):
    """A device for people, and the bytes of its memory (0: not known)."""

    device: str
    memory_bytes: int = 0


class Backend(Protocol):
    """Made with the index of its device; one thread, no other process of the node has a context there.

    ``run`` raises DeviceFull where memory is short, after whatever could be freed was; DevicePoisoned or DeviceGone
    where nothing can be asked any more. Whatever else it raises is the kernel's.
    """

    def start(self, arena: memoryview) -> Described:
        """Open the device; ``arena`` is where operands will lie. Raises DeviceAbsent where there is none for good."""
        ...

    def run(
        self, function: str, prepared: Prepared, slot: memoryview, maps: Sequence[memoryview] = ()
    ) -> None:
        """One call, its operands in the slot, inputs also in ``maps`` (``views.map_bases`` says at which offsets),
        which cannot be written; the outputs are there when it returns.
        """
        ...

    def attach(self, memory: memoryview) -> Any:
        """Memory that can only be read is mapped, and calls will have parts of it: what may be done to make them
        faster is done. None: nothing; anything else comes to ``detach`` before the memory goes.
        """
        ...

    def detach(self, attached: Any) -> None:
        """No call has it any more."""
        ...

    def forget(self, function: str) -> None:
        """A function is gone: what is kept for it can go."""
        ...

    def used_bytes(self) -> int:
        """Of the device's memory."""
        ...

    def close(self) -> None:
        """The process ends."""
        ...
