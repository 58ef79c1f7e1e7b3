"""Drives a gossip core over sockets: datagrams, exchanges and timers in, effects out.

The core decides, this carries out: it opens what comes in, seals what goes out, and keeps the one timer. What cannot be
opened is counted and forgotten, whoever sent it.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable, Hashable
from typing import Protocol

import structlog

from edgeagent.gossip.commands import Command
from edgeagent.gossip.core import Mesh
from edgeagent.gossip.effects import Arm, Dial, Effect, Hangup, Notice, Notify, Persist, Send, StreamSend
from edgeagent.mesh.addresses import AddressRefused, Allowed, Endpoint, endpoint_of, text_of
from edgeagent.mesh.sockets import Datagrams, SocketCounters, Stream, StreamBounds, Streams
from edgeagent.model.errors import EdgeError

__all__ = ["Carrier", "Links", "PlainSeal", "Seal"]

log = structlog.get_logger("mesh")

_DIALS_MAX = 64
_HOSTS_COMPLAINED, _COMPLAIN_S = 256, 3600.0


class Seal(Protocol):
    """What keeps strangers out. ``open`` raises an EdgeError for what is not of this cluster, or not fresh."""

    def seal(self, data: bytes) -> bytes: ...
    def open(self, data: bytes, source: str) -> bytes: ...


class Links(Protocol):
    """Emulated links: how long a packet to an address takes, seconds; None: it does not arrive. ``loses`` is asked once
    for each datagram.
    """

    def loses(self) -> bool: ...
    def delay_s(self, address: str) -> float | None: ...


class PlainSeal:
    """No keys: for loopback only."""

    def seal(self, data: bytes) -> bytes:
        return data

    def open(self, data: bytes, source: str) -> bytes:
        return data


class Carrier:
    """``hear`` gets every notice, ``persist`` every incarnation, both on the loop's thread; neither may raise.

    Methods on the loop's thread.
    """

    def __init__(
        self,
        core: Mesh,
        seal: Seal,
        allowed: Allowed,
        *,
        hear: Callable[[Notice], None],
        persist: Callable[[int], None],
        bounds: StreamBounds | None = None,
    ) -> None:
        self.core = core
        self.counters = SocketCounters()
        self.refused = 0  # datagrams and frames that the seal did not open
        self.strange = 0  # packets to addresses outside of the allowed networks
        self.links: Links | None = None  # emulated
        self.cut_off = 0  # packets that emulated links did not carry
        self._seal = seal
        self._allowed = allowed
        self._hear = hear
        self._persist = persist
        self._datagrams = Datagrams(self._datagram, self.counters)
        self._streams = Streams(self._serve, bounds or StreamBounds(), self.counters)
        self._talks: dict[Hashable, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._endpoints: dict[str, Endpoint | None] = {}
        self._complained: dict[str, float] = {}

    async def open(self, udp: socket.socket, tcp: socket.socket) -> None:
        """Listen on both (:func:`sockets.bound_sockets`), which are then this object's."""
        loop = self._loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self._datagrams, sock=udp)
        await self._streams.listen(tcp)

    def start(self) -> None:
        """Let the core live."""
        self._carry_out(self.core.start(self._now_s()))

    def command(self, command: Command) -> None:
        """Raises RecordRefused."""
        self._carry_out(self.core.on_command(self._now_s(), command))

    async def close(self) -> None:
        """Stop at once; a farewell is the caller's (``Leave``). Idempotent."""
        self._loop = None  # nothing reaches the core any more
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._streams.close()
        self._datagrams.close()

    def _now_s(self) -> float:
        assert self._loop is not None
        return self._loop.time()

    def _opened(self, data: bytes, source: str) -> bytes | None:
        try:
            return self._seal.open(data, source)
        except EdgeError as error:
            self.refused += 1
            self._complain(source.rpartition(":")[0], error)
            return None

    def _complain(self, host: str, error: EdgeError) -> None:
        """Once an hour for each host, of which there are a few: strangers must not fill the log."""
        now_s = asyncio.get_running_loop().time()
        if (
            len(self._complained) >= _HOSTS_COMPLAINED
            or now_s - self._complained.get(host, -math.inf) < _COMPLAIN_S
        ):
            return
        self._complained[host] = now_s
        log.warning(
            "packets that do not open",
            why=error.message,
            hint="has that node the keys of this cluster, and the newest ones? edgeagent_mesh_refused_total counts on",
        )

    def _datagram(self, source: Endpoint, data: bytes) -> None:
        address = text_of(source)
        opened = self._opened(data, address)
        if opened is not None and self._loop is not None:
            self._carry_out(self.core.on_datagram(self._now_s(), address, opened))

    def _endpoint(self, address: str) -> Endpoint | None:
        """The socket's address, None where the mesh has no business there."""
        if address in self._endpoints:
            return self._endpoints[address]
        endpoint: Endpoint | None
        try:
            endpoint = endpoint_of(address)
        except AddressRefused:
            endpoint = None
        if endpoint is not None and endpoint[0] not in self._allowed:
            endpoint = None
        if endpoint is None:
            log.warning("an address outside of mesh.allowed is left alone", address=address[:80])
        if len(self._endpoints) >= 65536:
            self._endpoints.clear()
        self._endpoints[address] = endpoint
        return endpoint

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    self._send(effect)
                case Arm():
                    self._arm(effect)
                case Notify():
                    self._hear(effect.notice)
                case Dial():
                    self._dial(effect)
                case StreamSend():
                    stream = self._talks.get(effect.stream)
                    if stream is not None:
                        stream.write(self._seal.seal(effect.data))
                case Hangup():
                    stream = self._talks.pop(effect.stream, None)
                    if stream is not None:
                        stream.end()
                case Persist():
                    self._persist(effect.incarnation)

    def _send(self, effect: Send) -> None:
        endpoint = self._endpoint(effect.address)
        if endpoint is None:
            self.strange += 1
            return
        if self.links is None:
            self._datagrams.send(endpoint, self._seal.seal(effect.data))
            return
        delay_s = self.links.delay_s(effect.address)
        if delay_s is None or self.links.loses():
            self.cut_off += 1
        elif self._loop is not None:
            self._loop.call_later(delay_s, self._datagrams.send, endpoint, self._seal.seal(effect.data))

    def _arm(self, effect: Arm) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._loop is not None:
            self._timer = self._loop.call_at(effect.at_s, self._fire, effect.token)

    def _fire(self, token: int) -> None:
        self._timer = None
        if self._loop is not None:
            self._carry_out(self.core.on_timer(self._now_s(), token))

    def _dial(self, effect: Dial) -> None:
        endpoint = self._endpoint(effect.address)
        delay_s = 0.0 if self.links is None else self.links.delay_s(effect.address)
        if endpoint is None or delay_s is None or len(self._tasks) >= _DIALS_MAX:
            self.strange += endpoint is None
            self.cut_off += delay_s is None
            # Not from within the core's own call.
            asyncio.get_running_loop().call_soon(self._closed, effect.stream)
            return
        task = asyncio.ensure_future(self._talk(effect, endpoint, delay_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _talk(self, dial: Dial, to: Endpoint, delay_s: float) -> None:
        if delay_s:  # an emulated path: there and back for the handshake, there for the first frame
            await asyncio.sleep(3 * delay_s)
        stream = await self._streams.dial(to)
        if stream is None:
            self._closed(dial.stream)
            return
        self._talks[dial.stream] = stream
        stream.write(self._seal.seal(dial.data))
        await self._converse(dial.stream, stream)

    async def _serve(self, stream: Stream) -> None:
        await self._converse(("in", id(stream)), stream)

    async def _converse(self, name: Hashable, stream: Stream) -> None:
        self._talks[name] = stream
        source = text_of(stream.peer)
        try:
            while (frame := await stream.read()) is not None:
                opened = self._opened(frame, source)
                if opened is None or self._loop is None:
                    break
                self._carry_out(self.core.on_stream(self._now_s(), name, opened))
                if name not in self._talks:  # the core hung up
                    return
        finally:
            if self._talks.pop(name, None) is not None:
                stream.cut()
                self._closed(name)

    def _closed(self, name: Hashable) -> None:
        if self._loop is not None:
            self._carry_out(self.core.on_stream_closed(self._now_s(), name))
