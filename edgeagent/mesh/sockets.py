"""The sockets of the mesh: UDP for datagrams and TCP for exchanges, on one port.

Nothing is read faster than it is handled, and nothing is kept beyond a bound: streams are limited in all and by
address, each has a time for the next frame, and a peer that does not read loses its stream instead of holding memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import cast

import msgspec

from edgeagent.mesh.addresses import Endpoint, is_loopback, text_of
from edgeagent.model.errors import BadConfig

__all__ = ["Datagrams", "SocketCounters", "Stream", "StreamBounds", "Streams", "bound_sockets"]

_LENGTH = struct.Struct(">I")
_PORTS_TRIED = 16
_RECEIVE_BYTES = 1 << 20  # asked for; a burst of a thousand datagrams waits here while the loop is busy


class SocketCounters(msgspec.Struct):
    """Since the start, for metrics. Bytes are those of datagrams and frames, without IP, UDP and TCP."""

    datagrams_in: int = 0
    datagrams_out: int = 0
    datagram_bytes_in: int = 0
    datagram_bytes_out: int = 0
    datagrams_lost: int = 0  # the kernel would not take them
    stream_bytes_in: int = 0
    stream_bytes_out: int = 0
    streams: int = 0
    streams_refused: int = 0  # by a bound


class StreamBounds(msgspec.Struct, frozen=True, kw_only=True):
    """``frame_bytes_max`` counts a frame as it is on the wire; ``idle_s`` is the longest wait for a whole frame."""

    accepted_max: int = 64
    accepted_max_per_host: int = 8
    frame_bytes_max: int = 65536 + 128
    written_bytes_max: int = 8 << 20  # queued for one peer
    idle_s: float = 15.0
    connect_s: float = 5.0


def bound_sockets(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A UDP and a listening TCP socket on one port; 0 is any that is free for both. Raises BadConfig."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for attempt in range(_PORTS_TRIED):
        tcp = socket.socket(family, socket.SOCK_STREAM)
        udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind((host, port))
            udp.bind((host, tcp.getsockname()[1]))
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
            tcp.listen(64)
        except OSError as error:
            tcp.close()
            udp.close()
            if port == 0 and attempt + 1 < _PORTS_TRIED:
                continue
            raise BadConfig(
                f"mesh.listen = {text_of((host, port))!r}: {error.strerror or error}",
                hint="choose an address of this machine and a free port",
            ) from None
        tcp.setblocking(False)
        udp.setblocking(False)
        return udp, tcp
    raise AssertionError


class Datagrams(asyncio.DatagramProtocol):
    """``took(source, data)`` is called for each datagram."""

    def __init__(self, took: Callable[[Endpoint, bytes], None], counters: SocketCounters) -> None:
        self._took = took
        self._counters = counters
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        self._counters.datagrams_in += 1
        self._counters.datagram_bytes_in += len(data)
        self._took((str(addr[0]), int(addr[1])), data)

    def error_received(self, exc: Exception) -> None:
        # ICMP: nobody listens there. Probes find that out by themselves.
        self._counters.datagrams_lost += 1

    def send(self, to: Endpoint, data: bytes) -> None:
        """Send, or lose: gossip repeats itself."""
        transport, counters = self._transport, self._counters
        if transport is None or transport.is_closing():
            return
        try:
            transport.sendto(data, to)
        except OSError:  # no route, another address family
            counters.datagrams_lost += 1
            return
        counters.datagrams_out += 1
        counters.datagram_bytes_out += len(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Stream:
    """One TCP connection with frames behind their length (4 bytes, big-endian)."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        bounds: StreamBounds,
        counters: SocketCounters,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._bounds = bounds
        self._counters = counters
        peer = writer.get_extra_info("peername") or ("", 0)
        self.peer: Endpoint = (str(peer[0]), int(peer[1]))

    def write(self, frame: bytes) -> bool:
        """Queue a frame; False: the peer does not read, and the stream is cut."""
        self._writer.write(_LENGTH.pack(len(frame)) + frame)
        self._counters.stream_bytes_out += _LENGTH.size + len(frame)
        if self._writer.transport.get_write_buffer_size() > self._bounds.written_bytes_max:
            self._writer.transport.abort()
            return False
        return True

    async def read(self) -> bytes | None:
        """The next frame; None at the end, at a time-out and for a length beyond the bound."""
        try:
            async with asyncio.timeout(self._bounds.idle_s):
                head = await self._reader.readexactly(_LENGTH.size)
                (length,) = _LENGTH.unpack(head)
                if length > self._bounds.frame_bytes_max:
                    return None
                frame = await self._reader.readexactly(length)
        except (OSError, EOFError, TimeoutError):
            return None
        self._counters.stream_bytes_in += _LENGTH.size + length
        return frame

    def end(self) -> None:
        """Send what is queued, then close."""
        self._writer.close()

    def cut(self) -> None:
        self._writer.transport.abort()


class Streams:
    """The TCP side. ``serve`` is awaited for each stream that comes in, and ends with it."""

    def __init__(
        self, serve: Callable[[Stream], Awaitable[None]], bounds: StreamBounds, counters: SocketCounters
    ) -> None:
        self.counters = counters
        self._serve = serve
        self._bounds = bounds
        self._server: asyncio.Server | None = None
        self._hosts: Counter[str] = Counter()
        self._open: set[Stream] = set()

    async def listen(self, listening: socket.socket) -> None:
        self._server = await asyncio.start_server(
            self._accepted, sock=listening, limit=self._bounds.frame_bytes_max + _LENGTH.size
        )

    async def dial(self, to: Endpoint) -> Stream | None:
        """A stream to an address, None where nobody answers."""
        try:
            async with asyncio.timeout(self._bounds.connect_s):
                reader, writer = await asyncio.open_connection(
                    *to, limit=self._bounds.frame_bytes_max + _LENGTH.size
                )
        except (OSError, TimeoutError):
            return None
        return Stream(reader, writer, self._bounds, self.counters)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = Stream(reader, writer, self._bounds, self.counters)
        host = stream.peer[0]
        bounds = self._bounds
        crowded = self._hosts[host] >= bounds.accepted_max_per_host and not is_loopback(host)
        if crowded or len(self._open) >= bounds.accepted_max:
            self.counters.streams_refused += 1
            stream.cut()
            return
        self.counters.streams += 1
        self._open.add(stream)
        self._hosts[host] += 1
        try:
            await self._serve(stream)
        finally:
            self._open.discard(stream)
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]

    async def close(self) -> None:
        """Cut what is open. Idempotent."""
        if self._server is not None:
            self._server.close()
        for stream in list(self._open):
            stream.cut()
        if self._server is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._server.wait_closed()
