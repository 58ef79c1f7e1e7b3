"""What a broker drives: a GPU, or in tests something that behaves, or misbehaves, like one."""

from __future__ import annotations

from typing import NamedTuple, Protocol

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

    def run(self, function: str, prepared: Prepared, slot: memoryview) -> None:
        """One call, its operands in the slot; the outputs are there when it returns."""
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
