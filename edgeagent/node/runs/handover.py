"""Giving a run to another node: reserve there, send what the rest of it needs, then the record.

The giver has the record and the data on its disk before it asks, and keeps them as the run's guardian until the run has
moved on (:mod:`guard`). Where it is not known whether the other one took it, the giver goes on under the next epoch, so
that the other one's work counts nowhere; unless it says that the run has gone on under a later one already.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from edgeagent.model.errors import EdgeError
from edgeagent.node.forwarder import Forwarder, Order
from edgeagent.node.remote_hoses import RemoteHoses
from edgeagent.node.runs.board import Board, Superseded
from edgeagent.node.runs.live import LiveData
from edgeagent.node.runs.progress import needed
from edgeagent.node.runs.record import CLAIM, RunRecord

__all__ = ["GUARD", "HOLD", "Handover"]

log = structlog.get_logger("runs")

HOLD, GUARD = "holder", "guardian"
TAKE_S = 15.0
COPY_S, COPY_SHARE = 3.0, 0.1


class Handover:
    """On the event loop's thread. ``gone`` hears that a run is held elsewhere and is to be guarded here."""

    def __init__(self, node_id: str, board: Board, forwarder: Forwarder, remote: RemoteHoses) -> None:
        self._node_id = node_id
        self._board = board
        self._forwarder = forwarder
        self._remote = remote
        self.gone: Callable[[RunRecord], Awaitable[None]] | None = None

    async def give(self, record: RunRecord, step: str, node: str, live: LiveData) -> str:
        """Why not, and then the run is still ours; empty when it is the node's now. Raises Superseded, StorageFull."""
        ref = record.functions[record.step(step).function]
        order = Order(
            ref=ref,
            given=b"",
            deadline_s=time.monotonic() + max(0.001, record.deadline_ms / 1000 - time.time()),
            wall_ms=float(ref.manifest.limits.wall_ms),
            key=f"{record.id}.{record.epoch}.{step}.{record.hops}",
            sources=(record.origin, record.guardian),
        )
        try:
            reservation = await self._forwarder.reserve(order, node)
        except EdgeError as error:
            return error.message[:200]
        given = record.copy()
        given.holder, given.guardian, given.hops = node, self._node_id, record.hops + 1
        given.step(step).state = "placed"
        given.version += 1
        try:
            await self._prepare(given, live)
            await self._board.while_there(node, self._send_data(given, node, live))
        except EdgeError as error:
            record.version = given.version  # of which the disk may know
            return error.message[:200]
        self._board.events.saw(given)
        try:
            await self._board.while_there(node, self._send_record(given, node, HOLD, reservation.id))
        except EdgeError as error:
            if isinstance(error, Superseded) and int(error.details.get("epoch", 0)) > given.epoch:
                raise  # it knows of somebody who took over from us: that one's word counts
            # It may have it all the same: from now on it is not the one whose word counts. As the guardian that it
            # names we may, under another epoch than its own next one.
            record.epoch, record.version = given.epoch + CLAIM["guardian"], 0
            await self._board.changed(record, durable=True)
            return error.message[:200]
        if self.gone is not None:
            await self.gone(given)
        return ""

    async def copy_to(self, record: RunRecord, node: str, live: LiveData) -> bool:
        """A copy for a guardian; whether it has it. What we hold stays ours. It takes a small part of what is left of
        the run's time at most: who does not answer must not hold up a run that needs nobody.
        """
        given = record.copy()
        given.guardian = node
        given.version += 1
        try:
            await self._prepare(given, live)
            async with asyncio.timeout(self._copy_s(given)):
                await self._board.while_there(node, self._send_data(given, node, live))
                await self._board.while_there(node, self._send_record(given, node, GUARD, ""))
        except (EdgeError, TimeoutError) as error:
            record.version = given.version
            log.info("a run has no second copy there", run=record.id, node=node, why=str(error))
            return False
        record.guardian, record.version = node, given.version
        return True

    def _copy_s(self, given: RunRecord) -> float:
        count = sum(ref.size for ref in needed(given).values())
        count += sum(ref.code_bytes for ref in given.functions.values())
        return max(0.0, min(COPY_S + count / 1e6, (given.deadline_ms / 1000 - time.time()) * COPY_SHARE))

    async def _prepare(self, given: RunRecord, live: LiveData) -> None:
        """Durable here first."""
        for ref in needed(given).values():
            await live.keep(ref)
        await self._board.store.put(given, GUARD if given.holder != self._node_id else HOLD)

    async def _send_data(self, given: RunRecord, node: str, live: LiveData) -> None:
        for ref in needed(given).values():
            if ref.inline is None:
                await self._board.send_data(node, given.id, ref, await live.bytes_of(ref))

    async def _send_record(self, given: RunRecord, node: str, role: str, reservation: str) -> None:
        headers = {"Edgeagent-Run-Role": role}
        if reservation:
            headers["Edgeagent-Reservation"] = reservation
        given.left_ms = max(1, given.deadline_ms - int(time.time() * 1000))
        await self._remote.ask(
            node, "POST", f"/v1/runs/{given.id}", given.encode(), headers, timeout_s=TAKE_S
        )
