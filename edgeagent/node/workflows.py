"""The workflows of a node and their runs: started here, held here, guarded here, or waited for here."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import structlog

from edgeagent.model.errors import Conflict, EdgeError, KeyReused, NotFound, Unavailable
from edgeagent.model.workflow import Workflow
from edgeagent.node.config_schema import PlacementSection
from edgeagent.node.elsewhere import Elsewhere
from edgeagent.node.reservation_desk import ReservationDesk
from edgeagent.node.runs.board import Board, Standing, Superseded
from edgeagent.node.runs.driver import Driver
from edgeagent.node.runs.ends import ORIGIN, Ends
from edgeagent.node.runs.events import Events
from edgeagent.node.runs.function_ref import FunctionRef
from edgeagent.node.runs.guard import may_have_ended, watch
from edgeagent.node.runs.handover import GUARD, HOLD, Handover
from edgeagent.node.runs.live import LiveData
from edgeagent.node.runs.origins import Origins, learn
from edgeagent.node.runs.progress import revert_lost
from edgeagent.node.runs.record import CLAIM, RunRecord, StepRecord, new_run_id
from edgeagent.node.runs.store import RunStore
from edgeagent.node.runs.views import run_view
from edgeagent.node.ties import Ties
from edgeagent.node.workflow_shelf import WorkflowShelf
from edgeagent.node.workflow_views import RunEvent, RunView
from edgeagent.state.workflows import WorkflowRows

__all__ = ["Workflows"]

log = structlog.get_logger("runs")

STANDING_S = 5.0
_GRACE_S = 2.0
_TAKEN = {"dead": "died", "away": "went out of contact for too long"}


class Workflows:
    """On the event loop's thread; a :class:`workflow_views.WorkflowPort`."""

    def __init__(
        self,
        settings: PlacementSection,
        ties: Ties,
        desk: ReservationDesk,
        elsewhere: Elsewhere,
        *,
        rows: WorkflowRows,
        store: RunStore,
    ) -> None:
        self._settings = settings
        self._ties = ties
        self._desk = desk
        self._elsewhere = elsewhere
        self._node_id = ties.node_id
        self._store = store
        self._functions = ties.functions
        self._remote = ties.remote
        self._membership = ties.membership
        self.feed = Events()
        self._origins = Origins(ties.node_id, ties.membership)
        self.feed.heard = self._origins.heard
        self.board = Board(ties.node_id, store, self.feed, ties.remote, ties.membership)
        self._handover = Handover(ties.node_id, self.board, ties.forwarder, ties.remote)
        self._handover.gone = self._guard
        self._shelf = WorkflowShelf(rows, elsewhere)
        self._ends = Ends(ties.node_id, self.board)
        self._held: dict[str, Driver] = {}
        self._moved: dict[str, asyncio.Event] = {}  # set when the run's record here is newer
        self._tasks: set[asyncio.Task[None]] = set()
        self._keys: dict[str, tuple[str, str]] = {}  # Idempotency-Key: run, fingerprint
        self._starting = asyncio.Lock()
        self._stopping = False

    # -- life ------------------------------------------------------------------------------------------------

    async def start_up(self) -> None:
        """Take up the workflows, and the runs that had not ended."""
        await self._shelf.start_up()
        for record, role in await self._store.all():
            if record.origin == self._node_id:
                self._note_key(record)
            if not record.ended:
                self._take_up(record, role)
            elif role == HOLD and self._node_id == record.holder != record.origin:
                self._spawn(self._ends.deliver(record))  # its origin may not know

    def _take_up(self, record: RunRecord, role: str) -> None:
        self.feed.saw(record)
        if role == HOLD:
            self._spawn(self._resume(record))
        elif role == GUARD:
            self._spawn(self._guarding(record))
        if record.origin == self._node_id:
            self._spawn(self._await_end(record.id, record.deadline_ms))

    def _note_key(self, record: RunRecord) -> None:
        """The oldest go where there are more than runs are kept."""
        if record.key:
            self._keys[record.key] = (record.id, record.input.sha256)
            while len(self._keys) > self._settings.runs_max:
                del self._keys[next(iter(self._keys))]

    async def stop(self) -> None:
        """Stop driving: what had not ended goes on at the next start, or at its guardian. Idempotent."""
        self._stopping = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.board.close()

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a run's task broke", error=repr(error))

    async def sweep(self) -> None:
        """Forget what ended long ago."""
        await self._store.sweep(int(time.time() * 1000) - self._settings.run_ttl_ms)

    @property
    def held(self) -> int:
        return len(self._held)

    # -- workflows -------------------------------------------------------------------------------------------

    async def deploy(self, name: str, workflow: Workflow) -> bool:
        return await self._shelf.deploy(name, workflow)

    def get(self, name: str) -> Workflow:
        return self._shelf.get(name)

    async def find(self, name: str) -> Workflow:
        return await self._shelf.find(name)

    def list(self) -> Sequence[Workflow]:
        return self._shelf.list()

    async def undeploy(self, name: str) -> None:
        await self._shelf.undeploy(name)

    # -- runs that begin here --------------------------------------------------------------------------------

    async def start(
        self, name: str, body: bytes, *, deadline_ms: float, key: str | None, traceparent: str
    ) -> str:
        workflow = await self.find(name)
        if self._stopping:
            raise Unavailable("the node is draining", retry_after_s=5)
        if key is None:
            return await self._start(workflow, body, deadline_ms, "", traceparent)
        full = f"{name}/{key}"
        # Two requests with one key are one run, and a key names a run that is kept.
        async with self._starting:
            known = self._keys.get(full)
            if known is not None and await self._store.get(known[0]) is not None:
                if known[1] != hashlib.sha256(body).hexdigest():
                    raise KeyReused(f"the key {key[:80]!r} was used with another input")
                return known[0]
            return await self._start(workflow, body, deadline_ms, full, traceparent)

    async def _start(
        self, workflow: Workflow, body: bytes, deadline_ms: float, key: str, traceparent: str
    ) -> str:
        refs = {name: await self._ref(name) for name in {step.function for step in workflow.step}}
        now_ms = int(time.time() * 1000)
        record = RunRecord(
            id=new_run_id(),
            spec=workflow,
            functions=refs,
            origin=self._node_id,
            holder=self._node_id,
            created_ms=now_ms,
            deadline_ms=now_ms + int(deadline_ms or workflow.workflow.deadline_ms),
            input=await self._store.keep(body),
            steps=[StepRecord(name=step.name, function=step.function) for step in workflow.step],
            traceparent=traceparent,
            key=key,
        )
        record.version = 1
        await self._store.put(record, HOLD)
        self._note_key(record)
        self.feed.saw(record)
        self._spawn(self._begin(record, body))
        self._spawn(self._await_end(record.id, record.deadline_ms))
        return record.id

    async def _ref(self, name: str) -> FunctionRef:
        """Of a function, fetched from another member where it is not here: this node is who gives it to the others."""
        ref, node = await self._elsewhere.find(name)
        if node != self._node_id:
            await self._desk.have(ref, (node,))
        return ref

    async def _begin(self, record: RunRecord, body: bytes) -> None:
        live = self._live()
        live.put(body)
        await self._find_guardian(record, live)
        await self._drive(record, live)

    async def _find_guardian(self, record: RunRecord, live: LiveData) -> None:
        """A second copy at the nearest member, before any step is announced; none where there is nobody."""
        for node in await self._ties.placer.nearest(3):
            if await self._handover.copy_to(record, node, live):
                return

    def _live(self) -> LiveData:
        return LiveData(self._store, self._remote.drop)

    # -- holding ---------------------------------------------------------------------------------------------

    async def _drive(
        self,
        record: RunRecord,
        live: LiveData | None = None,
        *,
        reservation: str = "",
        excluded: dict[str, str] | None = None,
        taken_over: bool = False,
    ) -> None:
        driver = Driver(
            record,
            self._ties,
            board=self.board,
            handover=self._handover,
            live=live or self._live(),
            excluded=excluded,
            taken_over=taken_over,
        )
        self._held[record.id] = driver
        self.feed.back(record.id)
        try:
            ended = await driver.drive(reservation)
        finally:
            if self._held.get(record.id) is driver:
                del self._held[record.id]
        if self.board.superseded.pop(record.id, None) is not None:
            record.state, record.problem = "running", None  # somewhere
            await self._ends.let_go(record)
        elif ended:
            await self._ends.finish(record)
        self._wake(record.id)

    async def _resume(self, record: RunRecord) -> None:
        """After a start: unless somebody went on with it meanwhile."""
        for node in {record.guardian, record.origin} - {"", self._node_id}:
            with contextlib.suppress(EdgeError):
                reply = await self.board.standing_at(node, record.id)
                if reply.epoch > record.epoch:
                    log.info("a run went on elsewhere", run=record.id, holder=reply.holder)
                    await self._ends.let_go(record)
                    return
        record.epoch, record.version = record.epoch + CLAIM["holder"], 0
        await self._go_on(record, {}, "restarted")

    async def _go_on(self, record: RunRecord, excluded: dict[str, str], why: str) -> None:
        """Take over, under the record's new epoch."""
        outputs = [step.output for step in record.steps if step.output is not None]
        here = {one.sha256 for one in outputs if await self._store.has(one)}
        again = revert_lost(record, lambda ref: ref.sha256 in here)
        before, record.holder = record.holder, self._node_id
        record.decided(
            {"event": "taken-over", "why": why, "from": before, "by": self._node_id, "steps_again": again}
        )
        record.version += 1
        if not await self._store.put(record, HOLD):
            return
        self.feed.saw(record)
        log.warning("taking over a run", run=record.id, why=why, holder=before, again=again)
        live = self._live()
        if record.guardian in {"", self._node_id, before}:
            record.guardian = ""
            await self._find_guardian(record, live)
        await self._drive(record, live, excluded=excluded, taken_over=True)

    # -- guarding --------------------------------------------------------------------------------------------

    async def _guard(self, record: RunRecord) -> None:
        """The run is another node's from now on."""
        self._wake(record.id)
        if record.origin != self._node_id:
            self.feed.left(record)
        self._spawn(self._guarding(record))

    async def _guarding(self, record: RunRecord) -> None:
        verdict = await watch(record, self._remote, self._membership)
        found = await self._store.get(record.id)
        known = record if found is None else found[0]
        if known.ended or known.epoch > record.epoch or known.holder != record.holder:
            return
        if verdict in _TAKEN:
            taken = known.copy()  # with what the holder had told since
            taken.epoch, taken.version = record.epoch + CLAIM["guardian"], 0
            await self._go_on(
                taken,
                {record.holder: f"{_TAKEN[verdict]} while it held the run"},
                f"its holder {_TAKEN[verdict]}",
            )
        else:
            await self._ends.let_go(record)

    async def _await_end(self, run_id: str, deadline_ms: int) -> None:
        """A run that began here ends, whatever becomes of those who hold it."""
        while (what := await self._origins.watch(run_id, deadline_ms / 1000 + _GRACE_S)) == "lost":
            record, _ = await self._store.known(run_id)
            gone = {one: "died with the run" for one in (record.holder, record.guardian) if one}
            # The guardian may have gone on under its epoch before it died.
            record.epoch, record.version = record.epoch + CLAIM["origin"], 0
            record.guardian = ""
            self._spawn(self._go_on(record, gone, "its holder and its guardian died"))
        if what == "ended":
            return
        await self._ends.written(run_id)
        record, _ = await self._store.known(run_id)
        while not record.ended and await may_have_ended(record, self._node_id, self._membership):
            record, _ = await self._store.known(run_id)
        if record.ended:
            return
        await self._ends.time_out(record)
        self._wake(run_id)

    # -- what other nodes ask --------------------------------------------------------------------------------

    async def take(self, record: RunRecord, role: str, reservation: str) -> Standing:
        """A run is given to this node, to hold or to guard. Raises Superseded where it is newer here."""
        if self._stopping:
            raise Unavailable("the node is draining", retry_after_s=5)
        if role == HOLD and record.holder != self._node_id:
            raise Conflict(f"the record names {record.holder[:40]!r} as its holder")
        record.rebase(int(time.time() * 1000))
        if not await self._store.put(record, role):
            known, _ = await self._store.known(record.id)
            raise Superseded(f"run {record.id} is newer here", epoch=known.epoch)
        await self._fetch_functions(record)
        self.board.superseded.pop(record.id, None)
        self.feed.saw(record)
        self._wake(record.id)
        if role == HOLD:
            for step in record.steps:
                if step.state == "placed":
                    step.state = "waiting"
            self._spawn(self._drive(record, reservation=reservation))
        elif not record.ended:
            self._spawn(self._guarding(record))
        return _standing(record)

    async def _fetch_functions(self, record: RunRecord) -> None:
        """The modules that the rest of the run takes: who had them may be gone when they are needed."""
        wanted = {step.function for step in record.steps if step.state in {"waiting", "placed", "running"}}
        others = (record.holder, record.guardian, record.origin)
        sources = tuple(dict.fromkeys(one for one in others if one and one != self._node_id))
        for name in wanted:
            try:
                await self._desk.have(record.functions[name], sources)
            except EdgeError as error:  # another node will run it, or it is fetched when it is needed
                log.info("a function of a run did not come", run=record.id, function=name, why=error.message)

    async def take_data(self, sha256: str, data: bytes | memoryview) -> None:
        """Data of a run, on the disk when it returns. Raises BadRequest, StorageFull."""
        await self._store.keep_named(sha256, data)

    async def report(self, record: RunRecord) -> Standing:
        """A holder tells how a run that began here stands."""
        known, _ = await self._store.known(record.id)
        if known.ended and known.order != record.order:
            return _standing(known, taken=False)
        if record.ended:  # our clock counts
            record.finished_ms += known.created_ms - record.created_ms
        record.deadline_ms, record.created_ms = known.deadline_ms, known.created_ms
        if record.order < known.order:
            return _standing(known, taken=record.order[0] == known.epoch)
        learn(self._ties.estimates, known, record)
        role = GUARD if record.guardian == self._node_id and not record.ended else ORIGIN
        if not await self._store.put(record, role) and record.order != known.order:
            known, _ = await self._store.known(record.id)
            return _standing(known, taken=False)
        self.feed.saw(record)
        if record.ended:
            log.info("run ended", run=record.id, workflow=record.workflow, state=record.state)
        self._wake(record.id)
        return _standing(record)

    async def standing(self, run_id: str, epoch: int, version: int) -> Standing:
        """The newest here; where that is what who asks knows, as soon as there is newer, or after a while."""
        driver = self._held.get(run_id)
        record = driver.record if driver is not None else (await self._store.known(run_id))[0]
        busy = not record.ended or self._ends.is_undelivered(run_id)
        if record.order[0] == epoch and busy and record.holder == self._node_id:
            moved = self._moved.setdefault(run_id, asyncio.Event())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STANDING_S):
                    await moved.wait()
            record = (await self._store.known(run_id))[0]
        if self._ends.is_undelivered(run_id):
            return Standing(record.epoch, record.version, "running", self._node_id)
        return _standing(record)

    def _wake(self, run_id: str) -> None:
        moved = self._moved.pop(run_id, None)
        if moved is not None:
            moved.set()

    # -- views -----------------------------------------------------------------------------------------------

    async def _newest(self, run_id: str) -> RunRecord:
        driver = self._held.get(run_id)
        if driver is not None:
            return driver.record
        record, role = await self._store.known(run_id)
        if not role and not record.ended:
            raise NotFound(f"run {run_id} went on elsewhere", hint=f"ask {record.origin}, where it began")
        return record

    async def finished(self, run_id: str) -> RunView:
        """Its end, or how it stands when its time is over and who holds it is out of contact."""
        left_s = (await self._newest(run_id)).deadline_ms / 1000 - time.time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, left_s) + 2 * _GRACE_S):
                async for _ in self.events(run_id, 0):
                    pass
        return await self.view(run_id)

    async def view(self, run_id: str) -> RunView:
        return run_view(await self._newest(run_id))

    async def runs(self, limit: int, workflow: str | None) -> builtins.list[RunView]:
        return [run_view(one) for one in await self._store.latest(limit, workflow)]

    async def output(self, run_id: str) -> bytes:
        record = await self._newest(run_id)
        if record.output is None:
            raise Conflict(f"run {run_id} is {record.state} and has no output", state=record.state)
        return await self._store.data(record.output)

    async def events(self, run_id: str, after: int) -> AsyncIterator[RunEvent]:
        """From the event behind ``after`` on; ends with the run, or where it has gone. Raises NotFound."""
        record = await self._newest(run_id)
        self.feed.saw(record)
        if not record.ended and self._node_id not in (record.holder, record.origin):
            self.feed.left(record)
        async for event in self.feed.follow(run_id, after):
            yield event


def _standing(record: RunRecord, *, taken: bool = True) -> Standing:
    return Standing(record.epoch, record.version, record.state, record.holder, taken)
