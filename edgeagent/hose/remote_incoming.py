"""What the connections of a listener share: the bounds, the book of tickets, the inbox, and the transfers under way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import structlog

from edgeagent.hose.errors import HoseFault, NoRoom
from edgeagent.hose.inbox import Entry, Inbox
from edgeagent.hose.remote_buffers import Allocate, Buffer, Delivery
from edgeagent.hose.remote_link import Link
from edgeagent.hose.remote_settings import ListenerStats, RemoteSettings
from edgeagent.hose.tickets import TicketBook

__all__ = ["Incoming", "Room", "Shared"]

log = structlog.get_logger("hose")


class Incoming:
    """What an inbox entry stands for: the buffer, and the outcome that the stripes' threads wait for.

    ``changed`` guards all of it. One lock and not three: a small transfer costs little more than what is made for it.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.Lock())
        self.buffer: Buffer | None = None
        self.is_over = False
        self.fault: HoseFault | None = None
        self.delivering = False
        self.links: dict[int, Link] = {}  # by stripe: who carries it
        self.arrived: set[int] = set()  # stripes whose threads no longer touch the memory

    def memory(self, allocate: Allocate, total: int) -> memoryview:
        """The destination, allocated by the first stripe that comes. Raises NoRoom."""
        with self.changed:
            try:
                if self.buffer is None:
                    self.buffer = allocate(total)
                view = self.buffer.view[:total]
                if len(view) != total or view.readonly:
                    raise BufferError("the buffer is too short or cannot be written")
            except (MemoryError, OSError, BufferError, ValueError) as error:
                log.warning("hose buffer refused", bytes=total, error=str(error) or type(error).__name__)
                raise NoRoom(f"no memory for {total} bytes", retry_after_s=1.0) from None
        return view

    def adopt(self, buffer: Buffer) -> bool:
        """The destination, which was there before the transfer was; False, and it is closed, if there is one."""
        with self.changed:
            if self.buffer is None:
                self.buffer = buffer
                return True
        buffer.close()
        return False

    def free(self, stripe: int) -> None:
        """The connection that carried the stripe has let go of it."""
        with self.changed:
            self.links.pop(stripe, None)
            self.changed.notify_all()

    def wait_free(self, stripe: int, link: Link, within_s: float) -> None:
        """Until ``link`` has let go of the stripe."""
        with self.changed:
            self.changed.wait_for(lambda: self.links.get(stripe) is not link, within_s)

    def end(self) -> None:
        """The outcome is there, or there will be none."""
        with self.changed:
            self.is_over = True
            self.changed.notify_all()

    def wait_over(self, within_s: float) -> None:
        """For the outcome."""
        with self.changed:
            self.changed.wait_for(lambda: self.is_over, within_s)

    def close(self) -> None:
        with self.changed:
            buffer, self.buffer = self.buffer, None
        if buffer is not None:
            buffer.close()


class Room:
    """A buffer that is there before the transfer that needs it, of the size that the last one had: so its bytes are
    received while it is looked up what they are.
    """

    def __init__(self, allocate: Allocate) -> None:
        self._allocate = allocate
        self._buffer: Buffer | None = None
        self.view: memoryview | None = None

    def prepare(self, count: int) -> None:
        """Where there is no memory there is no room, and what comes has to wait for some."""
        self.close()
        with suppress(MemoryError, OSError, BufferError, ValueError):
            self._buffer = self._allocate(count)
            self.view = self._buffer.view[:count]

    def take(self) -> Buffer:
        """It is the caller's from now on; what comes next finds no room."""
        buffer, self._buffer = self._buffer, None
        assert buffer is not None
        self._release()
        return buffer

    def _release(self) -> None:
        view, self.view = self.view, None
        if view is not None:
            view.release()

    def close(self) -> None:
        """Idempotent."""
        self._release()
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            buffer.close()


class Shared:
    """What all connections of a listener use; ``lock`` guards book, inbox and stats, and is never held for long."""

    def __init__(
        self,
        settings: RemoteSettings,
        stats: ListenerStats,
        book: TicketBook,
        inbox: Inbox,
        allocate: Allocate,
        clock: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        deliver: Callable[[Delivery, float], None],
    ) -> None:
        self.settings = settings
        self.stats = stats
        self.book = book
        self.inbox = inbox
        self.allocate = allocate
        self.clock = clock
        self.random_bytes = random_bytes
        self.deliver = deliver
        self.lock = threading.Lock()
        self.stopped = False

    def expire(self) -> None:
        """Give up what nobody came back for."""
        with self.lock:
            self.book.expire(self.clock())
            gone = self.inbox.expire(self.clock())
            self.stats.expired += sum(not entry.delivered for entry in gone)
        self.close(gone)

    def close(self, entries: list[Entry]) -> None:
        """Close the buffers of entries that the inbox has forgotten."""
        for entry in entries:
            if entry.attachment is not None:
                entry.attachment.close()

    def stop(self) -> None:
        """Wake the threads that wait for an application."""
        with self.lock:
            self.stopped = True
            for entry in self.inbox.remembered():
                if entry.attachment is not None:
                    entry.attachment.end()

    def close_all(self) -> None:
        """The end: no thread is left."""
        with self.lock:
            entries = self.inbox.remembered()
            for entry in entries:
                self.inbox.forget(entry)
        self.close(entries)
