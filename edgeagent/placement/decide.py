"""Decides where steps run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from edgeagent.placement.decision import Decision
from edgeagent.placement.network import Network
from edgeagent.placement.views import NodeView, StepAsk

__all__ = ["Chance", "DecideSettings", "decide"]


class Chance(Protocol):
    """The one thing asked of a generator (``random.Random`` has it): a float in [0, 1)."""

    def random(self) -> float: ...


class DecideSettings(msgspec.Struct, frozen=True, kw_only=True):
    ranked_max: int = 4


def decide(
    asks: Sequence[StepAsk],
    nodes: Sequence[NodeView],
    network: Network,
    *,
    here: str,
    now_s: float,
    orbital_speed: float = 1.0,
    chance: Chance,
    settings: DecideSettings = DecideSettings(),
) -> Decision:
    raise NotImplementedError
