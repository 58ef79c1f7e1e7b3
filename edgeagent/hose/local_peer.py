"""One session on the hose socket: a process that feeds a hose or is fed from one.

Rules:

1. Anything that the protocol does not allow ends the session, with a typed refusal; other sessions do not notice.
2. A producer's frame is checked before anybody hears of it (``descriptors.check_frame`` and ``check_pages``).
3. Frames that have arrived are delivered in order even when their sender has died: they are immutable and complete.
4. A producer is not read from while its frames hold ``peer_bytes_max`` or more; it then runs out of credits.
5. A consumer that is slow loses the oldest frames of its queue, and only its own.
6. A session takes a place of the node's until its last frame is released, so that dying does not get around bounds.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
import structlog

from edgeagent.hose.descriptors import check_frame, check_pages, close_unchecked, peer_of, receive, send
from edgeagent.hose.messages import (
    BadMessage,
    Bye,
    Credit,
    Hello,
    Message,
    Publish,
    Refusal,
    Role,
    Welcome,
    decode,
    encode,
    refused,
)

__all__ = [
    "Frame",
    "LocalSocketSettings",
    "LocalSocketStats",
    "OnFrame",
    "OnProducer",
    "Payload",
    "Peer",
    "Shared",
]

log = structlog.get_logger("hose")

# So many messages of one peer are read before others have their turn.
BURST = 16
# The pages of a larger frame are looked at on another thread, before it is delivered.
LOOK_HERE_BYTES = 2 << 20


class LocalSocketSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the socket is, who may attach, and what all peers together may hold.

    Descriptors held are at most ``peers_max * credits_max`` for producers and as many, plus ``peers_max * queue_max``,
    for consumers; bytes at most ``peers_max * (peer_bytes_max + frame_bytes_max)``. The node's own user may always
    attach; ``allowed_uids`` are others.
    """

    path: str
    allowed_uids: tuple[int, ...] = ()
    peers_max: int = 64
    peers_per_process_max: int = 16
    credits_max: int = 8
    queue_max: int = 8
    frame_bytes_max: int = 512 << 20
    peer_bytes_max: int = 1 << 30
    hello_s: float = 5.0


class LocalSocketStats(msgspec.Struct):
    """Counters since the start; ``peers`` and ``held_bytes`` are as of now."""

    peers: int = 0
    held_bytes: int = 0
    frames_in: int = 0
    frames_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    dropped: int = 0
    refused: int = 0


class Payload(Protocol):
    """What ``publish`` takes: a range of a sealed memfd. ``release`` is called once, when no consumer needs it."""

    @property
    def fd(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    def release(self) -> None: ...


class Frame:
    """A frame that a producer published: ``bytes`` bytes from ``offset`` of the memfd ``fd``, for ever immutable.

    ``release`` closes the descriptor and gives the producer its credit back; again it does nothing. On the loop's
    thread. What still maps the memfd keeps its memory.
    """

    __slots__ = ("_done", "bytes", "fd", "hose", "offset", "producer", "seq", "uid")

    def __init__(self, producer: Peer, publish: Publish, fd: int, done: Callable[[Frame], None]) -> None:
        self.producer = producer
        self.hose = producer.name
        self.seq = publish.seq
        self.fd = fd
        self.offset = publish.offset
        self.bytes = publish.bytes
        self.uid = producer.uid
        self._done: Callable[[Frame], None] | None = done

    def release(self) -> None:
        done, self._done = self._done, None
        if done is not None:
            os.close(self.fd)
            self.fd = -1
            done(self)


OnFrame = Callable[[str, Frame], Awaitable[None]]
# Hose, producer (to be compared with Frame.producer), whether it came or has gone.
OnProducer = Callable[[str, object, bool], None]


class Shared:
    """A payload on its way to several consumers; released with its last holder."""

    __slots__ = ("_holders", "payload")

    def __init__(self, payload: Payload, holders: int) -> None:
        self.payload = payload
        self._holders = holders

    def drop(self) -> None:
        """One holder less."""
        self._holders -= 1
        if self._holders == 0:
            self.payload.release()


class Node(Protocol):
    """What a session needs of the socket that accepted it."""

    settings: LocalSocketSettings
    stats: LocalSocketStats
    on_frame: OnFrame
    on_producer: OnProducer

    def greeted(self, peer: Peer) -> None:
        """The peer has said what it wants; raises BadMessage to refuse it."""

    def gone(self, peer: Peer) -> None:
        """The session is over and holds nothing any more."""


class Peer:
    """A session, from accept to the release of its last frame."""

    def __init__(self, node: Node, sock: socket.socket) -> None:
        self.name = ""
        self.role: Role | None = None
        self.pid, self.uid = peer_of(sock)
        self.dropped = 0
        self._node = node
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._reading = False
        self._credits = 0
        self._generation = secrets.randbits(64)
        self._hello_timer = self._loop.call_later(node.settings.hello_s, self._no_hello)
        # Of a producer: frames not yet released, those of them not yet delivered, and who delivers.
        self._held: dict[int, Frame] = {}
        self._held_bytes = 0
        self._last_seq = 0
        self._arrived: deque[Frame] = deque()
        self._delivery: asyncio.Task[None] | None = None
        # Of a consumer: frames sent and not yet returned, and those for which there is no credit.
        self._sent: dict[int, Shared] = {}
        self._queue: deque[Shared] = deque()
        self._read_on()

    @property
    def is_open(self) -> bool:
        return self._open

    # ---- reading ----

    def _read_on(self) -> None:
        wanted = self._open and self._held_bytes < self._node.settings.peer_bytes_max
        if wanted and not self._reading:
            self._loop.add_reader(self._sock, self._on_readable)
        elif self._reading and not wanted:
            self._loop.remove_reader(self._sock)
        self._reading = wanted

    def _on_readable(self) -> None:
        for _ in range(BURST):
            if not self._reading:
                return
            try:
                data, fd = receive(self._sock)
            except BlockingIOError:
                return
            except BadMessage as error:
                self.refuse(error.code, str(error))
                return
            except OSError:
                self.close()
                return
            self._take(data, fd)

    def _take(self, data: bytes, fd: int | None) -> None:
        """Act on one message; a descriptor that did not become a frame is closed."""
        kept = False
        try:
            # An empty message cannot be told from the end, and means it.
            message = decode(data) if data else Bye()
            if (fd is not None) != isinstance(message, Publish):
                what = "a frame comes with" if fd is None else "only a frame comes with"
                raise BadMessage(Refusal.DESCRIPTOR, f"{what} a descriptor")
            kept = self._act(message, fd)
        except BadMessage as error:
            self.refuse(error.code, str(error))
        finally:
            if fd is not None and not kept:
                close_unchecked(fd)

    def _act(self, message: Message, fd: int | None) -> bool:
        match message:
            case Bye():
                self.close()
            case Hello() if self.role is None:
                self._greet(message)
            case Publish() if self.role is Role.PRODUCER and fd is not None:
                self._accept(message, fd)
                return True
            case Credit() if self.role is Role.CONSUMER:
                self._credit(message)
            case _:
                raise BadMessage(Refusal.PROTOCOL, f"{type(message).__name__.lower()} is out of turn")
        return False

    def _greet(self, hello: Hello) -> None:
        self.name = hello.name
        most = self._node.settings.credits_max
        self._credits = min(hello.credits or most, most)
        self._node.greeted(self)
        self._hello_timer.cancel()
        self.role = hello.role
        if self.role is Role.PRODUCER:
            self._node.on_producer(self.name, self, True)
        self._tell(Welcome(self._credits, self._generation))

    def _no_hello(self) -> None:
        self.refuse(Refusal.PROTOCOL, "no hello in time")

    # ---- of a producer ----

    def _accept(self, publish: Publish, fd: int) -> None:
        settings, stats = self._node.settings, self._node.stats
        if publish.generation != self._generation or publish.seq != self._last_seq + 1:
            raise BadMessage(Refusal.STALE, "the frame's generation or number is not this session's next")
        if len(self._held) >= self._credits:
            raise BadMessage(Refusal.CREDITS, f"more than {self._credits} frames at once")
        if publish.offset + publish.bytes > settings.frame_bytes_max:
            raise BadMessage(
                Refusal.TOO_LARGE, f"a frame ends by byte {settings.frame_bytes_max} of its memfd"
            )
        check_frame(fd, publish.offset, publish.bytes)
        if publish.bytes <= LOOK_HERE_BYTES:
            check_pages(fd, publish.offset, publish.bytes)
        frame = Frame(self, publish, fd, self._done)
        self._last_seq = publish.seq
        self._held[publish.seq] = frame
        self._held_bytes += frame.bytes
        stats.held_bytes += frame.bytes
        stats.frames_in += 1
        stats.bytes_in += frame.bytes
        self._arrived.append(frame)
        if self._delivery is None:
            self._delivery = self._loop.create_task(self._deliver(), name=f"hose-{self.name}")
        self._read_on()

    async def _deliver(self) -> None:
        try:
            while self._arrived:
                await self._deliver_one(self._arrived.popleft())
        finally:
            self._delivery = None
            self._detach_when_done()

    async def _deliver_one(self, frame: Frame) -> None:
        try:
            if frame.bytes > LOOK_HERE_BYTES:
                await self._look_at_pages(frame)
            await self._node.on_frame(self.name, frame)
        except asyncio.CancelledError:
            frame.release()
            raise
        except BadMessage as error:
            self.refuse(error.code, str(error))
            frame.release()
        except Exception:
            log.exception("hose_frame_failed", hose=self.name, seq=frame.seq)
            frame.release()

    async def _look_at_pages(self, frame: Frame) -> None:
        looking = self._loop.run_in_executor(None, check_pages, frame.fd, frame.offset, frame.bytes)
        try:
            await asyncio.shield(looking)
        except asyncio.CancelledError:
            await asyncio.gather(looking, return_exceptions=True)  # until then it uses the descriptor
            raise

    def _done(self, frame: Frame) -> None:
        del self._held[frame.seq]
        self._held_bytes -= frame.bytes
        self._node.stats.held_bytes -= frame.bytes
        if self._open:
            self._tell(Credit(frame.seq, self._generation))
            self._read_on()
        elif not self._held:
            self._node.gone(self)

    # ---- of a consumer ----

    def offer(self, shared: Shared) -> None:
        """Send the frame, or queue it until there is a credit; the oldest of a full queue is dropped."""
        if not self._open:
            shared.drop()
            return
        if len(self._queue) >= self._node.settings.queue_max:
            self._drop(self._queue.popleft())
        self._queue.append(shared)
        self._send_queued()

    def _send_queued(self) -> None:
        while self._open and self._queue and len(self._sent) < self._credits:
            shared = self._queue.popleft()
            payload = shared.payload
            message = Publish(self._last_seq + 1, self._generation, payload.offset, payload.bytes)
            try:
                send(self._sock, encode(message), payload.fd)
            except (BrokenPipeError, ConnectionError):
                shared.drop()
                self.close()
            except OSError as error:
                # No room for a descriptor in flight: this frame is lost, not the session.
                log.warning("hose_frame_not_sent", hose=self.name, pid=self.pid, error=str(error))
                self._drop(shared)
            else:
                self._last_seq = message.seq
                self._sent[message.seq] = shared
                self._node.stats.frames_out += 1
                self._node.stats.bytes_out += payload.bytes

    def _drop(self, shared: Shared) -> None:
        self.dropped += 1
        self._node.stats.dropped += 1
        shared.drop()

    def _credit(self, credit: Credit) -> None:
        shared = self._sent.pop(credit.seq, None) if credit.generation == self._generation else None
        if shared is None:
            raise BadMessage(Refusal.STALE, "the credit is for no frame that is out")
        shared.drop()
        self._send_queued()

    # ---- the end ----

    def _tell(self, message: Message) -> None:
        try:
            send(self._sock, encode(message))
        except OSError:  # gone, or it has stopped reading what it is told
            self.close()

    def refuse(self, code: Refusal, text: str) -> None:
        """End the session and tell the peer why."""
        if not self._open:
            return
        self._node.stats.refused += 1
        log.warning(
            "hose_refused", hose=self.name, pid=self.pid, uid=self.uid, code=code.name.lower(), why=text
        )
        self._tell(refused(code, text))
        self.close()

    def close(self) -> None:
        """End the session. Frames that arrived are still delivered; a consumer's frames are let go."""
        if not self._open:
            return
        self._open = False
        self._hello_timer.cancel()
        self._read_on()
        self._sock.close()
        for shared in (*self._sent.values(), *self._queue):
            shared.drop()
        self._sent.clear()
        self._queue.clear()
        self._detach_when_done()
        if not self._held:
            self._node.gone(self)

    def _detach_when_done(self) -> None:
        """The producer has gone, and nothing more of it will be delivered."""
        if self.role is Role.PRODUCER and not self._open and self._delivery is None:
            self._node.on_producer(self.name, self, False)

    async def stop(self) -> None:
        """Close, and release what was not delivered yet; what ``on_frame`` has kept is its own to release."""
        if self._open:
            self._tell(Bye())
        self.close()
        delivery = self._delivery
        if delivery is not None:
            delivery.cancel()
            await asyncio.gather(delivery, return_exceptions=True)
        while self._arrived:
            self._arrived.popleft().release()
