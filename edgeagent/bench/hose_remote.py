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
from contextlib import ExitStack, contextmanager
from typing import Any

from edgeagent.bench.harness import Bench, Case, Sample, Sampler
from edgeagent.bench.hose_cycle import SIZES
from edgeagent.bench.hose_rig import KIB, MIB, size_name
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
        begun = time.perf_counter()
        self.loop.run_until_complete(self._client.send(data))
        return _rate(data, begun)

    def by_socket(self, data: memoryview) -> Sample:
        begun = time.perf_counter()
        self._plain.sendall(b"p" + len(data).to_bytes(8, "little"))
        self._plain.sendall(data)
        return self._done(data, begun)

    def by_splice(self, data: memoryview) -> Sample:
        begun = time.perf_counter()
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
        return self._done(data, begun)

    def _done(self, data: memoryview, begun: float) -> Sample:
        if self._plain.recv(1) != b"k":
            raise RuntimeError("the other process has ended")
        return _rate(data, begun)


def _rate(data: memoryview, begun: float) -> Sample:
    spent_s = time.perf_counter() - begun
    return len(data) / spent_s / 1e9, {"ms": spent_s * 1000}


@contextmanager
def _linked() -> Iterator[_Link]:
    with ExitStack() as stack:
        yield _Link(stack)


def _opener(count: int) -> Any:
    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        link = bench.share("hose-remote", _linked)
        memory = mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.write(b"\1" * count)
        data = memoryview(memory)
        yield {
            "ours": lambda: link.by_hose(data),
            "plain-socket": lambda: link.by_socket(data),
            "roadrunner-network": lambda: link.by_splice(data),
        }

    return opened


def remote_cases() -> list[Case]:
    return [
        Case(
            name=f"cross-host-{size_name(count)}",
            unit="GB/s",
            better="higher",
            open=_opener(count),
            params={"bytes": count},
            rounds=21 if count <= 64 * MIB else 5,
            memory_bytes=6 * count + 64 * MIB,
            group="hose-remote",
        )
        for count in SIZES
        if count >= MIB
    ]


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
    async def deliver(_: Delivery) -> None:
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
