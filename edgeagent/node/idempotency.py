"""One execution for one Idempotency-Key: the first request runs, repeats get its outcome.

Rules:

1. A flight is what happens for a key right now; there is one at most. Requests with the same key and the
   same function, body and arguments join it; others are refused (KeyReused).
2. A synchronous outcome is kept when it is the function's own: success or GuestFailed. It is on the disk
   before anyone sees it. What the node caused (a full queue, a deadline, a stop) is not kept: a repeat
   runs again.
3. A flight ends when all who wait for it have left; the guest is stopped then.
4. An async invocation under the same key is joined by synchronous repeats, and the other way round.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from edgeagent.model import errors
from edgeagent.model.errors import BadRequest, Cancelled, DeadlineExceeded, EdgeError, GuestFailed, KeyReused
from edgeagent.node.background import Background, problem_bytes
from edgeagent.node.meters import Meters
from edgeagent.node.result import Result
from edgeagent.state.invocations import Finished, Invocations, Record

__all__ = ["Idempotency", "Run", "fingerprint", "replayed"]

T = TypeVar("T")

KEY_CHARACTERS_MAX = 255
# Hashing more than this on the event loop would be felt.
HASHED_INLINE_BYTES_MAX = 64 << 10
_BY_SLUG = {
    kind.slug: kind
    for name in errors.__all__
    if isinstance(kind := getattr(errors, name), type) and issubclass(kind, EdgeError)
}


class Run(Protocol):
    """One execution; Invoker's."""

    async def __call__(
        self,
        name: str,
        body: bytes | memoryview,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        exempt: bool = False,
    ) -> Result: ...


class _Flight:
    __slots__ = ("fingerprint", "joined", "replays", "task", "waiting")

    def __init__(self, print_: bytes, task: asyncio.Task[Any], *, replays: bool) -> None:
        self.fingerprint = print_
        self.task = task
        self.replays = replays  # its result can be handed to others
        self.waiting = 0


class Idempotency:
    def __init__(self, journal: Invocations, run: Run, background: Background, meters: Meters) -> None:
        self._journal = journal
        self._run = run
        self._background = background
        self._meters = meters
        self._flights: dict[str, _Flight] = {}
        self._stopping = False

    @property
    def flights(self) -> int:
        """Keys that something happens for right now."""
        return len(self._flights)

    async def invoke(
        self, key: str, name: str, body: bytes | memoryview, args: Sequence[str] | None, wall_ms: float
    ) -> Result:
        """The outcome for ``key``: stored, of the run under way, or of a new run."""
        deadline = time.monotonic() + wall_ms / 1000 if wall_ms > 0 else 0.0
        print_ = await self._fingerprint(key, name, body, args)
        result: Result | None = None
        while result is None and (flight := self._flights.get(key)) is not None:
            self._same(flight.fingerprint, print_)
            result = await self._joined(flight, _left_s(deadline))
        if result is not None:
            result = msgspec.structs.replace(result, replayed=True)
        else:
            left_ms = 1000 * (_left_s(deadline) or 0.0)
            flight = self._begin(key, print_, self._fly(key, print_, name, body, args, left_ms), replays=True)
            result = await self._wait(flight)
        if result.replayed:
            self._meters.function(name).replayed += 1
        return result

    async def submit(
        self, key: str | None, name: str, body: bytes | memoryview, args: Sequence[str] | None, wall_ms: float
    ) -> str:
        """Journal an async invocation; the id of the one that ``key`` already names, if it does."""
        print_ = await self._fingerprint(key, name, body, args)
        if key is None:
            return await self._accept(None, print_, name, body, args, wall_ms)
        while (flight := self._flights.get(key)) is not None:
            self._same(flight.fingerprint, print_)
            await asyncio.wait([flight.task])
        flight = self._begin(key, print_, self._accept(key, print_, name, body, args, wall_ms), replays=False)
        # Not joined: a journal entry is made whether or not its caller is still there.
        accepted: str = await asyncio.shield(flight.task)
        return accepted

    async def stop(self) -> None:
        """Cancel every flight and wait for it."""
        self._stopping = True
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, key: str, print_: bytes, work: Coroutine[Any, Any, T], *, replays: bool) -> _Flight:
        task = asyncio.ensure_future(work)
        flight = self._flights[key] = _Flight(print_, task, replays=replays)

        def ended(done: asyncio.Task[T]) -> None:
            del self._flights[key]
            if not done.cancelled():
                done.exception()  # seen by those who wait, if any is left

        task.add_done_callback(ended)
        return flight

    async def _joined(self, flight: _Flight, left_s: float | None) -> Result | None:
        """The outcome of somebody else's flight; None when it came to nothing that could be shared."""
        if not flight.replays:
            await asyncio.wait([flight.task], timeout=left_s)
        else:
            try:
                async with asyncio.timeout(left_s):
                    return await self._wait(flight)
            except TimeoutError:
                pass
            except EdgeError as error:
                if isinstance(error, GuestFailed) or self._stopping:
                    raise
        if left_s is not None and not flight.task.done():
            raise DeadlineExceeded("the deadline passed while an earlier request with this key ran")
        await asyncio.sleep(0)  # a flight that has just ended is taken off the table when the loop turns
        return None

    async def _wait(self, flight: _Flight) -> Result:
        """The flight's outcome; the last one who leaves before its end stops it."""
        flight.waiting += 1
        try:
            result: Result = await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                raise Cancelled("the run was stopped") from None
            raise
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                flight.task.cancel()
        return result

    async def _fly(
        self,
        key: str,
        print_: bytes,
        name: str,
        body: bytes | memoryview,
        args: Sequence[str] | None,
        wall_ms: float,
    ) -> Result:
        record = await self._journal.by_key(key, print_)
        if record is not None:
            return replayed(await self._finished(record, wall_ms))
        try:
            result = await self._run(name, body, args, wall_ms)
        except GuestFailed as error:
            await self._keep(key, print_, name, Finished(problem=problem_bytes(error)))
            raise
        await self._keep(
            key,
            print_,
            name,
            Finished(output=result.output, duration_us=result.duration_us, exit_code=result.exit_code),
        )
        return result

    async def _keep(self, key: str, print_: bytes, name: str, finished: Finished) -> None:
        await self._journal.keep(
            uuid.uuid4().hex, key=key, fingerprint=print_, function=name, finished=finished
        )

    async def _finished(self, record: Record, wall_ms: float) -> Record:
        if record.is_finished:
            return record
        try:
            async with asyncio.timeout(wall_ms / 1000 if wall_ms > 0 else None):
                return await self._background.finished(record.id)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the deadline passed before invocation {record.id} had finished", invocation=record.id
            ) from None

    async def _accept(
        self,
        key: str | None,
        print_: bytes,
        name: str,
        body: bytes | memoryview,
        args: Sequence[str] | None,
        wall_ms: float,
    ) -> str:
        fresh = uuid.uuid4().hex
        accepted = await self._journal.submit(
            fresh,
            key=key,
            fingerprint=print_,
            function=name,
            body=body,
            args=None if args is None else msgspec.json.encode(list(args)),
            wall_ms=wall_ms,
        )
        if accepted == fresh:
            self._background.add(fresh)
        return accepted

    @staticmethod
    def _same(held: bytes, asked: bytes) -> None:
        if held != asked:
            raise KeyReused("this Idempotency-Key is in use with another function, body or arguments")

    @staticmethod
    async def _fingerprint(
        key: str | None, name: str, body: bytes | memoryview, args: Sequence[str] | None
    ) -> bytes:
        if key is not None and not 1 <= len(key) <= KEY_CHARACTERS_MAX:
            raise BadRequest(f"an Idempotency-Key has 1 to {KEY_CHARACTERS_MAX} characters, not {len(key)}")
        if key is None:
            return b""
        if len(body) > HASHED_INLINE_BYTES_MAX:
            return await asyncio.to_thread(fingerprint, name, body, args)
        return fingerprint(name, body, args)


def _left_s(deadline: float) -> float | None:
    """Seconds to a monotonic deadline, never quite 0 (which would mean none); None when there is none."""
    return max(1e-6, deadline - time.monotonic()) if deadline else None


def fingerprint(name: str, body: bytes | memoryview, args: Sequence[str] | None) -> bytes:
    """What tells two requests apart: SHA-256 over function, arguments and body."""
    head = msgspec.json.encode((name, None if args is None else list(args)))
    digest = hashlib.sha256(len(head).to_bytes(8, "big") + head)
    digest.update(body)
    return digest.digest()


def replayed(record: Record) -> Result:
    """The stored outcome of a finished row; raises the stored error."""
    if record.problem is None:
        return Result(
            output=record.output,
            duration_us=record.duration_us,
            exit_code=record.exit_code,
            replayed=True,
        )
    problem: dict[str, Any] = msgspec.json.decode(record.problem)
    slug = str(problem.pop("type", "")).removeprefix(errors.TYPE_PREFIX)
    message, hint = str(problem.pop("detail", "")), str(problem.pop("hint", ""))
    for member in ("title", "status"):
        problem.pop(member, None)
    raise _BY_SLUG.get(slug, GuestFailed)(message, hint=hint, **{**problem, "replayed": True})
