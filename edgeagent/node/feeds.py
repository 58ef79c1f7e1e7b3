"""Feeds: functions that run for what other processes of this host publish, and what goes back to them.

A frame is adopted where it lies: every function whose manifest says ``[hose] input = NAME`` gets a private view of it,
one after the other. What a function with ``output = NAME`` returns is sealed and published to the processes that are
attached there as consumers; without any it is dropped. A producer is read from as fast as its frames are worked off.
"""

from __future__ import annotations

import asyncio
import os
from typing import Protocol

import structlog

from edgeagent.hose.local_socket import Frame, LocalSocket, LocalSocketSettings
from edgeagent.hose.sealed import sealed_memfd
from edgeagent.hose.settings import TIERS
from edgeagent.model.errors import EdgeError
from edgeagent.model.function import Deployed
from edgeagent.node.meters import Meters
from edgeagent.node.result import Result
from edgeagent.runtime.port import Engine, Payload

__all__ = ["Feeds"]

log = structlog.get_logger("feeds")


class _Runs(Protocol):
    async def feed(self, name: str, payload: Payload, *, keep: bool) -> Result: ...


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


class Feeds:
    """On the event loop's thread; ``start`` raises BadConfig when the socket cannot be had."""

    def __init__(
        self, settings: LocalSocketSettings, engine: Engine, functions: _Deployed, runs: _Runs, meters: Meters
    ) -> None:
        self.socket = LocalSocket(settings, self._on_frame, self._accepts)
        self._engine = engine
        self._functions = functions
        self._runs = runs
        self._meters = meters

    async def start(self) -> None:
        await self.socket.start()

    async def close(self) -> None:
        await self.socket.close()

    def _accepts(self, hose: str) -> bool:
        return any(hose in (d.manifest.hose.input, d.manifest.hose.output) for d in self._functions.list())

    async def _on_frame(self, hose: str, frame: Frame) -> None:
        takers = [d for d in self._functions.list() if d.manifest.hose.input == hose]
        if not takers:  # undeployed since the producer attached, or a hose that only has an output
            self._meters.count("hose_frames_failed")
            log.warning("a frame was dropped: no function takes this hose", hose=hose)
            frame.release()
            return
        try:
            payload = await self._adopted(frame)
        except ValueError as error:  # checked when it came; the kernel may be out of memory since
            self._meters.count("hose_frames_failed")
            log.warning("a frame could not be taken", hose=hose, why=str(error))
            frame.release()
            return
        try:
            for deployed in takers:
                await self._run(deployed, payload)
        finally:
            payload.close()
            frame.release()

    async def _adopted(self, frame: Frame) -> Payload:
        if self._engine.accelerated:  # maps it
            return self._engine.adopt(frame.fd, frame.offset, frame.bytes)
        return await asyncio.to_thread(self._engine.adopt, frame.fd, frame.offset, frame.bytes)

    async def _run(self, deployed: Deployed, payload: Payload) -> None:
        output = deployed.manifest.hose.output
        try:
            result = await self._runs.feed(deployed.name, payload, keep=bool(output))
        except EdgeError as error:
            self._meters.count("hose_frames_failed")
            log.warning("a frame was not worked off", function=deployed.name, why=error.message)
            return
        self._meters.handed_over(TIERS[result.hose.tier], result.hose.copied_bytes, result.hose.mapped_bytes)
        try:
            if output and self.socket.consumers(output):
                await self._publish(output, result)
        finally:
            if result.payload is not None:
                result.payload.close()

    async def _publish(self, hose: str, result: Result) -> None:
        try:
            if result.payload is not None:
                exported = await asyncio.to_thread(result.payload.export)  # may copy all of it
            else:
                exported = (sealed_memfd(result.output), 0, len(result.output))
        except RuntimeError as error:
            self._meters.count("hose_frames_failed")
            log.warning("an output could not be published", hose=hose, why=str(error))
            return
        if exported[2] == 0:
            os.close(exported[0])
            return
        self.socket.publish(hose, _Exported(*exported))
