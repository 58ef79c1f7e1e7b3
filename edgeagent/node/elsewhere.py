"""Calls that may run at another member: which may, which member has what this node lacks, and where each one goes.

A function that is here, asks for no particular place and has a free turn runs here: no plan could be nearer. All others
are placed: those that name a place, data or a class of their SLO, those that would wait here, and those that this node
does not have.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import msgspec

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import EdgeError, NotFound, Unavailable
from edgeagent.model.function import is_name
from edgeagent.model.workflow import Workflow
from edgeagent.node.chain import as_bytes
from edgeagent.node.forwarder import Order
from edgeagent.node.loaded import asks_for_a_place
from edgeagent.node.placer import ask_for, explained
from edgeagent.node.result import Result
from edgeagent.node.runs.function_ref import FunctionRef, ref_of
from edgeagent.node.ties import Ties
from edgeagent.node.workflow_spec import parse_workflow
from edgeagent.placement.errors import NoFeasibleNode

__all__ = ["Elsewhere"]

A = TypeVar("A")

_ASK_S = 2.0
_ASKED_MAX = 16  # members that are asked for a function or a workflow that is not here
_KNOWN_MAX = 256
_KNOWN_S = 10.0
_ROUNDS = 3


class Elsewhere:
    """On the event loop's thread."""

    def __init__(self, ties: Ties) -> None:
        self._node_id = ties.node_id
        self._functions = ties.functions
        self._here = ties.invoker.anywhere  # before calls may go elsewhere
        self._placer = ties.placer
        self._forwarder = ties.forwarder
        self._remote = ties.remote
        self._membership = ties.membership
        self._estimates = ties.estimates
        self._known: OrderedDict[str, tuple[float, FunctionRef, str]] = OrderedDict()

    @property
    def is_open(self) -> bool:
        """Whether there is anywhere else."""
        return self._placer.forward and self._membership.peer_count > 0

    async def find(self, name: str) -> tuple[FunctionRef, str]:
        """A function and a node that has it: this one, or the first member that says so. Raises NotFound."""
        here = self._functions.find(name)
        if here is not None:
            return ref_of(here), self._node_id
        if not self.is_open or not is_name(name):
            self._functions.get(name)
        known = self._known.get(name)
        if known is not None and known[0] > time.monotonic():
            return known[1], known[2]
        found, asked = await self._first(lambda node: self._ask(node, name))
        if found is not None:
            self._known[name] = (time.monotonic() + _KNOWN_S, *found)
            while len(self._known) > _KNOWN_MAX:
                self._known.popitem(last=False)
            return found
        raise NotFound(
            f"no function is called {name[:80]!r}, here or at the {asked} nearest members",
            hint="edgeagent deploy brings it",
        )

    async def find_workflow(self, name: str) -> Workflow:
        """One that is deployed at another member, the first that says so. Raises NotFound."""
        found, asked = None, 0
        if self.is_open and is_name(name):
            found, asked = await self._first(lambda node: self._ask_workflow(node, name))
        if found is None:
            raise NotFound(
                f"no workflow is called {name[:80]!r}, here or at the {asked} nearest members",
                hint="edgeagent workflow list shows what is deployed",
            )
        return found

    async def _first(self, ask: Callable[[str], Coroutine[Any, Any, A | None]]) -> tuple[A | None, int]:
        """What the first of the nearest members that has it answers, and how many were asked."""
        asks = [asyncio.ensure_future(ask(node)) for node in await self._placer.nearest(_ASKED_MAX)]
        try:
            for answer in asyncio.as_completed(asks):
                found = await answer
                if found is not None:
                    return found, len(asks)
        finally:
            for one in asks:
                one.cancel()
            await asyncio.gather(*asks, return_exceptions=True)
        return None, len(asks)

    async def _ask(self, node: str, name: str) -> tuple[FunctionRef, str] | None:
        try:
            reply = await self._remote.ask(node, "GET", f"/v1/functions/{name}/ref", timeout_s=_ASK_S)
            return msgspec.json.decode(reply.body, type=FunctionRef), node
        except (EdgeError, *UNDECODABLE):  # it has none, or is not to be reached: the others answer
            return None

    async def _ask_workflow(self, node: str, name: str) -> Workflow | None:
        try:
            reply = await self._remote.ask(node, "GET", f"/v1/workflows/{name}", timeout_s=_ASK_S)
            told = msgspec.json.decode(reply.body, type=dict[str, Any])
            told.pop("name", None)
            found = parse_workflow(msgspec.json.encode(told), "application/json")
        except (EdgeError, *UNDECODABLE):  # as above
            return None
        return found if found.workflow.name == name else None

    async def run(
        self,
        name: str,
        body: bytes | memoryview,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        exempt: bool = False,
    ) -> Result:
        """A call, wherever it runs best. Raises what calls raise, and NoFeasibleNode."""
        if not self._is_placed(name):
            return await self._here(name, body, args, wall_ms, exempt)
        ref, node = await self.find(name)
        order = Order(
            ref=ref,
            given=body,
            args=args,
            deadline_s=time.monotonic() + (wall_ms or float(ref.manifest.limits.wall_ms)) / 1000,
            key=secrets.token_hex(16),
            sources=(node,),
        )
        return await self._placed(order, len(body))

    def _is_placed(self, name: str) -> bool:
        here = self._functions.find(name)
        if here is None:
            return self.is_open
        entry = self._functions.ready(name)
        full = entry is not None and (
            bool(entry.admission.queue) or entry.admission.running >= entry.admission.limit
        )
        wanted = asks_for_a_place(here) or full or self._membership.is_strained()
        return wanted and self.is_open  # counting members comes last: most calls need no look at them

    async def _placed(self, order: Order, bytes_in: int) -> Result:
        refusals: dict[str, str] = {}
        last: EdgeError | None = None
        for _ in range(_ROUNDS):
            ask = ask_for(order.ref, self._estimates, bytes_in, returns_to=self._node_id)
            try:
                decision = await self._placer.decide([ask], excluded=refusals)
            except EdgeError:
                if last is not None:
                    raise last from None
                raise
            choice = decision.choices[0]
            try:
                landed = await self._forwarder.land(order, choice.ranked, refusals=refusals)
            except Unavailable as error:
                if not error.details.get("refusals"):
                    raise
                last = error
                continue
            result = await as_bytes(landed.result)
            self._estimates.observe(order.ref.sha256, bytes_in, result.duration_us / 1000, len(result.output))
            return result
        assert last is not None
        raise last

    # -- explanations ----------------------------------------------------------------------------------------

    async def explain(self, name: str, bytes_in: int, at: str) -> dict[str, Any]:
        """``/v1/placement?function=``. Raises NotFound, BadRequest, NoFeasibleNode."""
        ref, _ = await self.find(name)
        at_s = self._placer.time_of(at)
        ask = ask_for(ref, self._estimates, bytes_in, returns_to=self._node_id)
        return {"function": name, **await self.told([ask], at_s)}

    async def told(self, asks: Sequence[Any], at_s: float | None) -> dict[str, Any]:
        """What would be decided; where no node will do, the explanation of that."""
        head = {"node": self._node_id, "at": at_s if at_s is not None else self._membership.utc_now_s()}
        try:
            return {**head, "feasible": True, **explained(await self._placer.decide(asks, at_s=at_s))}
        except NoFeasibleNode as error:
            return {
                **head,
                "feasible": False,
                "problem": error.problem(),
                "choices": [],
                "steps": msgspec.to_builtins(error.explanations),
            }
