"""What happens in runs, for those who watch: events, told by comparing records, kept for a while."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from edgeagent.node.runs.record import RunRecord
from edgeagent.node.runs.views import step_view
from edgeagent.node.workflow_views import RunEvent

__all__ = ["Events"]

_RUNS_MAX = 512
_EVENTS_MAX = 2048  # of one run: fan-outs tell of each item


class _Log:
    def __init__(self) -> None:
        self.events: list[RunEvent] = []
        self.steps: dict[str, dict[str, Any]] = {}
        self.head: dict[str, Any] = {}
        self.ended = False
        self.left = False  # what happens in it is told elsewhere
        self.followers = 0
        self.changed = asyncio.Event()


class Events:
    """On the event loop's thread; the runs touched last are kept, and those that somebody follows."""

    def __init__(self, *, runs_max: int = _RUNS_MAX) -> None:
        self._runs_max = runs_max
        self._logs: OrderedDict[str, _Log] = OrderedDict()
        self.heard: Callable[[RunRecord], None] = lambda _: None

    def saw(self, record: RunRecord) -> None:
        """The newest record of a run: what is new in it becomes events."""
        log = self._log(record.id)
        if log.ended:
            return
        self.heard(record)
        for step in record.steps:
            view = msgspec.structs.asdict(step_view(step))
            if log.steps.get(step.name) != view and (step.state != "waiting" or step.name in log.steps):
                log.steps[step.name] = view
                self._add(log, "placed" if step.state == "placed" else "step", view)
        head = {"state": record.state, "holder": record.holder, "epoch": record.epoch}
        if head != log.head:
            log.head = head
            log.ended = record.ended
            self._add(log, "state", {**head, "problem": record.problem})

    def left(self, record: RunRecord) -> None:
        """The run goes on at another node, which tells nothing to this one: who follows it here is told whom to ask."""
        log = self._log(record.id)
        told = log.left and log.events[-1].kind == "moved"
        if not (log.ended or told):
            log.left = True
            where = f"/v1/runs/{record.id}/events"
            self._add(log, "moved", {"holder": record.holder, "origin": record.origin, "events": where})

    def back(self, run_id: str) -> None:
        """The run is held here, again."""
        self._log(run_id).left = False

    def _add(self, log: _Log, kind: str, data: dict[str, Any]) -> None:
        seq = log.events[-1].seq + 1 if log.events else 1
        log.events.append(RunEvent(seq=seq, kind=kind, data=data))  # type: ignore[arg-type]
        del log.events[:-_EVENTS_MAX]
        changed, log.changed = log.changed, asyncio.Event()
        changed.set()

    def _log(self, run_id: str) -> _Log:
        log = self._logs.get(run_id)
        if log is None:
            if len(self._logs) >= self._runs_max:
                alone = next((one for one, held in self._logs.items() if not held.followers), None)
                if alone is not None:
                    del self._logs[alone]
            log = self._logs[run_id] = _Log()
        self._logs.move_to_end(run_id)
        return log

    async def follow(self, run_id: str, after: int) -> AsyncIterator[RunEvent]:
        """From the event behind ``after`` to the last one of the run, or to that which says where it has gone; from the
        first where none has that number, as after a restart.
        """
        log = self._log(run_id)
        if after > (log.events[-1].seq if log.events else 0):
            after = 0
        log.followers += 1
        try:
            while True:
                changed = log.changed
                for event in [one for one in log.events if one.seq > after]:
                    after = event.seq
                    yield event
                if (log.ended or log.left) and (not log.events or log.events[-1].seq <= after):
                    return
                if changed is log.changed:
                    await changed.wait()
        finally:
            log.followers -= 1
