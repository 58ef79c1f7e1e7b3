"""The broker: a process of its own that holds all there is of one GPU, and does what the node sends it, in order.

``python -m edgeagent.accel.broker_main SOCKET ARENA BYTES PARENT BACKEND DEVICE``: two inherited descriptors, the size
of the arena, the node's process, ``module:attribute`` of the backend, and the index of the device. It ends with its
node, and whenever its device is of no more use: only the end of a process clears a poisoned context.
"""

from __future__ import annotations

import ctypes
import importlib
import mmap
import os
import signal
import socket
import sys
import time
from functools import lru_cache

from edgeagent.accel.backend import Backend
from edgeagent.accel.broker_wire import (
    PACKET_BYTES_MAX,
    Absent,
    Done,
    Failed,
    Forget,
    FromBroker,
    Ping,
    Pong,
    Ready,
    Unfit,
    Why,
    Work,
    pack,
    to_broker,
)
from edgeagent.accel.descriptors import OPERANDS_MAX
from edgeagent.accel.errors import (
    BrokerLost,
    DeviceAbsent,
    DeviceFull,
    DeviceGone,
    DevicePoisoned,
    OperandRefused,
)
from edgeagent.accel.execute import CallLimits, Prepared, prepare
from edgeagent.accel.mapped import Mappings
from edgeagent.accel.registry import Registry, load_others, shipped
from edgeagent.accel.self_test import SELF_TEST_BYTES, self_test
from edgeagent.accel.views import map_bases
from edgeagent.model.errors import EdgeError

__all__ = ["Broker", "main"]

_PR_SET_PDEATHSIG = 1
_PREPARED_MAX = 1024
# The node has bounded the work already, and what a GPU does in a second is not what a CPU does.
_LIMITS = CallLimits(cpu_s=float("inf"), scratch_bytes=1 << 62)


class Broker:
    """One thread. The kernel that runs cannot be asked how it goes: the node has a deadline for each."""

    def __init__(self, link: socket.socket, arena: memoryview, backend: Backend) -> None:
        self._link, self._arena, self._backend = link, arena, backend
        self._registry = self._kernels()
        self._prepared = lru_cache(_PREPARED_MAX)(self._prepare)
        self._mappings = Mappings(backend.attach, backend.detach)

    @staticmethod
    def _kernels() -> Registry:
        registry = shipped()
        load_others(registry)  # the node has logged what cannot be had
        return registry

    def serve(self) -> None:
        """Until the node goes away, or the device."""
        if not self._start():
            return
        while True:
            packet, fds, _, _ = socket.recv_fds(self._link, PACKET_BYTES_MAX + 1, OPERANDS_MAX)
            if not packet:
                return
            match to_broker(packet):
                case Work() as work:
                    answer: FromBroker = self._work(work, fds)
                case Ping(id_):
                    answer = self._ping(id_)
                case Forget(function):
                    self._backend.forget(function)
                    continue
            self._tell(answer)
            if isinstance(answer, Failed) and answer.kind in {"poisoned", "gone"}:
                return

    def _start(self) -> bool:
        try:
            described = self._backend.start(self._arena)
            self._test()
        except DeviceAbsent as error:
            self._tell(Absent(error.message))
            return False
        except Exception as error:  # noqa: BLE001 - of drivers and libraries, of whatever kind
            self._tell(Unfit(_text(error)))
            return False
        self._tell(Ready(described.device, described.memory_bytes))
        return True

    def _test(self) -> None:
        """In memory of its own: the arena is the functions'."""
        self_test(self._backend, self._registry, memoryview(bytearray(SELF_TEST_BYTES)))

    def _prepare(self, kernel: str, described: bytes, length: int) -> Prepared:
        return prepare(self._registry, kernel, described, length, _LIMITS)

    def _work(self, work: Work, fds: list[int]) -> FromBroker:
        begun = time.perf_counter_ns()
        try:
            maps = self._mappings.of(fds, work.maps) if work.maps else []
            _, length = map_bases(work.length, work.maps)
            prepared = self._prepared(work.kernel, work.described, length)
            with self._arena[work.offset : work.offset + work.length] as slot:
                self._backend.run(work.function, prepared, slot, maps)
        except OperandRefused as error:
            return Failed(work.id, "operand", error.message)
        except DeviceFull as error:
            return Failed(work.id, "memory", error.message)
        except (DevicePoisoned, DeviceGone) as error:
            return Failed(work.id, _fatal(error), error.message)
        except Exception as error:  # noqa: BLE001 - others' kernels, of whatever quality
            return Failed(work.id, "kernel", _text(error))
        finally:
            for fd in fds:  # a mapping needs none
                os.close(fd)
        return Done(work.id, (time.perf_counter_ns() - begun) // 1000)

    def _ping(self, id_: int) -> FromBroker:
        try:
            self._test()
        except Exception as error:  # noqa: BLE001 - a device that fails what it could do before
            return Failed(id_, _fatal(error), _text(error))
        self._mappings.fade()
        return Pong(id_, self._backend.used_bytes())

    def _tell(self, message: FromBroker) -> None:
        self._link.send(pack(message))


def _fatal(error: Exception) -> Why:
    return "gone" if isinstance(error, DeviceGone) else "poisoned"


def _text(error: Exception) -> str:
    return error.message if isinstance(error, EdgeError) else f"{type(error).__name__}: {error}"


def _end_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that was set
        os._exit(1)


def main(words: list[str]) -> int:
    """See the module."""
    link_fd, arena_fd, size, parent = (int(word) for word in words[:4])
    _end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the node ends us
    module, _, attribute = words[4].partition(":")
    with socket.socket(fileno=link_fd) as link:
        arena = memoryview(mmap.mmap(arena_fd, size))
        os.close(arena_fd)
        try:
            backend: Backend = getattr(importlib.import_module(module), attribute)(int(words[5]))
        except Exception as error:  # noqa: BLE001 - a library that cannot be imported is an answer
            link.send(pack(Unfit(_text(error))))
            return 1
        try:
            Broker(link, arena, backend).serve()
        except (OSError, BrokerLost):  # the node has gone, or makes no sense: there is nobody left to tell
            return 1
        finally:
            backend.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
