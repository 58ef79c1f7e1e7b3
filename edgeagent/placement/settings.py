"""What a decider is set to, and the chance that it takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from edgeagent.placement.errors import PlanRefused
from edgeagent.placement.planner import PlannerSettings

__all__ = ["Chance", "DecideSettings"]


class Chance(Protocol):
    """The one thing asked of a generator (``random.Random`` has it): a float in [0, 1)."""

    def random(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class DecideSettings:
    """Choices of ours, not measurements.

    Near ties differ by less than ``jitter_share`` or ``jitter_ms``. Loads count half after ``half_life_s`` and become
    ``cpu_prior`` and ``queue_prior`` then; free memory counts for ``fresh_s``. ``hop_ms`` is what handing on costs
    beside the way; ``mbit_s_assumed`` is the bandwidth where none is known. A step whose time is not known is checked
    for ``unknown_factor`` times its estimate. Batteries must last for ``battery_ahead_s`` after a step (an orbit),
    looked at every ``stretch_s``. Networks are looked at every ``sample_s`` of a step, at most ``samples_max`` times;
    a plan is made again when a step starts more than ``replan_s`` from where it was looked at. All in orbital seconds.
    Of the steps that send much, ``rates_ahead_max`` are planned with the bandwidths from where they will run.
    """

    planner: PlannerSettings = field(default_factory=PlannerSettings)
    ranked_max: int = 4
    jitter_share: float = 0.05
    jitter_ms: float = 2.0
    half_life_s: float = 10.0
    cpu_prior: float = 0.5
    queue_prior: float = 1.0
    fresh_s: float = 10.0
    hop_ms: float = 2.0
    mbit_s_assumed: float = 1000.0
    unknown_factor: float = 10.0
    battery_ahead_s: float = 5400.0
    stretch_s: float = 600.0
    sample_s: float = 60.0
    samples_max: int = 9
    replan_s: float = 10.0
    retries_max: int = 8
    rates_ahead_max: int = 8

    def __post_init__(self) -> None:
        positive = (self.half_life_s, self.mbit_s_assumed, self.stretch_s, self.sample_s, self.replan_s)
        if min(positive) <= 0.0 or min(self.ranked_max, self.samples_max, self.retries_max) < 1:
            raise PlanRefused("a setting of the decider is not positive", hint="give more than 0")
        if min(self.jitter_share, self.jitter_ms, self.hop_ms, self.cpu_prior, self.queue_prior) < 0.0:
            raise PlanRefused("a setting of the decider is negative", hint="give 0 or more")
