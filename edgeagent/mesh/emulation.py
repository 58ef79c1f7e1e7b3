"""Emulation on one machine: daemons on loopback that are as far apart, and as often out of sight, as their orbits say.

``mesh.emulate = "60 since 2026-11-23T20:00:00Z"`` lets orbital time run 60 times as fast as the clock, from that
moment on; nodes with the same text share one virtual time. Packets take the latency of the predicted path, and go
nowhere where there is no path; so do requests and hoses to peers that are members. ``, loss 0.1`` at its end loses one
in ten datagrams besides. It cannot stay on by accident: it is refused for listeners beyond loopback, and from 24 hours
after the moment that it names.
"""

from __future__ import annotations

import datetime
import math
import random
import re
from collections.abc import Callable

import msgspec

from edgeagent.gossip.core import Mesh
from edgeagent.mesh.sky import Sky
from edgeagent.model.errors import BadConfig

__all__ = ["EMULATED_HOURS_MAX", "EmulatedLinks", "Emulation", "emulation_of"]

EMULATED_HOURS_MAX = 24.0
SPEED_MAX = 10_000.0
_FORM = re.compile(
    r"([0-9]+(?:\.[0-9]+)?) since ([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z)(?:, loss (0?\.[0-9]+))?"
)


class Emulation(msgspec.Struct, frozen=True):
    """``speed`` 1 is real time; ``loss`` is the share of datagrams that are lost."""

    speed: float
    since_s: float
    loss: float = 0.0

    def utc_s(self, clock_s: float) -> float:
        """Virtual UTC at a time of the clock."""
        return self.since_s + (clock_s - self.since_s) * self.speed


def emulation_of(text: str, clock_s: float) -> Emulation | None:
    """What ``mesh.emulate`` says, None for nothing. Raises BadConfig, also when its day is over."""
    if not text.strip():
        return None
    form = _FORM.fullmatch(text.strip())
    hint = 'give a speed and the beginning, for instance "60 since 2026-11-23T20:00:00Z"'
    if form is None:
        raise BadConfig(f"mesh.emulate = {text!r:.80} is no emulation", hint=hint)
    speed = float(form[1])
    try:
        since_s = datetime.datetime.fromisoformat(form[2]).timestamp()
    except ValueError:
        raise BadConfig(f"mesh.emulate = {text!r:.80} names no time", hint=hint) from None
    if not 0.0 < speed <= SPEED_MAX:
        raise BadConfig(f"mesh.emulate has speed {speed:g}", hint=f"above 0 and at most {SPEED_MAX:g}")
    if not 0.0 <= clock_s - since_s <= EMULATED_HOURS_MAX * 3600.0:
        raise BadConfig(
            f"mesh.emulate began at {form[2]}, which is not within the last {EMULATED_HOURS_MAX:g} hours",
            hint="emulation ends by itself after a day: take it out, or begin anew",
        )
    return Emulation(speed, since_s, float(form[3] or 0.0))


class EmulatedLinks:
    """How long a packet takes to an address, by the predicted topology."""

    def __init__(
        self,
        core: Mesh,
        sky: Sky,
        me: str,
        utc_s: Callable[[], float | None],
        *,
        loss: float,
        chance: random.Random,
    ) -> None:
        self._loss = loss
        self._chance = chance
        self._core = core
        self._sky = sky
        self._me = me
        self._utc_s = utc_s
        self._names: dict[str, str] = {}

    def loses(self) -> bool:
        """Whether this datagram gets lost."""
        return self._loss > 0.0 and self._chance.random() < self._loss

    def delay_s(self, address: str) -> float | None:
        """None: no path. 0 for strangers, for nodes without a place, and before anything is predicted."""
        return self.delay_to(self._name(address))

    def delay_to(self, name: str) -> float | None:
        """The same to a member."""
        table, utc_s = self._sky.table, self._utc_s()
        if table is None or utc_s is None or not {name, self._me} <= self._sky.nodes.keys():
            return 0.0
        known = set(table.topology.ids)
        if name not in known or self._me not in known:
            return 0.0
        latency_ms = table.topology.latency_ms(self._me, name, utc_s)
        return latency_ms / 1000.0 if math.isfinite(latency_ms) else None

    def _name(self, address: str) -> str:
        name = self._names.get(address, "")
        member = self._core.member(name)
        if member is None or member.address != address:
            members = (self._core.member(one) for one in self._core.states())
            self._names = {one.address: one.name for one in members if one is not None}
            name = self._names.get(address, "")
        return name
