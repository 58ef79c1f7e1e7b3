"""Chains: functions that run one after the other, each on the output of the one before.

On this node the output is not copied out between two of them: it waits where its producer left it and reaches the
consumer by the best tier (docs/hoses.md). Plain steps in a row run as one, on one thread of the engine, where it can do
that and their permits are at hand. Steps with several functions give each of them the same input and join what
they return. Steps at a peer go there together. Each run takes its permit like any other call, so that chains and calls
are bounded alike.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from functools import reduce
from itertools import takewhile
from typing import Any, NamedTuple, Protocol

import msgspec

from edgeagent.hose.settings import TIERS
from edgeagent.model.errors import Cancelled, DeadlineExceeded, EdgeError, StorageFull
from edgeagent.model.run_tag import RunTag
from edgeagent.node.items import items_bytes, write_items
from edgeagent.node.meters import Meters
from edgeagent.node.peers import UnknownPeer
from edgeagent.node.result import Result
from edgeagent.node.result import Step as Ran
from edgeagent.node.steps import Leg, Step, Target, legs_of
from edgeagent.runtime.port import Lease, Payload
from edgeagent.state.session import joined_sessions

__all__ = ["Chain", "Chains", "Passed", "RemoteCalls", "as_bytes"]

STOP_RETRY_S = 5.0
Given = bytes | memoryview | Payload
# A smaller join is not worth pages of its own.
_LEASE_BYTES_MIN = 32 << 10
# What is joined outside of the pool, where that is at its bound: it is bounded by the calls that run at once.
_PLAIN_BYTES_MAX = 64 << 20


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """What is to run: ``args`` are the first function's, ``wall_ms`` > 0 bounds all of them together, ``hops`` hosts
    passed it on before. With ``keep`` the last output stays where it is, as the result's ``payload``. ``tag``: which
    run of a workflow it is a step of, and the state that has been seen.
    """

    steps: tuple[Step, ...]
    args: Sequence[str] | None = None
    wall_ms: float = 0
    hops: int = 0
    traceparent: str = ""
    keep: bool = False
    tag: RunTag | None = None


class RemoteCalls(Protocol):
    """Chains at peers; see ``remote_hoses``."""

    def call(
        self, peer: str, steps: Sequence[str], given: Given, *, wall_ms: float, hops: int, traceparent: str
    ) -> Coroutine[Any, Any, Result]: ...
    def drop(self, payload: Payload) -> None: ...


class _Run(Protocol):
    async def __call__(
        self,
        name: str,
        body: Given,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        exempt: bool = False,
        keep: bool = False,
        move: bool = True,
        tag: RunTag | None = None,
    ) -> Result: ...


class Passed(NamedTuple):
    """One function of several that ran as one: its result, and the bytes that came in and went out."""

    result: Result
    bytes_in: int
    bytes_out: int


class _RunAsOne(Protocol):
    async def __call__(
        self,
        names: Sequence[str],
        body: Given,
        args: Sequence[str] | None,
        wall_ms: float,
        keep: bool,
        move: bool,
    ) -> Sequence[Passed] | None: ...


class _Leases(Protocol):
    def lease(self, count: int) -> Lease: ...
    def payload_of(self, data: bytes | memoryview) -> Payload: ...


class Chains:
    """``engine`` and ``remote`` are set by the node; without ``remote`` there are no peers."""

    def __init__(self, run: _Run, meters: Meters, run_as_one: _RunAsOne) -> None:
        self.engine: _Leases | None = None
        self.remote: RemoteCalls | None = None
        self._run = run
        self._run_as_one = run_as_one
        self._meters = meters
        self._calls: set[asyncio.Task[Result]] = set()  # at peers
        self._is_stopping = False

    async def run(self, chain: Chain, given: Given) -> Result:
        """See ``Invoker.invoke_chain``."""
        legs: Sequence[Leg] = legs_of(chain.steps)
        deadline = time.monotonic() + chain.wall_ms / 1000 if chain.wall_ms > 0 else 0.0
        held: Payload | None = None
        ran: list[Ran] = []
        try:
            while legs:
                job = _Job(
                    chain,
                    given,
                    deadline,
                    args=None if ran else chain.args,
                    keep=chain.keep,
                    move=held is not None,  # what came with the request is the caller's
                )
                result, legs = await self._next(legs, job)
                chain = _after(chain, result)
                if held is not None:
                    self._close(held)
                held = result.payload
                ran += result.steps
                given = held if held is not None else result.output
            held = None  # the caller's, if there is one
        finally:
            if held is not None:
                self._close(held)
        result.steps = tuple(ran)
        result.session = "" if chain.tag is None else chain.tag.session
        result.duration_us = sum(step.duration_us for step in ran)
        result.energy_uj = sum(step.energy_uj for step in ran)
        result.gpu_us = sum(step.gpu_us for step in ran)
        return result

    async def _next(self, legs: Sequence[Leg], job: _Job) -> tuple[Result, Sequence[Leg]]:
        """Run the first leg, or with it those that can run as one; what is left of them follows in the tuple."""
        here = [leg.steps[0][0] for leg in takewhile(_is_plain, legs)]
        if len(here) > 1:
            kept = msgspec.structs.replace(job, keep=job.keep or len(here) < len(legs))
            if (result := await self._as_one(here, kept)) is not None:
                return result, legs[len(here) :]
        kept = msgspec.structs.replace(job, keep=job.keep or len(legs) > 1)
        return await self._leg(legs[0], kept), legs[1:]

    async def _as_one(self, targets: Sequence[Target], job: _Job) -> Result | None:
        names = [target.function for target in targets]
        passed = await self._run_as_one(
            names, job.given, job.args, job.left_ms(targets[0]), job.keep, job.move
        )
        if passed is None:
            return None
        result = passed[-1].result
        result.steps = tuple(
            self._note(name, one.result, one.bytes_in, one.bytes_out)
            for name, one in zip(names, passed, strict=True)
        )
        return result

    def _close(self, payload: Payload) -> None:
        payload.close()
        if self.remote is not None:
            self.remote.drop(payload)

    def stop(self) -> None:
        """Give up what runs at peers: who waits for it gets Cancelled."""
        self._is_stopping = True
        for call in self._calls:
            call.cancel()

    async def _leg(self, leg: Leg, job: _Job) -> Result:
        if len(leg.steps) > 1:
            return await self._away(leg.peer, [str(step[0].function) for step in leg.steps], job)
        targets = leg.steps[0]
        if len(targets) == 1:
            return await self._one(targets[0], job)
        return await self._together(targets, job)

    async def _one(self, target: Target, job: _Job) -> Result:
        if target.peer:
            return await self._away(target.peer, [target.function], job)
        try:
            result = await self._run(
                target.function,
                job.given,
                job.args,
                job.left_ms(target),
                keep=job.keep,
                move=job.move,
                tag=job.chain.tag,
            )
        except EdgeError as error:
            error.details.setdefault("function", target.function)
            raise
        bytes_out = len(result.output) if result.payload is None else result.payload.size
        result.steps = (self._note(target.function, result, _size(job.given), bytes_out),)
        return result

    async def _away(self, peer: str, names: list[str], job: _Job) -> Result:
        if self.remote is None:
            raise UnknownPeer(
                f"this node knows no peer {peer}", hint="[hose.peers] of its configuration names them"
            )
        chain, first = job.chain, Target(names[0], peer)
        call = asyncio.ensure_future(
            self.remote.call(
                peer,
                names,
                job.given,
                wall_ms=job.left_ms(first),
                hops=chain.hops,
                traceparent=chain.traceparent,
            )
        )
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        try:
            result = await call
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._is_stopping and task is not None and not task.cancelling():
                raise Cancelled("the node stops", retry_after_s=STOP_RETRY_S, peer=peer) from None
            raise
        except EdgeError as error:
            if len(names) == 1:
                error.details.setdefault("function", names[0])
            raise
        for step in result.steps[:1]:  # the others were handed over at the peer, which counts them
            self._meters.handed_over(step.hose, step.wire_bytes, 0)
        return result if job.keep else await as_bytes(result)

    # -- several at once -----------------------------------------------------------------------------------------------

    async def _together(self, targets: Step, job: _Job) -> Result:
        """Each gets the same input; the first that fails ends the others."""
        if not isinstance(job.given, bytes | memoryview):
            await asyncio.to_thread(job.given.share)  # once, so that each can map it
        alone = msgspec.structs.replace(job, keep=True, move=False)
        tasks = [asyncio.create_task(self._one(target, alone)) for target in targets]
        try:
            results = await asyncio.gather(*tasks)
            return await self._joined(results, job)
        finally:
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, Result) and ended.payload is not None:
                    ended.payload.close()

    async def _joined(self, results: Sequence[Result], job: _Job) -> Result:
        assert self.engine is not None
        sizes = [len(r.output) if r.payload is None else r.payload.size for r in results]
        total = items_bytes(sizes)
        payload = await asyncio.to_thread(_join, self.engine, results, total)
        joined = Result(
            output=b"",
            payload=payload,
            steps=tuple(step for r in results for step in r.steps),
            backend="gpu" if any(r.backend == "gpu" for r in results) else "cpu",
            session=reduce(joined_sessions, (r.session for r in results), ""),
        )
        return joined if job.keep else await as_bytes(joined)

    def _note(self, name: str, result: Result, bytes_in: int, bytes_out: int) -> Ran:
        tier, copied, mapped, _ = result.hose
        self._meters.handed_over(TIERS[tier], copied, mapped)
        return Ran(
            function=name,
            duration_us=result.duration_us,
            cold=result.cold,
            hose=TIERS[tier],
            copied_bytes=copied,
            mapped_bytes=mapped,
            bytes_in=bytes_in,
            bytes_out=bytes_out,
            energy_uj=result.energy_uj,
            gpu_us=result.gpu_us,
        )


def _is_plain(leg: Leg) -> bool:
    """One function, here."""
    return len(leg.steps) == 1 and len(leg.steps[0]) == 1 and not leg.peer


def _after(chain: Chain, result: Result) -> Chain:
    """What comes next is to see what this has seen of state."""
    if not result.session:
        return chain
    tag = chain.tag or RunTag()
    tag = msgspec.structs.replace(tag, session=joined_sessions(tag.session, result.session))
    return msgspec.structs.replace(chain, tag=tag)


class _Job(msgspec.Struct):
    """One leg's work."""

    chain: Chain
    given: Any  # Given; a payload is no type that msgspec knows
    deadline: float
    args: Sequence[str] | None
    keep: bool
    move: bool

    def left_ms(self, target: Target) -> float:
        """Until the deadline, 0 without one. Raises DeadlineExceeded."""
        if not self.deadline:
            return 0.0
        left_ms = (self.deadline - time.monotonic()) * 1000
        if left_ms <= 0:
            raise DeadlineExceeded(
                f"the deadline of the chain passed before {target} ran", function=target.function
            )
        return left_ms


def _size(given: Given) -> int:
    return len(given) if isinstance(given, bytes | memoryview) else given.size


async def as_bytes(result: Result) -> Result:
    """With the output as bytes, wherever it lies."""
    if result.payload is not None:
        payload, result.payload = result.payload, None
        try:
            result.output = await asyncio.to_thread(payload.read)
        finally:
            payload.close()
    return result


def _join(engine: _Leases, results: Sequence[Result], total: int) -> Payload:
    """The outputs as framed items, copied once; twice where they are few bytes, or no hose is to be had for some more.
    Raises StorageFull where there is no memory for them.
    """
    items = [r.output if r.payload is None else r.payload.read() for r in results]
    try:
        lease = engine.lease(total) if total >= _LEASE_BYTES_MIN else None
    except MemoryError as error:
        if total > _PLAIN_BYTES_MAX:
            raise StorageFull(f"no memory to join {len(items)} outputs of {total} bytes: {error}") from None
        lease = None
    if lease is None:
        plain = bytearray(total)
        write_items(memoryview(plain), items)
        return engine.payload_of(memoryview(plain))
    with lease.view as view:
        write_items(view, items)
    return lease.publish(total)
