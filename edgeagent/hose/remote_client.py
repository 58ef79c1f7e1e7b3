"""The sending side of cross-host hoses: persistent connections to one remote host, one transfer at a time."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from edgeagent.hose.errors import LinkCut
from edgeagent.hose.frames import ID_BYTES, NO_DIGEST, STRIPES_MAX, Offer, identity
from edgeagent.hose.remote_along import answered
from edgeagent.hose.remote_runs import Exchanged
from edgeagent.hose.remote_settings import RemoteSettings, SendReport
from edgeagent.hose.remote_stream import ANSWERS, Job, Stream
from edgeagent.hose.tickets import Ticket
from edgeagent.hose.transfer import stripe_of

__all__ = ["RemoteClient"]

T = TypeVar("T")
R = TypeVar("R")


class RemoteClient:
    """Sends to one listener. ``tickets`` is awaited on the loop for each connection that is opened: it asks the
    remote node over HTTP. Methods on the loop's thread.

    ``server_hostname`` is what the certificate is checked against, ``host`` by default.
    """

    def __init__(
        self,
        host: str,
        port: int,
        tickets: Callable[[], Awaitable[Ticket]],
        settings: RemoteSettings,
        *,
        random_bytes: Callable[[int], bytes],
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> None:
        self._settings = settings
        self._tickets = tickets
        self._random = random_bytes
        self._lock = asyncio.Lock()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        count = max(1, min(settings.streams, STRIPES_MAX))
        self._pool = ThreadPoolExecutor(count, "hose-send")
        self._helpers = ThreadPoolExecutor(count, "hose-check")
        hostname = (server_hostname or host) if tls is not None else None
        self._streams = [
            Stream((host, port), settings, self._ticket, random_bytes, tls, hostname, self._helpers)
            for _ in range(count)
        ]

    def _ticket(self) -> Ticket:
        assert self._loop is not None

        async def on_loop() -> Ticket:
            return await self._tickets()

        future = asyncio.run_coroutine_threadsafe(on_loop(), self._loop)
        try:
            return future.result(self._settings.stall_s)
        except TimeoutError:
            future.cancel()
            raise LinkCut("no ticket in time") from None

    async def send(
        self,
        data: bytes | bytearray | memoryview,
        *,
        transfer: bytes | None = None,
        is_new: bool = False,
        generation: int = 0,
        hashed: bool = False,
        on_released: Callable[[bytes], None] | None = None,
    ) -> SendReport:
        """Send ``data`` and wait until the remote application has it; only then may its bytes change.

        ``is_new`` says that nobody has offered ``transfer`` before, so that data go along with the offer; an id that is
        drawn here always is. ``hashed`` adds a SHA-256 over the whole to the checksums of the frames.
        ``on_released(transfer)`` is called once, just before this returns. Raises a HoseFault; then, and after
        cancellation, nothing reads ``data`` any more, and to send other bytes under the same id takes a higher
        ``generation``.
        """
        with memoryview(data).cast("B") as view:
            is_new = is_new or transfer is None
            id_ = transfer or self._random(ID_BYTES)
            async with self._lock:
                self._loop = asyncio.get_running_loop()
                begun = self._begun(id_, generation, view) if is_new and not hashed else None
                if begun is not None and begun.answers == ANSWERS:
                    length = len(view)
                    report = SendReport(id_, length, length, length, 0)
                else:
                    digest = (await self._on_threads([(_sha256, view)]))[0] if hashed else NO_DIGEST
                    offer = Offer(id_, generation, len(view), 0, len(view), sha256=digest)
                    report = await self._send(offer, view, begun, is_new=is_new)
        if on_released is not None:
            on_released(id_)
        return report

    def _begun(self, id_: bytes, generation: int, view: memoryview) -> Exchanged | None:
        """What the loop could do of it at once, over a connection that is there."""
        if self._closed or self._stripes(len(view)) > 1:
            return None
        return self._streams[0].exchange(identity(id_, generation), view)

    def _stripes(self, total: int) -> int:
        return len(self._streams) if total >= self._settings.stripe_bytes_min else 1

    async def _send(
        self, whole: Offer, view: memoryview, begun: Exchanged | None, *, is_new: bool
    ) -> SendReport:
        stripes = self._stripes(whole.total)
        jobs = [
            Job(
                Offer(
                    whole.transfer,
                    whole.generation,
                    whole.total,
                    *stripe_of(whole.total, stripes, k),
                    k,
                    stripes,
                    whole.sha256,
                ),
                view,
                is_new=is_new,
            )
            for k in range(stripes)
        ]
        stream, first = self._streams[0], jobs[0]
        first.may_return = stripes == 1
        is_sent = begun is not None and stream.go_on_from(begun, first)
        while not first.is_released:
            if is_sent:
                await answered(stream, first)
            else:
                await self._run(jobs)
            is_sent = not is_sent
        return SendReport(
            whole.transfer,
            whole.total,
            sum(job.sent_bytes for job in jobs),
            sum(job.stored_bytes for job in jobs),
            sum(job.connections for job in jobs),
            sum(job.resumes for job in jobs),
        )

    async def _run(self, jobs: list[Job]) -> None:
        for job in jobs:
            job.for_threads()
        pairs = zip(self._streams, jobs, strict=False)
        await self._on_threads([(stream.send, job) for stream, job in pairs], jobs)

    async def _on_threads(self, calls: list[tuple[Callable[[T], R], T]], jobs: Sequence[Job] = ()) -> list[R]:
        """The results; a failure or a cancellation ends all of them, and is raised when the last has ended."""
        loop = asyncio.get_running_loop()
        if self._closed:
            raise LinkCut("the connection was closed")
        futures = [loop.run_in_executor(self._pool, call, argument) for call, argument in calls]
        try:
            # Not gather, which cancels what it waits for: that would end the future of a thread, and not the thread.
            done, _ = await asyncio.wait(futures, return_when=asyncio.FIRST_EXCEPTION)
            for future in done:
                future.result()
            return [future.result() for future in futures]
        except BaseException:
            for job in jobs:
                job.cancelled.set()
            for stream in self._streams[: len(jobs)]:
                stream.interrupt()
            # The threads read the caller's memory: whatever happens, they end first.
            await _settled(futures)
            raise

    async def ping(self) -> float:
        """Round trip in seconds. Raises a HoseFault."""
        async with self._lock:
            self._loop = asyncio.get_running_loop()
            token = int.from_bytes(self._random(8), "little")
            return await self._loop.run_in_executor(self._pool, self._streams[0].ping, token)

    async def close(self) -> None:
        """Close the connections, after the transfer that is running. Idempotent."""
        async with self._lock:
            self._closed = True
            for stream in self._streams:
                await asyncio.to_thread(stream.close)
            self._pool.shutdown(wait=False)
            self._helpers.shutdown(wait=False)


def _sha256(view: memoryview) -> bytes:
    return hashlib.sha256(view).digest()


async def _settled(futures: Sequence[asyncio.Future[Any]]) -> None:
    pending = {future for future in futures if not future.done()}
    while pending:
        try:
            _, pending = await asyncio.wait(pending)
        except asyncio.CancelledError:
            pending = {future for future in pending if not future.done()}
    for future in futures:
        if not future.cancelled():
            future.exception()  # seen, whichever of them is raised
