"""Workflows that begin by themselves: every so many seconds, when contact with a node begins, over a region.

Times and places are those of the orbits, so that they hold in emulations too. What was due while the node was down, or
while the last run of the same trigger had not ended, is not made up for.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import structlog

from edgeagent.model.errors import EdgeError, NotFound
from edgeagent.model.workflow import Trigger
from edgeagent.node.membership import Membership

if TYPE_CHECKING:
    from edgeagent.node.workflows import Workflows

__all__ = ["Triggers", "is_due", "is_over", "last_due_s"]

log = structlog.get_logger("runs")

_LOOK_S = 0.5
_EARTH_KM = 6371.0088


def is_due(trigger: Trigger, *, now_s: float, last_s: float | None, holds: bool, held: bool) -> bool:
    """Whether it begins a run: by time, or because its condition has begun to hold."""
    if trigger.every_s:
        return last_s is not None and now_s - last_s >= trigger.every_s
    return holds and not held


def is_over(place: tuple[float, float], over: tuple[float, ...]) -> bool:
    """Whether a point (degrees) lies in a circle (latitude, longitude in degrees, radius in km) on a sphere."""
    latitude, longitude, to_latitude, to_longitude = (math.radians(one) for one in (*place, *over[:2]))
    haversine = (
        math.sin((to_latitude - latitude) / 2) ** 2
        + math.cos(latitude) * math.cos(to_latitude) * math.sin((to_longitude - longitude) / 2) ** 2
    )
    return 2 * _EARTH_KM * math.asin(min(1.0, math.sqrt(haversine))) <= over[2]


def last_due_s(trigger: Trigger, *, now_s: float, last_s: float | None) -> float:
    """When it was due: looks come late, and that must not add up."""
    if not trigger.every_s or last_s is None:
        return now_s
    return now_s - (now_s - last_s) % trigger.every_s


class Triggers:
    """On the event loop's thread."""

    def __init__(self, workflows: Workflows, membership: Membership) -> None:
        self._workflows = workflows
        self._membership = membership
        self._last: dict[tuple[str, int], float] = {}
        self._held: dict[tuple[str, int], bool] = {}
        self._running: dict[tuple[str, int], str] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._watch())

    async def stop(self) -> None:
        """Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Begin what is due."""
        self._forget()
        for workflow in self._workflows.list():
            for index, trigger in enumerate(workflow.trigger):
                await self._look(workflow.workflow.name, index, trigger)

    @property
    def noted(self) -> int:
        """Triggers of which something is kept."""
        return len({*self._last, *self._held, *self._running})

    def _forget(self) -> None:
        """What was noted of triggers that are no more."""
        there = {(one.workflow.name, i) for one in self._workflows.list() for i in range(len(one.trigger))}
        for noted in (self._last, self._held, self._running):
            for key in noted.keys() - there:
                del noted[key]

    async def _look(self, name: str, index: int, trigger: Trigger) -> None:
        key = (name, index)
        now_s = self._membership.utc_now_s()
        if now_s is None:
            now_s = asyncio.get_running_loop().time()  # without a mesh only every_s has a meaning
        holds = self._holds(trigger)
        due = is_due(
            trigger, now_s=now_s, last_s=self._last.get(key), holds=holds, held=self._held.get(key, False)
        )
        self._held[key] = holds
        if trigger.every_s and key not in self._last:
            self._last[key] = now_s
        if not due:
            return
        self._last[key] = last_due_s(trigger, now_s=now_s, last_s=self._last.get(key))
        try:
            if await self._goes_on(key):
                return
            self._running[key] = await self._workflows.start(
                name, b"", deadline_ms=0, key=None, traceparent=""
            )
            log.info("a trigger began a run", workflow=name, trigger=index, run=self._running[key])
        except EdgeError as error:
            log.warning("a trigger began no run", workflow=name, trigger=index, why=error.message)

    async def _goes_on(self, key: tuple[str, int]) -> bool:
        """Whether the run that this trigger began has not ended; one that is forgotten has."""
        try:
            return (
                key in self._running and (await self._workflows.view(self._running[key])).state == "running"
            )
        except NotFound:
            return False

    def _holds(self, trigger: Trigger) -> bool:
        if trigger.contact_with:
            return self._membership.sees(trigger.contact_with)
        if trigger.over:
            place = self._membership.place_below()
            return place is not None and is_over(place, trigger.over)
        return False
