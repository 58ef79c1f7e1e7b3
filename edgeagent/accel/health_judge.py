"""How a GPU is, judged from one look after another. Pure; the caller gives the time.

PROBING until somebody says something, then HEALTHY; THROTTLED while heat or power holds the clocks back; DRAINING when
its memory needs a reset; LOST when it is gone. Back from LOST it is HEALTHY after ``good_looks``. What a critical error
(Xid) means is NVIDIA's "Xid errors" catalogue as far as it concerns us: 13, 31, 43, 45 are faults of an application,
94 one that was contained; 48, 64, 95 leave memory that needs a reset; 46, 79, 119, 120 stop the GPU or take it off the
bus. Faults are strikes: as many as ``strikes`` within ``strikes_s`` quarantine it, for twice as long each time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from edgeagent.accel.health import GpuReading
from edgeagent.model.gpu import USABLE, GpuState

__all__ = ["HealthJudge", "HealthLimits", "is_fault", "throttle_words"]

# NVML's clock event reasons; a software power cap (0x4) is how a GPU at full load normally is.
_THROTTLES = {0x8: "hardware slowdown", 0x20: "heat", 0x40: "heat (hardware)", 0x80: "power brake"}
_FAULTS = frozenset({13, 31, 43, 45, 94})
_DRAINS = frozenset({48, 64, 95})
_LOSSES = frozenset({46, 79, 119, 120})


def is_fault(xid: int) -> bool:
    """Whether the error poisons a context and no more: the broker begins anew, and the function has a strike."""
    return xid in _FAULTS


def throttle_words(bits: float | None) -> str:
    """What holds the clocks back, in words; empty for nothing, or not known."""
    number = int(bits or 0)
    return ", ".join(word for bit, word in _THROTTLES.items() if number & bit)


@dataclass(frozen=True, kw_only=True)
class HealthLimits:
    """Choices of ours. ``below_limit_c`` under the GPU's own limit it counts as throttled, ``again_c`` under that no
    more; ``hot_c`` is the limit of a GPU that does not say its own.
    """

    hot_c: float = 90.0
    below_limit_c: float = 2.0
    again_c: float = 5.0
    good_looks: int = 3
    strikes: int = 3
    strikes_s: float = 600.0
    quarantine_s: float = 60.0
    quarantine_s_max: float = 3600.0
    silent_s: float = 30.0


class HealthJudge:
    """Of one GPU. ``vouched``: somebody ran a computation with a known answer on it, so that it is well even where no
    source says anything.
    """

    def __init__(self, limits: HealthLimits | None = None) -> None:
        self._limits = limits or HealthLimits()
        self._strikes: deque[float] = deque(maxlen=self._limits.strikes)
        self._quarantine_s = self._limits.quarantine_s
        self._until_s: float | None = None
        self._drained = ""
        self._lost = ""
        self._good = 0
        self._is_hot = False
        self._ecc: float | None = None
        self._heard_s: float | None = None
        self.vouched = False
        self.state = GpuState.PROBING
        self.why = "no look was taken yet"

    def strike(self, now_s: float, why: str) -> None:
        """Somebody's computation failed by the GPU's fault."""
        limits = self._limits
        self._strikes.append(now_s)
        if len(self._strikes) == limits.strikes and now_s - self._strikes[0] <= limits.strikes_s:
            self._until_s = now_s + self._quarantine_s
            self._quarantine_s = min(2.0 * self._quarantine_s, limits.quarantine_s_max)
            self._strikes.clear()
            self.state, self.why = GpuState.QUARANTINED, f"{limits.strikes} faults: {why}"

    def silent(self, now_s: float, why: str) -> GpuState:
        """No source answers, which says nothing of the GPU; after a while nobody knows how it is."""
        if self._heard_s is None:
            self._heard_s = now_s
        if self.state in USABLE and not self.vouched and now_s - self._heard_s > self._limits.silent_s:
            self.state, self.why = GpuState.PROBING, why
        return self.state

    def update(self, reading: GpuReading | None, now_s: float) -> GpuState:
        """Look at it; None: it was there, and now it is not."""
        self._heard_s = now_s
        if reading is None or reading.lost:
            why = "it is not there any more" if reading is None else reading.lost_why
            return self._gone(why)
        for xid in reading.xids:
            self._xid(xid, now_s)
        self._memory(reading, now_s)
        if self._lost:
            # Readings came: it is back, perhaps with another driver, and its memory has been reset.
            self._good += 1
            if self._good < self._limits.good_looks:
                return self.state
            self._lost, self._drained = "", ""
        self.state, self.why = self._judged(reading, now_s)
        return self.state

    def _gone(self, why: str) -> GpuState:
        self._lost, self._good, self._ecc, self.vouched = why, 0, None, False
        self.state, self.why = GpuState.LOST, why
        return self.state

    def _xid(self, xid: int, now_s: float) -> None:
        if xid in _LOSSES:
            self._gone(f"critical error {xid}: it stopped")
        elif xid in _DRAINS:
            self._drained = f"critical error {xid}: its memory needs a reset"
        elif xid in _FAULTS:
            self.strike(now_s, f"critical error {xid}")

    def _memory(self, reading: GpuReading, now_s: float) -> None:
        errors = reading.value("ecc_uncorrected")
        if errors is not None and self._ecc is not None:
            if errors > self._ecc and not reading.xids:  # with a number, that one says what it was
                self.strike(now_s, "an error of its memory that could not be corrected")
            elif errors < self._ecc:
                self._drained = ""  # counters begin anew when the driver does
        self._ecc = errors
        if reading.value("reset_needed"):
            self._drained = self._drained or "rows of its memory wait for a reset"

    def _judged(self, reading: GpuReading, now_s: float) -> tuple[GpuState, str]:
        if self._drained:
            return GpuState.DRAINING, self._drained
        if self._until_s is not None:
            if now_s < self._until_s:
                return GpuState.QUARANTINED, self.why
            self._until_s = None
        if why := self._throttled(reading):
            return GpuState.THROTTLED, why
        # A machine's memory and a name say nothing of its GPU's health.
        alive = any(
            one.value is not None and one.source in {"nvml", "sysfs"} for one in reading.metrics.values()
        )
        if alive or self.vouched:
            return GpuState.HEALTHY, ""
        return GpuState.PROBING, "no source says anything of it"

    def _throttled(self, reading: GpuReading) -> str:
        limits = self._limits
        if words := throttle_words(reading.value("throttle_reasons")):
            return words
        now_c = reading.value("temperature_c")
        limit_c = (reading.value("temperature_limit_c") or limits.hot_c) - limits.below_limit_c
        if now_c is None:
            self._is_hot = False
            return ""
        self._is_hot = now_c >= (limit_c - limits.again_c if self._is_hot else limit_c)
        return f"{now_c:.0f} C, held back from {limit_c:.0f} C" if self._is_hot else ""
