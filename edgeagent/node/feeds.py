"""Feeds: functions that run for what other processes of this host publish, and what goes back to them.

A frame is adopted where it lies and becomes a message for every function whose manifest says ``[hose] input = NAME``:
each gets a private view of it. What a function with ``output = NAME`` returns, and what guests send to a NAME that
processes are attached to as consumers, is sealed and published to them; without any it is dropped. A producer is read
from as fast as its frames are taken.
"""

from __future__ import annotations

import asyncio
import os
from typing import Protocol

import structlog

from edgeagent.hose.local_socket import Frame, LocalSocket, LocalSocketSettings
from edgeagent.hose.sealed import sealed_memfd
from edgeagent.model.errors import EdgeError
from edgeagent.model.function import Deployed
from edgeagent.node.mailboxes import Mailboxes, Message
from edgeagent.node.meters import Meters
from edgeagent.runtime.port import Engine, Payload

__all__ = ["Feeds"]

log = structlog.get_logger("feeds")


class _Deployed(Protocol):
    def list(self) -> list[Deployed]: ...


class _Exported:
    """An output on its way to other processes."""

    def __init__(self, fd: int, offset: int, count: int) -> None:
        self.fd = fd
        self.offset = offset
        self.bytes = count

    def release(self) -> None:
        os.close(self.fd)


def _exported(payload: Payload) -> _Exported:
    """Raises RuntimeError."""
    try:
        return _Exported(*payload.export())
    except RuntimeError:  # pages that are pinned for a GPU cannot be sealed: a copy can
        data = payload.read()
        return _Exported(sealed_memfd(data), 0, len(data))


class Feeds:
    """On the event loop's thread; ``start`` raises BadConfig when the socket cannot be had."""

    def __init__(
        self,
        settings: LocalSocketSettings,
        engine: Engine,
        functions: _Deployed,
        mailboxes: Mailboxes,
        meters: Meters,
    ) -> None:
        self.socket = LocalSocket(settings, self._on_frame, self._accepts, self._on_producer)
        self._engine = engine
        self._functions = functions
        self._mailboxes = mailboxes
        self._meters = meters

    async def start(self) -> None:
        await self.socket.start()
        self._mailboxes.outlet = self

    async def close(self) -> None:
        self._mailboxes.outlet = None
        await self.socket.close()

    def consumers(self, hose: str) -> int:
        """How many processes are attached to read from the hose."""
        return self.socket.consumers(hose)

    async def publish(self, hose: str, payload: Payload) -> None:
        """Give the processes that read from the hose a sealed view of the payload, which stays the caller's."""
        try:
            exported = await asyncio.to_thread(_exported, payload)  # may copy all of it
        except RuntimeError as error:
            self._failed("an output could not be published", hose, str(error))
            return
        if exported.bytes == 0:
            exported.release()
            return
        self.socket.publish(hose, exported)

    def _accepts(self, hose: str) -> bool:
        return any(hose in (d.manifest.hose.input, d.manifest.hose.output) for d in self._functions.list())

    def _on_producer(self, hose: str, producer: object, is_attached: bool) -> None:
        if is_attached:
            self._mailboxes.open(hose, producer)
        else:
            self._mailboxes.close_sender(producer)

    async def _on_frame(self, hose: str, frame: Frame) -> None:
        try:
            payload = await self._adopted(frame)
        except ValueError as error:  # checked when it came; the kernel may be out of memory since
            self._failed("a frame could not be taken", hose, str(error))
            frame.release()
            return
        try:
            await self._mailboxes.put(hose, Message(payload, frame.release), sender=frame.producer)
        except EdgeError as error:
            # Undeployed since the producer attached, or a hose that only has an output.
            self._failed("a frame was dropped: no function takes this hose", hose, error.message)

    def _failed(self, what: str, hose: str, why: str) -> None:
        self._meters.count("hose_frames_failed")
        log.warning(what, hose=hose, why=why)

    async def _adopted(self, frame: Frame) -> Payload:
        if self._engine.accelerated:  # maps it
            return self._engine.adopt(frame.fd, frame.offset, frame.bytes)
        return await asyncio.to_thread(self._engine.adopt, frame.fd, frame.offset, frame.bytes)
