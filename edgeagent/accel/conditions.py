"""When a node must not use its GPU, whatever it would bring: heat, battery, an eclipse ahead.

Each limit has a second one at which it is lifted, so that a node on the edge does not go to and fro. What is not known
forbids nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ConditionLimits", "Conditions", "Veto"]


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The node now: degrees Celsius, share of the battery, seconds to the next eclipse (0: in it); None: not known."""

    gpu_c: float | None = None
    battery_share: float | None = None
    eclipse_in_s: float | None = None
    throttled: bool = False


@dataclass(frozen=True, kw_only=True)
class ConditionLimits:
    """Choices of ours: where the GPU stops, and where it may go on. Eclipses count where a battery is known."""

    gpu_c_max: float = 85.0
    gpu_c_again: float = 78.0
    battery_min: float = 0.25
    battery_again: float = 0.35
    eclipse_ahead_s: float = 300.0
    eclipse_battery_min: float = 0.6  # a battery as full as that carries the GPU through


class Veto:
    """Remembers what forbids the GPU; ``reason`` is empty, "heat", "throttled", "battery" or "eclipse"."""

    __slots__ = ("_limits", "reason")

    def __init__(self, limits: ConditionLimits | None = None) -> None:
        self._limits = limits or ConditionLimits()
        self.reason = ""

    def update(self, now: Conditions) -> str:
        """Look at the node; the reason that holds from now on."""
        self.reason = self._found(now)
        return self.reason

    def _found(self, now: Conditions) -> str:
        limits = self._limits
        heat = limits.gpu_c_again if self.reason == "heat" else limits.gpu_c_max
        if now.gpu_c is not None and now.gpu_c >= heat:
            return "heat"
        if now.throttled:
            return "throttled"
        least = limits.battery_again if self.reason == "battery" else limits.battery_min
        if now.battery_share is None:
            return ""
        if now.battery_share < least:
            return "battery"
        soon = now.eclipse_in_s is not None and now.eclipse_in_s <= limits.eclipse_ahead_s
        return "eclipse" if soon and now.battery_share < limits.eclipse_battery_min else ""
