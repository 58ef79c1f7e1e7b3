"""What the steps to come will need travels while the present ones run (docs/state.md, "Ahead of the computation").

When a stage begins, the plan says where each later step will run. Its inputs that exist already (outputs of other
branches, the run's input), and the keys that its function names in ``[state] prefixes``, begin to move there at once,
the nearest step first. What is sent ahead is not sent again with the run (:meth:`Board.send_data`); where the plan
changes, the next stage begins moves to the new node. When the run is handed over, what the step has just written goes
along beside it. Nothing waits for any of it, and nothing fails by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from edgeagent.model.errors import EdgeError
from edgeagent.node.runs.board import Board
from edgeagent.node.runs.live import LiveData
from edgeagent.node.runs.progress import inputs_of, spec_of
from edgeagent.node.runs.record import DataRef, RunRecord
from edgeagent.node.state_moves import Needed

if TYPE_CHECKING:
    from edgeagent.placement.decision import Choice

__all__ = ["Ahead", "StateAhead"]

log = structlog.get_logger("runs")

BYTES_AT_ONCE_MAX = 256 << 20  # of one run
NODES_MAX = 3  # that a step's state may go to: where it is planned, or falls back to


class StateAhead(Protocol):
    """Where keys are sent ahead from."""

    def ahead(self, prefixes: Sequence[str], run: str, needed: Needed) -> None: ...


class Ahead:
    """Of one run at its holder."""

    def __init__(
        self, record: RunRecord, node_id: str, *, board: Board, live: LiveData, state: StateAhead | None
    ) -> None:
        self._record = record
        self._node_id = node_id
        self._board = board
        self._live = live
        self._state = state
        self._tasks: set[asyncio.Task[None]] = set()
        self._bytes = 0
        self._begun: set[tuple[str, str]] = set()

    def begin(self, choices: Sequence[Choice], running: Sequence[str]) -> None:
        """A stage begins; ``choices`` are of all steps that are left."""
        for choice in choices:
            if choice.step in running or choice.node == self._node_id:
                continue
            self.state_to(choice, choices, running)
            for ref in inputs_of(self._record, choice.step):  # those that exist: it may follow others, too
                if ref.inline is None and (choice.node, ref.sha256) not in self._begun:
                    self._spawn(choice.node, ref)

    def state_to(self, choice: Choice, choices: Sequence[Choice], running: Sequence[str] = ()) -> None:
        """The keys of a step go to where it is to run: also of one that is handed over now, with what the step before
        has just written. What those that are ``running`` write goes there too, while they write it.
        """
        if self._state is None:
            return
        spec = spec_of(self._record, choice.step)
        needed = Needed(
            step=choice.step,
            nodes=tuple(dict.fromkeys((choice.node, *choice.ranked[:NODES_MAX]))),
            start_in_ms=_before(choices, choice),
            slo_ms=spec.latency_ms_max,
            is_next=not set(spec.after).isdisjoint(running),
        )
        prefixes = self._record.functions[spec.function].manifest.state.prefixes
        self._state.ahead(prefixes, self._record.id, needed)

    def _spawn(self, node: str, ref: DataRef) -> None:
        if self._bytes + ref.size > BYTES_AT_ONCE_MAX:
            return
        self._bytes += ref.size
        self._begun.add((node, ref.sha256))
        work: Coroutine[Any, Any, None] = self._send(node, ref)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, node: str, ref: DataRef) -> None:
        try:
            # From the disk: what is on its way may outlive the hose that it lies in.
            data = await self._board.store.data(await self._live.keep(ref))
            await self._board.send_data(node, self._record.id, ref, data)
        except EdgeError as error:
            self._begun.discard((node, ref.sha256))
            log.info("data did not go ahead", run=self._record.id, node=node, why=error.message)
        finally:
            self._bytes -= ref.size

    async def stop(self) -> None:
        """What is on its way goes on; nothing new begins. Idempotent."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _before(choices: Sequence[Choice], choice: Choice) -> float:
    """When a step may begin, from now on, in ms: after those that are chosen before it, but for its own execution."""
    first_s = min(one.start_s for one in choices)
    return max(0.0, (choice.start_s - first_s) * 1000.0)
