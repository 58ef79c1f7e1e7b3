"""A hose socket for tests: its loop runs on a thread of its own, so that tests can be plain sequences of calls."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from edgeagent.hose.local_peer import Peer
from edgeagent.hose.local_socket import Frame, LocalSocket, LocalSocketSettings
from tests.descriptors import left_open, open_descriptors

__all__ = ["WAIT_S", "HoseServer", "SealedPayload", "Serve", "servers"]

WAIT_S = 20.0  # only reached by a test that fails

T = TypeVar("T")


def _let_threads_close() -> None:
    """Wait for the threads that close strange descriptors."""
    for thread in threading.enumerate():
        if thread.name == "hose-close":
            thread.join(WAIT_S)


class _Watched(LocalSocket):
    """Tells waiting tests whenever a session is over."""

    changed: threading.Condition

    def gone(self, peer: Peer) -> None:
        with self.changed:
            super().gone(peer)
            self.changed.notify_all()


class SealedPayload:
    """A payload of a test: ``released`` is set once nobody needs it."""

    def __init__(self, fd: int, size: int, offset: int = 0) -> None:
        self.fd = fd
        self.bytes = size
        self.offset = offset
        self.releases = 0
        self.released = threading.Event()

    def release(self) -> None:
        self.releases += 1
        os.close(self.fd)
        self.released.set()


class HoseServer:
    """``frames`` receives what is published; a test releases each by ``release``. ``fail`` makes on_frame raise."""

    def __init__(
        self, path: Path, *, accepts: Callable[[str], bool] = lambda _: True, **settings: Any
    ) -> None:
        self.path = str(path)
        self.frames: queue.SimpleQueue[tuple[str, Frame]] = queue.SimpleQueue()
        self.fail: Exception | None = None
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._loop.set_debug(True)
        self._thread = threading.Thread(target=self._loop.run_forever, name="hose-server", daemon=True)
        self._thread.start()
        self.socket = _Watched(LocalSocketSettings(path=self.path, **settings), self._on_frame, accepts)
        self.socket.changed = self._changed
        try:
            self._run(self.socket.start())
        except BaseException:
            self._end_loop()
            raise

    async def _on_frame(self, name: str, frame: Frame) -> None:
        if self.fail is not None:
            raise self.fail
        with self._changed:
            self.frames.put((name, frame))
            self._changed.notify_all()

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WAIT_S)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """The function's result, run on the loop's thread."""

        async def run() -> T:
            return function(*args)

        result: T = self._run(run())
        return result

    def frame(self) -> Frame:
        """The next frame that arrives."""
        return self.frames.get(timeout=WAIT_S)[1]

    def release(self, frame: Frame) -> None:
        self.call(frame.release)

    def publish(self, name: str, payload: SealedPayload) -> int:
        return self.call(self.socket.publish, name, payload)

    def wait_for_peers(self, count: int) -> None:
        """Until no more than so many sessions are left."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.socket.stats.peers <= count, WAIT_S)

    def wait_for_change(self) -> None:
        """Until a frame is there, or no session is left."""
        with self._changed:
            done = self._changed.wait_for(
                lambda: not self.frames.empty() or not self.socket.stats.peers, WAIT_S
            )
            assert done

    def is_waiting_for_release(self) -> bool:
        """Once a frame is there (true), or no session is left."""
        self.wait_for_change()
        return not self.frames.empty()

    def stop(self) -> None:
        """Close, release what tests left, and check that nothing is held."""
        self._run(self.socket.close())
        while not self.frames.empty():
            self.release(self.frames.get()[1])
        stats = self.socket.stats
        self._end_loop()
        assert (stats.peers, stats.held_bytes) == (0, 0)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()


Serve = Callable[..., HoseServer]


@contextlib.contextmanager
def servers(place: Path) -> Iterator[Serve]:
    """``serve(**settings)`` starts one; in the end all are stopped, and no descriptor may be left over."""
    before = open_descriptors()
    numbers = itertools.count()
    with contextlib.ExitStack() as stack:

        def serve(**settings: Any) -> HoseServer:
            server = HoseServer(place / f"{next(numbers)}.sock", **settings)
            stack.callback(server.stop)
            return server

        yield serve
    _let_threads_close()
    left = left_open(before)
    assert not left, f"left open: {left}"
