"""Running a function once for a caller who waits: admission, deadline, engine, outcome; and ways to ask for more.

- ``try_invoke``: the hot path, without a task, for functions that were short last time.
- ``invoke``: the ordinary way; with an Idempotency-Key through ``idempotency``.
- ``submit`` and ``status``: async invocations, through ``background``.

Every permit taken is given back on every path: success, failure, deadline, a caller who waits or runs and leaves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import cast

from edgeagent.model.errors import Busy, Cancelled, DeadlineExceeded, EdgeError, Unavailable
from edgeagent.model.run_tag import RunTag
from edgeagent.node.background import Background
from edgeagent.node.call_marks import CallMarks, carry_marks
from edgeagent.node.chain import Chain, Chains, Passed
from edgeagent.node.config_schema import Config
from edgeagent.node.functions import Functions
from edgeagent.node.guest_log import GuestLog
from edgeagent.node.idempotency import Idempotency, Run
from edgeagent.node.loaded import LoadedEntry, Stray, Waiter
from edgeagent.node.meters import Meters
from edgeagent.node.result import InvocationView, Result
from edgeagent.node.stateful import StateSessions, with_state
from edgeagent.runtime import port
from edgeagent.state.invocations import Invocations

__all__ = ["InvocationView", "Invoker", "Result"]

STRAYS_MAX = 64
STRAY_KEPT_S = 2.0


class Invoker:
    """Used on the event loop's thread only; ``active`` are callers inside ``invoke`` and ``submit``."""

    def __init__(
        self, config: Config, functions: Functions, journal: Invocations, meters: Meters, workers: int
    ) -> None:
        self.active = 0
        self.draining = False
        self.guest_log = GuestLog(config.log)
        self.chains = Chains(self._run, meters, self._run_as_one)
        # The node sets these: calls that may run at other members, functions that those may have, and state.
        self.anywhere: Run = self._run
        self.state: StateSessions | None = None
        self.known: Callable[[str], Awaitable[None]] = self._known_here
        self.core_w = 0.0  # what a busy core draws over idle
        self.admit: Callable[[LoadedEntry], None] = lambda _: None  # raises EdgeError: it cannot run here now
        self.ended: Callable[[LoadedEntry, CallMarks, float], int] = lambda *_: 0
        self.background = Background(journal, self._run_anywhere, config.queue.background_max or 2 * workers)
        self.idempotency = Idempotency(journal, self._run_anywhere, self.background, meters)
        self._config = config
        self._functions = functions
        self._meters = meters
        self._entries = functions.entries
        self._wait_s_max = config.queue.wait_ms_max / 1000
        self._idle = asyncio.Event()
        self._running: set[asyncio.Future[port.Outcome]] = set()
        self._stopping = False

    # -- the hot path ----------------------------------------------------------------------------------------

    def try_invoke(
        self, name: str, body: bytes | memoryview, args: Sequence[str] | None = None, wall_ms: float = 0
    ) -> Result | None:
        """The result when the function ran at once on this thread; None: go on with ``invoke`` (same
        arguments).

        Raises the guest's typed error when it ran and failed. A run that had to be handed to a worker is
        not lost: ``invoke`` picks it up.
        """
        entry = self._entries.get(name)
        if entry is None or self.draining or entry.is_placed or not entry.short[len(body).bit_length()]:
            return None
        if entry.uses_accel:  # the reply says by what its kernels were run
            return None
        admission = entry.admission
        if admission.queue or admission.running >= admission.limit or len(entry.strays) >= STRAYS_MAX:
            return None
        try:
            started = entry.start(body, args, wall_ms)
        except (Busy, Unavailable):
            return None
        if isinstance(started, asyncio.Future):
            self._stray(entry, Stray(body, args, wall_ms, started))
            return None
        return self._settled(entry, started, len(body), False)

    def _stray(self, entry: LoadedEntry, stray: Stray) -> None:
        entry.short[len(stray.body).bit_length()] = 0
        entry.admission.enter()
        entry.strays.append(stray)
        self._running.add(stray.future)
        stray.future.add_done_callback(lambda future: self._stray_ended(entry, future))
        stray.future.get_loop().call_later(STRAY_KEPT_S, self._forget_stray, entry, stray)

    def _stray_ended(self, entry: LoadedEntry, future: asyncio.Future[port.Outcome]) -> None:
        self._running.discard(future)
        if not future.cancelled():
            future.exception()  # whoever takes the stray has it too
        entry.leave()

    def _forget_stray(self, entry: LoadedEntry, stray: Stray) -> None:
        if stray in entry.strays:  # its caller left between the hot path and the ordinary one
            entry.strays.remove(stray)
            stray.future.cancel()

    # -- the ordinary way ------------------------------------------------------------------------------------

    async def invoke(
        self,
        name: str,
        body: bytes | memoryview,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        idempotency_key: str | None = None,
    ) -> Result:
        """Run the function and wait for it.

        ``args`` replaces the manifest's; ``wall_ms`` > 0 bounds everything from now on, waiting and
        loading included. With a key, a repeat of a finished request gets the stored outcome and a repeat
        of one under way joins it. Raises NotFound, Busy, Unavailable, DeadlineExceeded, GuestFailed and
        below, KeyReused, StorageFull, StoreFailed. Cancelling stops the guest.
        """
        self._arrive()
        try:
            if idempotency_key is None:
                return await self._run_anywhere(name, body, args, wall_ms)
            await self.known(name)
            return await self.idempotency.invoke(idempotency_key, name, body, args, wall_ms)
        finally:
            self._depart()

    async def invoke_chain(self, chain: Chain, given: bytes | memoryview | port.Payload) -> Result:
        """Run functions one after the other, each on the output of the one before, which is handed over by a hose.

        The result is the last one's, with ``steps``; ``given`` stays the caller's. Raises what ``invoke`` raises, and
        PeerFailed; the error names the function that failed.
        """
        self._arrive()
        try:
            return await self.chains.run(chain, given)
        finally:
            self._depart()

    async def feed(
        self,
        name: str,
        given: bytes | memoryview | port.Payload,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        *,
        keep: bool,
        move: bool = True,
        tag: RunTag | None = None,
    ) -> Result:
        """Run the function here, for the node's own use: ``keep`` leaves the output where it is, without ``move``
        others need the input too; ``tag`` is the run that it is a step of.

        Raises what ``invoke`` raises.
        """
        self._arrive()
        try:
            return await self._run(name, given, args, wall_ms, keep=keep, move=move, tag=tag)
        finally:
            self._depart()

    async def submit(
        self,
        name: str,
        body: bytes | memoryview,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        idempotency_key: str | None = None,
    ) -> str:
        """Journal an invocation and return its id; it runs in the background, also after a crash of the node.

        ``wall_ms`` > 0 bounds its run. Raises NotFound, Busy, Unavailable, KeyReused, StorageFull,
        StoreFailed; then nothing was accepted.
        """
        self._arrive()
        try:
            await self.known(name)
            return await self.idempotency.submit(idempotency_key, name, body, args, wall_ms)
        finally:
            self._depart()

    async def status(self, invocation_id: str) -> InvocationView:
        """How an async invocation (or a synchronous one with a key) stands; raises NotFound."""
        return await self.background.status(invocation_id)

    async def _run_anywhere(
        self,
        name: str,
        body: bytes | memoryview,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        exempt: bool = False,
    ) -> Result:
        """By what ``anywhere`` is when it is called."""
        result = await self.anywhere(name, body, args, wall_ms, exempt)
        self._meters.received(result.hose)
        return result

    async def _known_here(self, name: str) -> None:
        self._functions.get(name)

    async def _run(
        self,
        name: str,
        body: bytes | memoryview | port.Payload,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        exempt: bool = False,
        keep: bool = False,
        move: bool = True,
        tag: RunTag | None = None,
    ) -> Result:
        """One run; ``exempt`` ones are the node's own and pass the bounds of the queue; ``keep`` leaves the output
        where it is, as the result's ``payload``; without ``move`` others need the input too; ``tag`` says for which run
        of a workflow.
        """
        bytes_in = _size(body)
        deadline = time.monotonic() + wall_ms / 1000 if wall_ms > 0 else 0.0
        entry = self._entries.get(name)
        cold = entry is None
        if entry is None:
            entry = await self._load(name, deadline)
        elif not keep and entry.strays and (future := _adopt(entry, body, args, wall_ms)) is not None:
            return self._settled(entry, await self._outcome(future), bytes_in, cold)
        if entry.uses_accel:
            self.admit(entry)
        if not entry.admission.enter():
            await self._wait(entry, deadline, exempt)
        begun = time.monotonic()
        marks = CallMarks(deadline) if entry.uses_accel else None
        try:
            start = partial(self._start, entry, body, args, deadline, keep, move, marks)
            if entry.uses_state and self.state is not None:
                outcome, seen = await with_state(self.state, entry, tag, deadline, start)
            else:
                outcome, seen = await start(), ""
        finally:
            whole_ms = (time.monotonic() - begun) * 1000
            entry.leave(whole_ms)
        result = self._settled(entry, outcome, bytes_in, cold)
        result.session = seen
        if marks is not None:
            result.backend, result.gpu_us = marks.backend, round(1000 * marks.gpu_ms)
            result.energy_uj += self.ended(entry, marks, whole_ms)
        result.hose = port.Handover(*outcome.hose)
        if outcome.payload is not None:
            result.payload = outcome.payload
            entry.meter.bytes_out += outcome.payload.size
        return result

    async def _run_as_one(
        self,
        names: Sequence[str],
        body: bytes | memoryview | port.Payload,
        args: Sequence[str] | None,
        wall_ms: float,
        keep: bool,
        move: bool,
    ) -> Sequence[Passed] | None:
        """Functions one after the other on one thread of the engine; None, with nothing run, where that cannot be.

        It cannot for functions that are not loaded, that wait for the node while they run, or that are busy: who
        holds a permit before its turn must not keep others from it.
        """
        entries = [entry for name in names if (entry := self._entries.get(name)) is not None]
        if len(entries) < len(names) or any(entry.waits for entry in entries):
            return None
        first = entries[0].function
        if not isinstance(first, port.ChainFunction) or not _enter_all(entries):
            return None
        then = [entry.function for entry in entries[1:]]
        begun = time.monotonic()
        try:
            started = first.start_chain(then, body, args, wall_ms, keep, move)
            future = cast("asyncio.Future[port.Outcome]", started)
            self._running.add(future)
            try:
                last = await self._outcome(future)
            finally:
                self._running.discard(future)
        finally:
            spent_ms = (time.monotonic() - begun) * 1000 / len(entries)
            for entry in entries:
                entry.leave(spent_ms)
        return self._passed(entries, cast(port.ChainOutcome, last), _size(body))

    def _passed(
        self, entries: Sequence[LoadedEntry], last: port.ChainOutcome, bytes_in: int
    ) -> Sequence[Passed]:
        """Raises the error of the one that failed, after those before it were counted."""
        passed: list[Passed] = []
        outs = [outcome.passed_bytes for outcome in last.earlier]
        outs.append(len(last.output) if last.payload is None else last.payload.size)
        # Fewer than the functions where one of them failed.
        for entry, outcome, bytes_out in zip(entries, (*last.earlier, last), outs, strict=False):
            try:
                result = self._settled(entry, outcome, bytes_in, False)
            except EdgeError as error:
                error.details.setdefault("function", entry.name)
                raise
            result.hose, result.payload = port.Handover(*outcome.hose), outcome.payload
            passed.append(Passed(result, bytes_in, bytes_out))
            entry.meter.bytes_out += bytes_out - len(outcome.output)
            bytes_in = bytes_out
        return passed

    async def _load(self, name: str, deadline: float) -> LoadedEntry:
        if not deadline:
            return await self._functions.load(name)
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await self._functions.load(name)
        except TimeoutError:
            raise DeadlineExceeded(f"the deadline passed while {name} was loaded") from None

    async def _wait(self, entry: LoadedEntry, deadline: float, exempt: bool) -> None:
        """Wait for a permit of ``entry``; when it raises, none is held."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        try:
            ticket = entry.admission.wait(waiter, exempt=exempt)
        except Busy:
            entry.meter.failed(Busy.slug)
            raise
        begun = time.monotonic()
        left = max(0.0, deadline - begun) if deadline else None
        bound = None if exempt else self._wait_s_max
        limit = min((seconds for seconds in (left, bound) if seconds is not None), default=None)
        try:
            async with asyncio.timeout(limit):
                await waiter
        except BaseException as error:
            entry.wake(entry.admission.withdraw(ticket))
            if not isinstance(error, TimeoutError):
                raise
            refusal = self._waited_too_long(entry, left is not None and left == limit)
            entry.meter.failed(refusal.slug)
            raise refusal from None
        entry.meter.waits.add(int((time.monotonic() - begun) * 1e6))

    def _waited_too_long(self, entry: LoadedEntry, by_deadline: bool) -> EdgeError:
        if by_deadline:
            return DeadlineExceeded(f"the deadline passed while the call of {entry.name} waited for its turn")
        return Busy(
            f"the call of {entry.name} waited {self._config.queue.wait_ms_max} ms (queue.wait_ms_max)",
            retry_after_s=entry.admission.retry_after_s(),
        )

    async def _start(
        self,
        entry: LoadedEntry,
        body: bytes | memoryview | port.Payload,
        args: Sequence[str] | None,
        deadline: float,
        keep: bool = False,
        move: bool = True,
        marks: CallMarks | None = None,
        context: object = None,
    ) -> port.Outcome:
        if marks is not None:
            if context is None:
                context = marks
            else:
                carry_marks(context, marks)
        left_ms = 0.0
        if deadline:
            left_ms = (deadline - time.monotonic()) * 1000
            if left_ms <= 0:
                entry.meter.failed(DeadlineExceeded.slug)
                raise DeadlineExceeded(f"the deadline passed before {entry.name} ran")
        special = keep or not move or context is not None
        started = (
            entry.start(body, args, left_ms, keep, move, context)
            if special
            else entry.start(body, args, left_ms)
        )
        entry.short[_size(body).bit_length()] = not isinstance(started, asyncio.Future)
        if isinstance(started, asyncio.Future):
            self._running.add(started)
            try:
                return await self._outcome(started)
            finally:
                self._running.discard(started)
        return started

    async def _outcome(self, future: asyncio.Future[port.Outcome]) -> port.Outcome:
        try:
            return await future
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._stopping and task is not None and not task.cancelling():
                raise Cancelled("the node stops", retry_after_s=self._config.drain.retry_after_s) from None
            raise

    def _settled(self, entry: LoadedEntry, outcome: port.Outcome, bytes_in: int, cold: bool) -> Result:
        """Count an outcome and make it a result; raises its error."""
        meter = entry.meter
        if entry.writes and (outcome.log or outcome.stderr):
            self.guest_log.write(entry.name, outcome.log, outcome.stderr)
        error = outcome.error
        if error is not None:
            meter.failed(error.slug)
            raise error
        output, duration_us, inline = outcome.output, outcome.duration_us, outcome.inline
        meter.succeeded(duration_us, bytes_in, len(output))
        meter.inline += inline
        meter.cold += cold
        return Result(
            output=output,
            duration_us=duration_us,
            energy_uj=int(duration_us * self.core_w),
            cold=cold,
            inline=inline,
            exit_code=outcome.exit_code,
        )

    # -- coming and going ------------------------------------------------------------------------------------

    def _arrive(self) -> None:
        if self.draining:
            raise Unavailable("the node is draining", retry_after_s=self._config.drain.retry_after_s)
        self.active += 1

    def _depart(self) -> None:
        self.active -= 1
        if not self.active:
            self._idle.set()

    async def drain(self, timeout_s: float) -> bool:
        """Take no more calls and wait for those inside; whether all ended in time.

        Journaled invocations that have not begun stay for the next start.
        """
        self.draining = True
        try:
            async with asyncio.timeout(timeout_s):
                await self.background.drain()
                while self.active:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Stop what still runs or waits (callers get Cancelled); idempotent."""
        self.draining = True
        self._stopping = True
        await self.background.stop()
        self._functions.stop_loading()
        for entry in self._functions.all_entries():
            for ticket in list(entry.admission.queue):
                if not ticket.waiter.done():
                    ticket.waiter.set_exception(
                        Cancelled("the node stops", retry_after_s=self._config.drain.retry_after_s)
                    )
        for future in list(self._running):
            future.cancel()
        self.chains.stop()
        await self.idempotency.stop()
        while self.active:
            self._idle.clear()
            await self._idle.wait()


def _size(body: bytes | memoryview | port.Payload) -> int:
    return len(body) if isinstance(body, bytes | bytearray | memoryview) else body.size


def _enter_all(entries: Sequence[LoadedEntry]) -> bool:
    """A permit of each, where at least half of its permits stay for others; else of none."""
    for i, entry in enumerate(entries):
        admission = entry.admission
        if not (2 * (admission.running + 1) <= admission.limit and admission.enter()):
            for entered in entries[:i]:
                entered.leave()
            return False
    return True


def _adopt(
    entry: LoadedEntry, body: bytes | memoryview | port.Payload, args: Sequence[str] | None, wall_ms: float
) -> asyncio.Future[port.Outcome] | None:
    for stray in entry.strays:
        if stray.body == body and stray.args == args and stray.wall_ms == wall_ms:
            entry.strays.remove(stray)
            return stray.future
    return None
