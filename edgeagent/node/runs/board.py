"""Where the newest record of each run is noted: on the disk, for those who watch here, and at the run's origin."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any

import msgspec
import structlog

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import Conflict, EdgeError, PeerFailed
from edgeagent.node.membership import Membership
from edgeagent.node.remote_hoses import RemoteHoses
from edgeagent.node.runs.events import Events
from edgeagent.node.runs.record import DataRef, RunRecord
from edgeagent.node.runs.store import RunStore

__all__ = ["HELD_S_MAX", "PAUSE_S_FIRST", "PAUSE_S_MAX", "Board", "Standing", "Superseded"]

log = structlog.get_logger("runs")

REPORT_S = 5.0
DELIVER_S = 60.0
SENT_S = 300.0  # half of what the receiver keeps data for that no record names yet (state.blobs.GRACE_S)
SENT_MAX = 4096
PAUSE_S_FIRST, PAUSE_S_MAX = 0.25, 10.0
HELD_S_MAX = 24 * 3600.0
SUPERSEDED_MAX = 1024
_LOOK_S = 0.2
_GONE = frozenset({"dead", "left"})


class Superseded(Conflict):
    """Another node has gone on with the run under a later epoch, or it has ended: nothing is done here any more."""

    slug = "run-superseded"


class Standing(msgspec.Struct, frozen=True):
    """What a node answers of a run: its newest record's order, and whether it goes on elsewhere."""

    epoch: int
    version: int
    state: str
    holder: str
    taken: bool = True


class Board:
    """On the event loop's thread."""

    def __init__(
        self, node_id: str, store: RunStore, events: Events, remote: RemoteHoses, membership: Membership
    ) -> None:
        self.store = store
        self.events = events
        self._node_id = node_id
        self._remote = remote
        self._membership = membership
        self._reports: dict[str, tuple[bytes, asyncio.Task[None]]] = {}
        self.superseded: dict[str, int] = {}  # runs that go on elsewhere, and under which epoch
        self._sending: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._sent_s: OrderedDict[tuple[str, str], float] = OrderedDict()  # until when a node surely has data

    async def changed(self, record: RunRecord, *, durable: bool = False) -> None:
        """The holder did something. Raises Superseded."""
        if record.id in self.superseded:
            raise Superseded(f"run {record.id} goes on at another node", epoch=self.superseded[record.id])
        record.version += 1
        self.events.saw(record)
        if durable and not await self.store.put(record, self.role(record)):
            raise Superseded(f"run {record.id} goes on at another node")
        if record.origin != self._node_id:
            self._report_soon(record)

    def role(self, record: RunRecord) -> str:
        return "holder" if record.holder == self._node_id else "guardian"

    # -- telling the origin ----------------------------------------------------------------------------------

    def _report_soon(self, record: RunRecord) -> None:
        """The newest record only: what it replaces need not be told."""
        before = self._reports.get(record.id)
        task = asyncio.ensure_future(self._report(record.id, record.origin)) if before is None else before[1]
        self._reports[record.id] = (record.encode(), task)

    async def _report(self, run_id: str, origin: str) -> None:
        sent = b""
        while (newest := self._reports[run_id][0]) is not sent:
            sent = newest
            try:
                await self._tell(origin, run_id, newest)
            except Superseded as error:
                self.note_superseded(run_id, int(error.details.get("epoch", 0)))
            except EdgeError as error:  # progress is a courtesy; the end is not (see deliver)
                log.info("progress could not be told", run=run_id, why=error.message)
        del self._reports[run_id]

    def note_superseded(self, run_id: str, epoch: int) -> None:
        """The run goes on elsewhere under that epoch: who drives it here lets go. The oldest notes go."""
        self.superseded[run_id] = epoch
        while len(self.superseded) > SUPERSEDED_MAX:
            del self.superseded[next(iter(self.superseded))]

    async def _tell(self, node: str, run_id: str, record: bytes) -> None:
        """Raises Superseded, PeerFailed and what else requests raise."""
        reply = await self._remote.ask(node, "POST", f"/v1/runs/{run_id}/report", record, timeout_s=REPORT_S)
        try:
            standing = msgspec.json.decode(reply.body, type=Standing)
        except UNDECODABLE:
            raise PeerFailed(f"the peer {node} answered a report with nonsense", peer=node) from None
        if not standing.taken:
            raise Superseded(
                f"run {run_id} is {standing.state} at {standing.holder}",
                epoch=standing.epoch,
                state=standing.state,
            )

    async def standing_at(self, node: str, run_id: str) -> Standing:
        """What another node knows. Raises NotFound, PeerFailed."""
        reply = await self._remote.ask(node, "GET", f"/v1/runs/{run_id}/standing", timeout_s=REPORT_S)
        try:
            return msgspec.json.decode(reply.body, type=Standing)
        except UNDECODABLE:
            raise PeerFailed(f"the peer {node} answered with nonsense", peer=node) from None

    async def while_there(self, node: str, work: Coroutine[Any, Any, None]) -> None:
        """What is asked of a node, for as long as membership does not hold it dead. Raises PeerFailed, and what it
        raises.
        """
        asking = asyncio.ensure_future(work)
        try:
            while not asking.done():
                await asyncio.wait({asking}, timeout=_LOOK_S)
                if not asking.done() and self._membership.state_of(node) in _GONE:
                    raise PeerFailed(f"the node {node} is gone", peer=node)
            asking.result()
        finally:
            if not asking.done():
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)

    async def send_data(self, node: str, run_id: str, ref: DataRef, data: bytes | memoryview) -> None:
        """By hose where they are many; they are on that node's disk when it returns.

        What was sent ahead is not sent again, and what is on its way is waited for.
        """
        key = (node, ref.sha256)
        if self._sent_s.get(key, 0.0) > time.monotonic():
            return
        task = self._sending.get(key)
        if task is None:
            task = self._sending[key] = asyncio.ensure_future(self._send(node, run_id, ref, data))
            task.add_done_callback(lambda done: self._after_sending(key, done))
        await asyncio.shield(task)

    async def _send(self, node: str, run_id: str, ref: DataRef, data: bytes | memoryview) -> None:
        await self._remote.deliver(node, f"/v1/runs/{run_id}/data/{ref.sha256}", data, DELIVER_S)

    def _after_sending(self, key: tuple[str, str], done: asyncio.Task[None]) -> None:
        del self._sending[key]
        if not done.cancelled() and done.exception() is None:
            self._sent_s[key] = time.monotonic() + SENT_S
            while len(self._sent_s) > SENT_MAX:
                self._sent_s.popitem(last=False)

    async def deliver(self, record: RunRecord) -> None:
        """The end of a run to its origin, until it has it: what has no contact to return by is held.

        Returns when it is there, or when the origin has another end of it.
        """
        pause_s = PAUSE_S_FIRST
        while True:
            try:
                if record.output is not None and record.output.inline is None:
                    data = await self.store.data(record.output)
                    await self.send_data(record.origin, record.id, record.output, data)
                await self._tell(record.origin, record.id, record.encode())
                return
            except Superseded as error:
                log.info("a run had ended otherwise", run=record.id, why=error.message)
                return
            except EdgeError as error:
                wait_s = self._membership.returns_in_s(record.origin)
                log.info("a result is held", run=record.id, why=error.message, returns_in_s=wait_s)
            if time.time() * 1000 > record.deadline_ms + HELD_S_MAX * 1000:
                log.error("a result was given up: its origin was away for a day", run=record.id)
                return
            await asyncio.sleep(min(PAUSE_S_MAX, max(pause_s, wait_s or 0.0)))
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    async def close(self) -> None:
        """Idempotent."""
        tasks = [*(task for _, task in self._reports.values()), *self._sending.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
