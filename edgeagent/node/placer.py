"""Where should this run? The shell around :mod:`edgeagent.placement`: what this node knows, asked beside the loop."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from edgeagent.model.errors import BadRequest
from edgeagent.model.function import Manifest
from edgeagent.node.membership import Membership
from edgeagent.node.runs.function_ref import FunctionRef
from edgeagent.placement.errors import NoFeasibleNode

if TYPE_CHECKING:
    from edgeagent.cost.estimates import Estimates
    from edgeagent.placement.decide import Decision
    from edgeagent.placement.views import NodeView, StepAsk

__all__ = ["Placer", "ask_for", "explained"]

SOURCE_LABEL = "source:"
AHEAD_S_MAX = 7 * 24 * 3600.0


def ask_for(ref: FunctionRef, estimates: Estimates, bytes_in: int, **more: Any) -> StepAsk:
    """What a call of the function needs, by its manifest and by what its calls took so far."""
    from edgeagent.placement.views import StepAsk

    manifest: Manifest = ref.manifest
    exec_ms, known = estimates.exec_ms(ref.sha256, bytes_in)
    fields: dict[str, Any] = {
        "name": ref.name,
        "function": ref.name,
        "sha256": ref.sha256,
        "memory_bytes": ref.memory_bytes + 2 * bytes_in,
        "needs": manifest.place.needs,
        "near": manifest.place.near,
        "data_source": manifest.place.data_source,
        "bytes_in": bytes_in,
        "bytes_out": estimates.out_bytes(ref.sha256, bytes_in),
        "code_bytes": ref.code_bytes,
        "exec_ms": exec_ms,
        "exec_known": known,
        "wall_ms": float(manifest.limits.wall_ms),
        "slo_class": manifest.slo.class_,
        "prefers_gpu": ref.prefers_gpu,
    }
    return StepAsk(**{**fields, **more})


class Placer:
    """On the event loop's thread; decisions are made on a thread of its own, one at a time."""

    def __init__(self, membership: Membership, node_id: str, *, forward: bool) -> None:
        self.forward = forward  # whether anything may run elsewhere
        self._membership = membership
        self._node_id = node_id
        self._chance = random.Random(secrets.randbits(64))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="edgeagent-place")

    def close(self) -> None:
        """Idempotent."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def nearest(self, count: int) -> list[str]:
        """Members that are there and reachable, the nearest first; those that stand on the ground before satellites."""
        views = self._membership.views({})
        network = self._membership.network(tuple(one.id for one in views))
        at_s = self._membership.utc_now_s() or 0.0

        def work() -> list[str]:
            me = network.ids.index(self._node_id)
            ways = network.graph(at_s).tree(me).distance
            found = [
                (one.kind == "satellite", float(ways[row]), one.id)
                for row, one in enumerate(views)
                if row != me and not one.excluded and one.trusted and ways[row] < float("inf")
            ]
            return [name for _, _, name in sorted(found)[:count]]

        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def decide(
        self,
        asks: Sequence[StepAsk],
        *,
        excluded: Mapping[str, str] | None = None,
        at_s: float | None = None,
    ) -> Decision:
        """For now, or for a UTC. Raises NoFeasibleNode naming the constraint, PlanRefused."""
        from edgeagent.placement.decide import decide

        views = self._membership.views(excluded or {})
        if not self.forward:
            why = "placement.forward is false here"
            views = [
                one if one.id == self._node_id else msgspec.structs.replace(one, excluded=why)
                for one in views
            ]
        network = self._membership.network(tuple(one.id for one in views))
        asks = [self._resolved(one, views) for one in asks]
        now_s = self._membership.utc_now_s() or 0.0 if at_s is None else at_s
        speed = self._membership.orbital_speed
        # A generator of its own: another decision may begin before this one ends.
        chance = random.Random(self._chance.getrandbits(64))

        def work() -> Decision:
            return decide(
                asks, views, network, here=self._node_id, now_s=now_s, orbital_speed=speed, chance=chance
            )

        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def time_of(self, text: str) -> float | None:
        """What ``--at`` says: ISO 8601, or +SECONDS from now. Raises BadRequest."""
        import datetime

        if not text:
            return None
        now_s = self._membership.utc_now_s() or 0.0
        try:
            if text[0] in "+ ":  # a plus sign that nobody escaped is a space in a query
                at_s = now_s + float(text[1:].removesuffix("s"))
            else:
                at = datetime.datetime.fromisoformat(text)
                at_s = (at if at.tzinfo else at.replace(tzinfo=datetime.UTC)).timestamp()
        except (ValueError, OverflowError):
            raise BadRequest(
                f"{text!r:.60} is no time", hint="2026-11-23T20:00:00Z, or +600 for in ten minutes"
            ) from None
        if not 0.0 <= at_s - now_s + 60.0 <= AHEAD_S_MAX:
            raise BadRequest(
                f"{text!r:.60} is not from now to a week ahead", hint="elements are good for days"
            )
        return at_s

    def _resolved(self, ask: StepAsk, views: Sequence[NodeView]) -> StepAsk:
        changes = {
            field: self._node_named(value, views, field, ask.name)
            for field in ("near", "data_source")
            if (value := getattr(ask, field))
        }
        return msgspec.structs.replace(ask, **changes) if changes else ask

    def _node_named(self, word: str, views: Sequence[NodeView], field: str, step: str) -> str:
        """An id, the beginning of one, or what a node calls itself by a label. Raises NoFeasibleNode."""
        for found in (
            [one.id for one in views if one.id == word],
            [one.id for one in views if word in one.labels or SOURCE_LABEL + word in one.labels],
            [one.id for one in views if len(word) >= 6 and one.id.startswith(word)],
        ):
            if found:
                return found[0]
        what = field.replace("_", "-")
        raise NoFeasibleNode(
            f"step {step!r:.60} names the {what} {word!r:.60}, which no member is",
            hint=f"an id of edgeagent peers, or a node whose placement.labels has {SOURCE_LABEL}{word:.60}",
            step=step,
            constraint=what,
        )


def explained(decision: Decision) -> dict[str, Any]:
    """As ``/v1/placement`` shows it."""
    return {
        "total_ms": decision.total_ms,
        "exact": decision.exact,
        "choices": msgspec.to_builtins(decision.choices),
        "steps": msgspec.to_builtins(decision.explanations),
    }
