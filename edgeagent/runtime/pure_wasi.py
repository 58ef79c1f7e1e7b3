"""WASI preview 1 by Python host functions: the twin of native/wasi/, used where the extension is not built.

Layouts and numbers: wasi_snapshot_preview1.witx.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from typing import Any

from edgeagent.model import errors
from edgeagent.runtime.pure_call import STDERR_BYTES_MAX, PureCall, StopGuest
from edgeagent.runtime.pure_files import Files, WasiError
from edgeagent.runtime.pure_memory import Fault, GuestMemory

__all__ = ["PROCESS_FUNCTIONS", "Host", "guarded"]

BADF, FAULT, INVAL, NOTSUP = 8, 21, 28, 58
_CLOCK_GRAIN_NS = 1_000_000
_VECTORS_MAX = 1024
_SUBSCRIPTIONS_MAX = 4096
_FOREVER_S = 1e9
_STREAM_RIGHTS = 1 << 27
_RIGHTS_ALL = (1 << 30) - 1


class Host:
    """What the host functions of one invocation work on; ``memory`` is set anew for each host call."""

    def __init__(self, call: PureCall) -> None:
        self.call = call
        self.memory: GuestMemory = None  # type: ignore[assignment]
        self.files = Files()
        self.stdin_at = 0
        # For edge_hose: how to ask the guest for memory, how to see it grown, and which ranges the guest holds.
        self.allocate: Callable[[int], int] | None = None
        self.memory_of: Callable[[], GuestMemory] | None = None
        self.held: dict[int, int] = {}
        self.is_lending = False

    def refresh(self) -> None:
        assert self.memory_of is not None
        self.memory = self.memory_of()

    def argv(self) -> list[bytes]:
        return [self.call.spec.name.encode(), *(arg.encode() for arg in self.call.args)]

    def env(self) -> list[bytes]:
        return [f"{name}={value}".encode() for name, value in self.call.spec.env.items()]

    def stdin_left(self) -> int:
        return len(self.call.body) - self.stdin_at if self.call.spec.info.abi == "command" else 0

    def vectors(self, ptr: int, count: int) -> list[tuple[int, int]]:
        if count > _VECTORS_MAX:
            raise WasiError(INVAL)
        flat = self.memory.unpack(f"<{2 * count}I", ptr)
        pairs = list(zip(flat[::2], flat[1::2], strict=True))
        for at, size in pairs:
            self.memory.check(at, size)
        return pairs


def _sizes(host: Host, items: list[bytes], count_at: int, bytes_at: int) -> int:
    host.memory.pack("<I", count_at, len(items))
    host.memory.pack("<I", bytes_at, sum(len(item) + 1 for item in items))
    return 0


def _copy_all(host: Host, items: list[bytes], pointers: int, text: int) -> int:
    for item in items:
        host.memory.write(text, item + b"\0")
        host.memory.pack("<I", pointers, text)
        text += len(item) + 1
        pointers += 4
    return 0


def args_get(host: Host, pointers: int, text: int) -> int:
    return _copy_all(host, host.argv(), pointers, text)


def args_sizes_get(host: Host, count: int, size: int) -> int:
    return _sizes(host, host.argv(), count, size)


def environ_get(host: Host, pointers: int, text: int) -> int:
    return _copy_all(host, host.env(), pointers, text)


def environ_sizes_get(host: Host, count: int, size: int) -> int:
    return _sizes(host, host.env(), count, size)


def _now_ns(clock: int) -> int:
    if clock > 3:
        raise WasiError(INVAL)
    return time.time_ns() if clock == 0 else time.monotonic_ns()


def clock_res_get(host: Host, clock: int, out: int) -> int:
    _now_ns(clock)
    host.memory.pack("<Q", out, _CLOCK_GRAIN_NS)
    return 0


def clock_time_get(host: Host, clock: int, precision: int, out: int) -> int:
    now = _now_ns(clock)
    host.memory.pack("<Q", out, now - now % _CLOCK_GRAIN_NS)
    return 0


def random_get(host: Host, out: int, count: int) -> int:
    host.memory.check(out, count)
    for at in range(0, count, 1 << 20):
        host.memory.write(out + at, os.urandom(min(1 << 20, count - at)))
        if count > 1 << 20 and host.call.must_stop():
            raise StopGuest
    return 0


def proc_exit(host: Host, code: int) -> int:
    host.call.exit_code = code
    raise StopGuest


def proc_raise(host: Host, signal: int) -> int:
    host.call.failure = errors.GuestTrap(f"the guest raised signal {signal}", code=None, backtrace=[])
    raise StopGuest


def sched_yield(host: Host) -> int:
    return 0


def fd_read(host: Host, fd: int, vectors: int, count: int, out: int) -> int:
    if host.files.stream(fd) != 0:
        return host.files.read(host, fd, vectors, count, out, None)
    total = 0
    for at, size in host.vectors(vectors, count):
        piece = host.call.body[host.stdin_at : host.stdin_at + min(size, host.stdin_left())]
        host.memory.write(at, piece)
        host.stdin_at += len(piece)
        total += len(piece)
    host.memory.pack("<I", out, total)
    return 0


def fd_write(host: Host, fd: int, vectors: int, count: int, out: int) -> int:
    stream = host.files.stream(fd)
    if stream not in (1, 2):
        return host.files.write(host, fd, vectors, count, out, None)
    pieces = host.vectors(vectors, count)
    total = sum(size for _, size in pieces)
    # A bytes function's output is what edge_handle returns: what it prints is for the log.
    if stream == 2 or host.call.spec.info.abi == "bytes":
        for at, size in pieces:
            kept = min(size, STDERR_BYTES_MAX)
            host.call.write_stderr(host.memory.read(at + size - kept, kept))
    else:
        host.call.reserve_output(total)  # before anything is copied: 1024 vectors can name the same memory
        for at, size in pieces:
            host.call.stdout += host.memory.read(at, size)
    host.memory.pack("<I", out, total & 0xFFFFFFFF)
    return 0


def fd_fdstat_get(host: Host, fd: int, out: int) -> int:
    opened = host.files.get(fd)
    if opened.stream >= 0:  # of unknown type and without seek rights: no guest takes them for a terminal
        rights = _STREAM_RIGHTS | (1 << 1 if opened.stream == 0 else 1 << 6)
        host.memory.pack("<BxHxxxxQQ", out, 0, opened.flags, rights, 0)
        return 0
    kind, inherits = (3, _RIGHTS_ALL) if opened.is_directory else (4, 0)
    host.memory.pack("<BxHxxxxQQ", out, kind, opened.flags, _RIGHTS_ALL, inherits)
    return 0


def poll_oneoff(host: Host, subscriptions: int, events: int, count: int, out: int) -> int:
    if not 0 < count <= _SUBSCRIPTIONS_MAX:
        return INVAL
    host.memory.check(subscriptions, 48 * count)
    host.memory.check(events, 32 * count)  # both arrays have one entry for each subscription
    now = time.monotonic()
    ready: list[bytes] = []
    timers: list[tuple[float, int]] = []
    for i in range(count):
        userdata, tag, id_, timeout, flags = host.memory.unpack("<QB7xI4xQ8xH6x", subscriptions + 48 * i)
        if tag == 0:
            if id_ > 1:
                ready.append(_event(userdata, NOTSUP, tag, 0))
                continue
            seconds = timeout / 1e9
            if flags & 1:
                seconds -= _now_ns(id_) / 1e9
            timers.append((now + min(max(seconds, 0.0), _FOREVER_S), userdata))
        elif tag in (1, 2):
            size = host.stdin_left() if host.files.stream(id_) == 0 else 1
            ready.append(_event(userdata, 0 if host.files.has(id_) else BADF, tag, size))
        else:
            return INVAL
    if not ready and timers:
        host.call.sleep_until(min(due for due, _ in timers))
    after = time.monotonic()
    ready += [_event(userdata, 0, 0, 0) for due, userdata in timers if due <= after]
    host.memory.write(events, b"".join(ready))
    host.memory.pack("<I", out, len(ready))
    return 0


def _event(userdata: int, errno: int, tag: int, size: int) -> bytes:
    return struct.pack("<QHB5xQ8x", userdata, errno, tag, size)


def no_sockets(host: Host, *_: int) -> int:
    return NOTSUP


# name -> (parameters, function); i = i32, I = i64
PROCESS_FUNCTIONS: dict[str, tuple[str, Callable[..., int]]] = {
    "args_get": ("ii", args_get),
    "args_sizes_get": ("ii", args_sizes_get),
    "environ_get": ("ii", environ_get),
    "environ_sizes_get": ("ii", environ_sizes_get),
    "clock_res_get": ("ii", clock_res_get),
    "clock_time_get": ("iIi", clock_time_get),
    "random_get": ("ii", random_get),
    "proc_exit": ("i", proc_exit),
    "proc_raise": ("i", proc_raise),
    "sched_yield": ("", sched_yield),
    "fd_read": ("iiii", fd_read),
    "fd_write": ("iiii", fd_write),
    "fd_fdstat_get": ("ii", fd_fdstat_get),
    "poll_oneoff": ("iiii", poll_oneoff),
    "sock_accept": ("iii", no_sockets),
    "sock_recv": ("iiiiii", no_sockets),
    "sock_send": ("iiiii", no_sockets),
    "sock_shutdown": ("ii", no_sockets),
}


def guarded(function: Callable[..., int]) -> Callable[..., int]:
    """The one door: guest faults and refusals become error numbers."""

    def enter(host: Any, *args: int) -> int:
        try:
            return function(host, *args)
        except Fault:
            return FAULT
        except WasiError as error:
            return error.errno

    return enter
