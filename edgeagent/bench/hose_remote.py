"""``cross-host-SIZE``: whole transfers over loopback TCP into resident memory of another process, in GB/s.

- ours: ``edgeagent.hose.remote``, checked, acknowledged, received into a buffer of known length; one kept connection.
- ``plain-socket``: the ceiling: 1 MiB pieces into a buffer that was there before, one byte back when all is there.
- ``roadrunner-network``: as Roadrunner's network mode is described (docs/hoses.md names the paper): vmsplice and splice
  in 64 KiB steps on one side, a vector that grows as it reads on the other, and a copy from it into the guest's memory.

Both processes share the machine's cores, and nothing here is a network: read the ratios.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import mmap
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial

from edgeagent.bench.harness import Bench, Case, Sample, Sampler
from edgeagent.bench.hose_cases import FROM_1MIB, Shape, sized_cases
from edgeagent.bench.hose_cost import Cost
from edgeagent.bench.hose_rig import KIB, MIB
from edgeagent.hose.remote import (
    Buffer,
    Delivery,
    RemoteClient,
    RemoteListener,
    RemoteSettings,
    Scope,
    Ticket,
)

__all__ = ["remote_cases"]

_PIECE_BYTES = MIB
_SPLICE_BYTES = 64 * KIB
_LISTEN = "import edgeagent.bench.hose_remote as m; m.serve()"
_SCOPE = Scope("bench", 1 << 40)
_SETTINGS = RemoteSettings(held_bytes_max=2 << 30, compression="never")


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class _Link:
    """The three ways to the other process; used from one thread."""

    def __init__(self, stack: ExitStack) -> None:
        command = [sys.executable, "-c", _LISTEN]
        child = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        stack.callback(child.terminate)
        self.pid = child.pid
        assert child.stdout is not None
        ports = json.loads(child.stdout.readline())
        self.loop = asyncio.new_event_loop()
        stack.callback(self.loop.close)
        ticket = Ticket(
            id=bytes.fromhex(ports["ticket"]),
            secret=bytes.fromhex(ports["secret"]),
            scope=_SCOPE,
            expires_s=ports["expires_s"],
        )

        async def tickets() -> Ticket:
            return ticket

        self._client = RemoteClient(
            "127.0.0.1", ports["hose"], tickets, _SETTINGS, random_bytes=secrets.token_bytes
        )
        stack.callback(lambda: self.loop.run_until_complete(self._client.close()))
        self._plain = stack.enter_context(socket.create_connection(("127.0.0.1", ports["plain"])))
        self._libc = ctypes.CDLL(None, use_errno=True)

    def by_hose(self, data: memoryview) -> Sample:
        return self.loop.run_until_complete(self._by_hose(data))

    async def _by_hose(self, data: memoryview) -> Sample:
        """Timed on the loop: a node's runs already."""
        cost = Cost(self.pid)
        await self._client.send(data)
        return _rate(data, cost)

    def by_socket(self, data: memoryview) -> Sample:
        cost = Cost(self.pid)
        self._plain.sendall(b"p" + len(data).to_bytes(8, "little"))
        self._plain.sendall(data)
        self._await_all()
        return _rate(data, cost)

    def by_splice(self, data: memoryview) -> Sample:
        cost = Cost(self.pid)
        self._plain.sendall(b"s" + len(data).to_bytes(8, "little"))
        base = ctypes.addressof(ctypes.c_char.from_buffer(data))
        read, write = os.pipe()
        try:
            at = 0
            while at < len(data):
                piece = _IoVec(base + at, min(_SPLICE_BYTES, len(data) - at))
                moved = self._libc.vmsplice(write, ctypes.byref(piece), 1, 0)
                if moved < 0:
                    raise OSError(ctypes.get_errno(), "vmsplice")
                at += moved
                while moved:
                    moved -= os.splice(read, self._plain.fileno(), moved)
        finally:
            os.close(read)
            os.close(write)
        self._await_all()
        return _rate(data, cost)

    def _await_all(self) -> None:
        if self._plain.recv(1) != b"k":
            raise RuntimeError("the other process has ended")


@contextmanager
def _linked() -> Iterator[_Link]:
    with ExitStack() as stack:
        yield _Link(stack)


def _contestants(bench: Bench, count: int, stack: ExitStack) -> dict[str, Sampler]:
    link = bench.share("hose-remote", _linked)
    memory = stack.enter_context(closing(mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)))
    memory.write(b"\1" * count)
    data = stack.enter_context(memoryview(memory))
    ways = {
        "ours": link.by_hose,
        "plain-socket": link.by_socket,
        "roadrunner-network": link.by_splice,
    }
    return {name: partial(way, data) for name, way in ways.items()}


def _rate(data: memoryview, cost: Cost) -> Sample:
    """In GB/s, with the time and the cost in both processes."""
    ms, more = cost.spent()
    return len(data) / ms / 1e6, {"ms": ms, **more}


def remote_cases() -> list[Case]:
    """From 1 MiB: below, round trips are all that could be seen."""
    shape = Shape(unit="GB/s", better="higher", sizes=FROM_1MIB, group="hose-remote")
    return sized_cases("cross-host-{}", _contestants, shape)


class _Resident(Buffer):
    """Memory that is there already: one of each length, used again and again."""

    _known: dict[int, mmap.mmap] = {}  # noqa: RUF012 - the cache of this process

    def __init__(self, length: int) -> None:
        if length not in self._known:
            self._known[length] = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self._known[length].write(bytes(length))
        self._view = memoryview(self._known[length])

    @property
    def view(self) -> memoryview:
        return self._view

    def publish(self, length: int) -> memoryview:
        return self._view[:length]

    def close(self) -> None:
        pass


def _receive(link: socket.socket) -> None:
    """The other end of ``plain-socket`` and ``roadrunner-network``, until the connection closes."""
    while head := link.recv(9, socket.MSG_WAITALL):
        count = int.from_bytes(head[1:], "little")
        target = _Resident(count).view
        if head[:1] == b"p":
            at = 0
            while at < count:
                at += link.recv_into(target[at : at + _PIECE_BYTES])
        else:
            grown = bytearray()
            while len(grown) < count:
                grown += link.recv(min(_SPLICE_BYTES, count - len(grown)))
            target[:] = grown
        link.sendall(b"k")


async def _listen() -> None:
    def deliver(_: Delivery) -> None:
        pass

    listener = RemoteListener(
        _SETTINGS, _Resident, deliver, clock=time.monotonic, random_bytes=secrets.token_bytes
    )
    port = await listener.start()
    ticket = listener.issue_ticket(_SCOPE, uses=1000, ttl_s=3600)
    plain = socket.create_server(("127.0.0.1", 0))
    ports = {
        "hose": port,
        "plain": plain.getsockname()[1],
        "expires_s": ticket.expires_s,
        "ticket": ticket.id.hex(),
        "secret": ticket.secret.hex(),
    }
    print(json.dumps(ports), flush=True)
    link, _ = await asyncio.to_thread(plain.accept)
    await asyncio.to_thread(_receive, link)
    await listener.stop()


def serve() -> None:
    """The other process."""
    asyncio.run(_listen())
