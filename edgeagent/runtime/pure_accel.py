"""edge_accel without the extension: the same calls with the same answers. The twin of native/accel."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgeagent.accel.descriptors import NAME_BYTES_MAX
from edgeagent.accel.guest_layout import Code
from edgeagent.runtime.port import AskKind
from edgeagent.runtime.pure_memory import Fault

if TYPE_CHECKING:
    from edgeagent.runtime.pure_wasi import Host

__all__ = ["ACCEL_FUNCTIONS", "PureWindow"]

_CALL_BYTES_MAX = 4096


class PureWindow:
    """The port's Window over a range of the process."""

    def __init__(self, base: int, size: int) -> None:
        self._base = base
        self._size = size
        self._changed = threading.Condition()
        self._inside = 0
        self._is_closed = False

    @property
    def size(self) -> int:
        return self._size

    def enter(self) -> memoryview:
        with self._changed:
            if self._is_closed:
                raise ValueError("the call is over")
            self._inside += 1
        return memoryview((ctypes.c_ubyte * self._size).from_address(self._base)).cast("B")

    def leave(self) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def source(self, _start: int, _count: int) -> None:
        """Nowhere: guests of this engine get copies."""

    def close(self) -> None:
        """Nobody enters any more; waits until whoever is inside has left, beyond a deadline if it must."""
        with self._changed:
            self._is_closed = True
            self._changed.wait_for(lambda: not self._inside)


def _ready(function: Callable[..., int]) -> Callable[..., int]:
    def checked(host: Host, *args: int) -> int:
        if host.allocate is None:  # a start function is running, and there is nothing to work on yet
            return Code.BAD
        try:
            return function(host, *args)
        except Fault:
            return Code.RANGE

    return checked


def call(host: Host, name: int, name_count: int, ptr: int, count: int) -> int:
    if not 0 < name_count <= NAME_BYTES_MAX or count > _CALL_BYTES_MAX:
        return Code.BAD
    kernel, described = host.memory.read(name, name_count), host.memory.read(ptr, count)
    if host.call.asked is None:
        return Code.OFF
    window = PureWindow(host.memory.base, host.memory.size)
    try:
        return host.call.ask(AskKind.ACCEL_CALL, name=kernel, extra=described, window=window)[0]
    finally:
        window.close()


def query(host: Host, ptr: int, cap: int) -> int:
    if cap:
        host.memory.check(ptr, cap)
    if host.call.asked is None:
        return Code.OFF
    status, data = host.call.ask(AskKind.ACCEL_QUERY)
    if status < 0 or data is None:
        return status if status < 0 else Code.FAILED
    if len(data) <= cap:
        host.memory.write(ptr, data)
    return len(data)


# name -> (parameters, function); i = i32
ACCEL_FUNCTIONS: dict[str, tuple[str, Callable[..., int]]] = {
    "call": ("iiii", _ready(call)),
    "query": ("ii", _ready(query)),
}
