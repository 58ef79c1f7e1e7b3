"""edge_hose without the extension: the same calls with the same answers, always by copy.

The twin of native/hose/guest_calls.cpp; error numbers are those of sdk/edge_hose.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgeagent.runtime.port import AskKind
from edgeagent.runtime.pure_memory import Fault

if TYPE_CHECKING:
    from edgeagent.runtime.pure_wasi import Host

__all__ = ["HOSE_FUNCTIONS"]

BAD, RANGE, SMALL, MEMORY, FULL, OVERLAP = -1, -2, -3, -4, -5, -6
MOVE, NO_WAIT = 1, 256
_SLOT_MAX = 2
_HOPS_MAX = 32
_NAME_MAX = 127
_HELD_MAX = 64
_ATTACHMENTS_MAX = 64
_I32_MAX = (1 << 31) - 1


def _ready(function: Callable[..., int]) -> Callable[..., int]:
    def checked(host: Host, *args: int) -> int:
        if host.allocate is None:  # a start function is running, and there is nothing to work on yet
            return BAD
        try:
            return function(host, *args)
        except Fault:
            return RANGE

    return checked


def _overlaps(host: Host, ptr: int, count: int) -> bool:
    return any(ptr < start + size and start < ptr + count for start, size in host.held.items())


def _deliver(host: Host, data: bytes | memoryview, ptr: int, cap: int) -> int:
    if len(data) > cap:
        return SMALL
    host.memory.check(ptr, cap)
    if _overlaps(host, ptr, cap):
        return OVERLAP
    if len(host.held) >= _HELD_MAX:
        return FULL
    host.memory.write(ptr, data)
    host.held[ptr] = cap
    host.call.copied_bytes += len(data)
    return len(data)


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value


def _next(host: Host, slot: int) -> int:
    """The length of the next message of a stream, which then waits to be taken; or an error."""
    stream = _signed(slot) & ~NO_WAIT
    if not 0 < stream <= _SLOT_MAX:
        return BAD
    if stream not in host.call.next:
        status, data = host.call.ask(AskKind.NEXT, slot=stream, may_wait=not slot & NO_WAIT)
        if status < 0 or data is None:
            return status if status < 0 else BAD
        host.call.next[stream] = data
    return len(host.call.next[stream])


def recv_info(host: Host, slot: int) -> int:
    if slot & ~NO_WAIT:
        return _next(host, slot)
    return len(host.call.body) if len(host.call.body) <= _I32_MAX else RANGE


def recv(host: Host, ptr: int, cap: int, flags: int) -> int:
    if not flags & ~NO_WAIT:
        return _deliver(host, host.call.body, ptr, cap)
    if (count := _next(host, flags)) < 0:
        return count
    stream = flags & ~NO_WAIT
    delivered = _deliver(host, host.call.next[stream], ptr, cap)
    if delivered >= 0:
        del host.call.next[stream]  # else it can still be had, with a larger buffer
    return delivered


def _about(kind: AskKind) -> Callable[[Host, int, int], int]:
    def ask(host: Host, name: int, count: int) -> int:
        if count > _NAME_MAX:
            return RANGE
        return host.call.ask(kind, name=host.memory.read(name, count))[0]

    return ask


def send(host: Host, name: int, name_count: int, ptr: int, count: int, flags: int) -> int:
    if name_count > _NAME_MAX:
        return RANGE
    target = host.memory.read(name, name_count)
    host.memory.check(ptr, count)
    if flags & ~(MOVE | NO_WAIT):
        return BAD
    if host.call.hops >= _HOPS_MAX:
        return FULL
    data = host.memory.read(ptr, count)
    host.call.copied_bytes += count
    return host.call.ask(AskKind.SEND, name=target, may_wait=not flags & NO_WAIT, data=data)[0]


def loan(host: Host, count: int) -> int:
    if count == 0 or count > _I32_MAX:
        return BAD if count == 0 else MEMORY
    if host.is_lending:  # its allocator must not ask for what it is being asked for
        return BAD
    if len(host.held) >= _HELD_MAX:
        return FULL
    assert host.allocate is not None
    size = host.memory.size
    host.is_lending = True
    try:
        ptr = host.allocate(count)
    finally:
        host.is_lending = False
    host.refresh()
    if ptr < 0 or ptr + count > min(host.memory.size, _I32_MAX) or _overlaps(host, ptr, count):
        return MEMORY
    if (
        known := min(count, size - ptr)
    ) > 0:  # what has grown just now is zeros, what was there before need not be
        ctypes.memset(host.memory.check(ptr, known), 0, known)
    host.held[ptr] = count
    return ptr


def publish(host: Host, ptr: int, count: int) -> int:
    if count == 0:
        return RANGE
    host.memory.check(ptr, count)
    attachments = host.call.attachments
    if len(attachments) >= _ATTACHMENTS_MAX:
        return FULL
    id_ = max(attachments, default=0) + 1
    attachments[id_] = host.memory.read(ptr, count)
    host.call.copied_bytes += count
    return id_


def map_(host: Host, id_: int, ptr: int, cap: int) -> int:
    data = host.call.attachments.get(id_)
    if data is None:
        return BAD
    return len(data) if cap == 0 else _deliver(host, data, ptr, cap)


def release(host: Host, ptr: int) -> int:
    size = host.held.pop(ptr, None)
    if size is None:
        return BAD
    ctypes.memset(host.memory.check(ptr, size), 0, size)
    return 0


# name -> (parameters, function); i = i32
HOSE_FUNCTIONS: dict[str, tuple[str, Callable[..., int]]] = {
    "recv_info": ("i", _ready(recv_info)),
    "recv": ("iii", _ready(recv)),
    "loan": ("i", _ready(loan)),
    "publish": ("ii", _ready(publish)),
    "map": ("iii", _ready(map_)),
    "release": ("i", _ready(release)),
    "open": ("ii", _ready(_about(AskKind.OPEN))),
    "close": ("ii", _ready(_about(AskKind.CLOSE))),
    "accept": ("ii", _ready(_about(AskKind.ACCEPT))),
    "send": ("iiiii", _ready(send)),
}
