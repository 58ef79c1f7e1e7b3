"""Runs a function at the best of several nodes: reserve, call, and where that node fails or refuses, the next one.

Rules:

1. Nothing is sent before the target has admitted it (:mod:`reservation_desk`); a refusal costs one round trip.
2. A call that may have begun is begun elsewhere only where it is repeatable: nothing but its output leaves it. Every
   call has an Idempotency-Key, so that the same target answers a second request with the first one's outcome.
3. A target that membership holds dead, or that is out of contact for longer than the deadline, is given up at once.
4. What the function itself did (a trap, an exit code, too much output) is its result anywhere: it is not tried again
   here.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
import structlog

from edgeagent.hose.settings import TIERS
from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import (
    Busy,
    Cancelled,
    Conflict,
    DeadlineExceeded,
    EdgeError,
    NotFound,
    PeerFailed,
    Refused,
    StorageFull,
    StoreFailed,
    TooLarge,
    Unavailable,
)
from edgeagent.model.run_tag import RunTag
from edgeagent.node.reservation_desk import ReservationDesk, ReserveReply, ReserveRequest
from edgeagent.node.result import Result
from edgeagent.node.runs.function_ref import FunctionRef
from edgeagent.node.ties import Parts
from edgeagent.placement.errors import NotAdmitted

__all__ = ["Forwarder", "Landed", "Order", "Told"]

log = structlog.get_logger("place")

RESERVE_S = 5.0
_LOOK_S = 0.2
_AGAIN_S = 0.25
_GONE = frozenset({"dead", "left"})
# The target would not or could not take it; another one may.
_NEXT = (
    Busy,
    Cancelled,
    Conflict,
    NotAdmitted,
    NotFound,
    PeerFailed,
    Refused,
    StorageFull,
    StoreFailed,
    TooLarge,
    Unavailable,
)
# It would have, with fewer calls there.
_FULL = (Busy, NotAdmitted)

Told = Callable[[str], Awaitable[None]]


class Order(msgspec.Struct, kw_only=True):
    """One call that is to run somewhere. ``deadline_s`` is of the monotonic clock, 0 for none; ``tag``: the run that it
    is a step of.
    """

    ref: FunctionRef
    given: Any
    args: Sequence[str] | None = None
    deadline_s: float = 0.0
    wall_ms: float = 0.0
    traceparent: str = ""
    key: str = ""
    sources: tuple[str, ...] = ()
    keep: bool = False
    tag: RunTag | None = None

    def left_s(self) -> float:
        """Until the deadline, infinite without one. Raises DeadlineExceeded."""
        if not self.deadline_s:
            return float("inf")
        left_s = self.deadline_s - time.monotonic()
        if left_s <= 0:
            raise DeadlineExceeded(f"the deadline passed before {self.ref.name} had a node that ran it")
        return left_s


class Landed(msgspec.Struct, kw_only=True):
    """Where it ran in the end; ``refusals`` are the nodes tried before, and why they did not."""

    node: str
    result: Any
    refusals: dict[str, str]
    measured_ms: float


class TargetGone(PeerFailed):
    """Membership holds the target dead, or out of contact for too long, while it was to run something."""

    slug = "target-gone"


class Forwarder:
    """On the event loop's thread."""

    def __init__(self, parts: Parts, desk: ReservationDesk, *, tries_max: int) -> None:
        self._node_id = parts.node_id
        self._desk = desk
        self._functions = parts.functions
        self._invoker = parts.invoker
        self._remote = parts.remote
        self._membership = parts.membership
        self._meters = parts.meters
        self._tries_max = tries_max

    async def land(
        self,
        order: Order,
        ranked: Sequence[str],
        *,
        told: Told | None = None,
        refusals: dict[str, str] | None = None,
    ) -> Landed:
        """At the first of ``ranked`` that takes it. ``told`` hears of each node before it begins there.

        Raises Unavailable with ``details["refusals"]`` where nobody took it (``details["full"]`` are those that only
        lacked the room), DeadlineExceeded, and what the function raised.
        """
        tried: dict[str, str] = {} if refusals is None else refusals
        full: list[str] = []
        last: EdgeError | None = None
        for node in [one for one in ranked if one not in tried][: self._tries_max]:
            order.left_s()
            begun = time.monotonic()
            try:
                reservation = await self.reserve(order, node)
            except _NEXT as error:
                tried[node], last = error.message[:200], error
                full += [node] if isinstance(error, _FULL) else []
                log.info("refused", function=order.ref.name, node=node, why=error.message)
                continue
            if told is not None:
                await told(node)
            try:
                result = await self.run_at(order, node, reservation)
            except _NEXT as error:
                if not self._may_go_on(order, error):
                    raise
                tried[node], last = error.message[:200], error
                log.warning("a node failed", function=order.ref.name, node=node, why=error.message)
                continue
            return Landed(
                node=node, result=result, refusals=tried, measured_ms=(time.monotonic() - begun) * 1000
            )
        raise self._nobody(order, tried, full, last)

    def _may_go_on(self, order: Order, error: EdgeError) -> bool:
        """Whether the next node may be asked; a call that never began may always."""
        return order.ref.repeatable or isinstance(error, Busy | NotAdmitted | NotFound | Unavailable)

    def _nobody(
        self, order: Order, tried: Mapping[str, str], full: list[str], last: EdgeError | None
    ) -> EdgeError:
        if len(tried) == 1 and isinstance(last, Busy | StorageFull | TooLarge):
            last.details.setdefault("full", full)
            return last  # says more than that nobody took it
        return Unavailable(
            f"no node took {order.ref.name}: {len(tried)} were asked",
            hint="; ".join(f"{node[:8]}: {why}" for node, why in tried.items())[:500]
            or "no candidate is left",
            retry_after_s=1.0,
            refusals=dict(tried),
            full=full,
        )

    async def reserve(self, order: Order, node: str) -> ReserveReply:
        """One round trip. Raises what the target answers."""
        request = ReserveRequest(
            key=f"{order.key or secrets.token_hex(8)}/{node[:32]}",
            peer=self._node_id,
            function=order.ref,
            sources=tuple(dict.fromkeys(filter(None, (*self._own_source(order.ref), *order.sources))))[:8],
            memory_bytes=order.ref.memory_bytes,
            wall_ms=order.wall_ms or float(order.ref.manifest.limits.wall_ms),
        )
        if node == self._node_id:
            return await self._desk.reserve(request)
        timeout_s = min(RESERVE_S + order.ref.code_bytes / 1e6, order.left_s())
        try:
            reply = await self._remote.ask(
                node, "POST", "/v1/reservations", msgspec.json.encode(request), timeout_s=timeout_s
            )
            return msgspec.json.decode(reply.body, type=ReserveReply)
        except DeadlineExceeded:
            order.left_s()
            raise PeerFailed(f"the peer {node} did not answer in {timeout_s:.1f} s", peer=node) from None
        except UNDECODABLE:
            raise PeerFailed(f"the peer {node} answered with no reservation", peer=node) from None

    def _own_source(self, ref: FunctionRef) -> tuple[str, ...]:
        here = self._functions.find(ref.name)
        return (self._node_id,) if here is not None and here.sha256 == ref.sha256 else ()

    async def run_at(self, order: Order, node: str, reservation: ReserveReply) -> Result:
        """Run what was reserved. Raises TargetGone, PeerFailed, DeadlineExceeded, and what the function raised."""
        left_s = order.left_s()
        bounds = [left_s * 1000, order.wall_ms or float("inf")]
        wall_ms = min(bounds) if min(bounds) < float("inf") else 0.0
        if node == self._node_id:
            with self._desk.used(reservation.id):
                result = await self._invoker.feed(
                    order.ref.name,
                    order.given,
                    order.args,
                    wall_ms,
                    keep=order.keep,
                    move=False,
                    tag=order.tag,
                )
            if order.keep:  # a step of a run: a call alone is counted by who made it
                over = result.hose
                self._meters.handed_over(TIERS[over.tier], over.copied_bytes, over.mapped_bytes)
            return result
        headers = {
            "Edgeagent-Reservation": reservation.id,
            "Idempotency-Key": order.key or secrets.token_hex(16),
        }
        if order.tag is not None:
            headers |= order.tag.headers()
        if order.args is not None:
            headers["Edgeagent-Args"] = msgspec.json.encode(list(order.args)).decode()
        while True:
            try:
                result = await self._watched(order, node, headers, wall_ms)
                for step in result.steps[:1]:
                    self._meters.handed_over(step.hose, step.wire_bytes, 0)
                return result
            except TargetGone:
                raise
            except PeerFailed:
                # The way was cut, not the node: what it did is still there under the key.
                wait_s = self._comes_back_in_s(node, order)
                if wait_s is None:
                    raise
                await asyncio.sleep(max(wait_s, _AGAIN_S))
                wall_ms = min(wall_ms or float("inf"), order.left_s() * 1000)

    def _comes_back_in_s(self, node: str, order: Order) -> float | None:
        """How long until a cut target has a route again, within the deadline; None where waiting is no use."""
        if self._membership.state_of(node) != "occluded" or not order.deadline_s:
            return None
        wait_s = self._membership.returns_in_s(node)
        return wait_s if wait_s is not None and wait_s < order.left_s() else None

    async def _watched(self, order: Order, node: str, headers: dict[str, str], wall_ms: float) -> Result:
        call = asyncio.ensure_future(
            self._remote.call(
                node,
                [order.ref.name],
                order.given,
                wall_ms=wall_ms,
                traceparent=order.traceparent,
                headers=headers,
            )
        )
        try:
            while not call.done():
                await asyncio.wait({call}, timeout=_LOOK_S)
                if not call.done() and self._membership.state_of(node) in _GONE:
                    raise TargetGone(f"the node {node} is {self._membership.state_of(node)}", peer=node)
            return call.result()
        finally:
            if not call.done():
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
