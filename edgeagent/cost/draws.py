"""How much of the machine running takes: what a busy GPU draws over idle, and how many cores a kernel keeps busy.

A GPU's power and its utilisation are of the last second or so, as sensors have them. What it draws while it has nothing
to do is its idle draw; what it draws more while it has, divided by how busy it was, is the draw of a busy second. Both
are moving means that forget, for clocks, power limits and kernels change. Without both metrics, or before both were
seen, there is no answer.

Kernels may use several cores. How many is what the whole process took of them meanwhile; as others run beside, the
least of the last calls counts. Pure.
"""

from __future__ import annotations

from collections import OrderedDict, deque

__all__ = ["CoresMeter", "DrawMeter"]

# Utilisation up to which it has nothing to do, and from which the quotient holds.
_IDLE_MAX, _BUSY_MIN = 0.02, 0.2
_NEWEST = 1 / 8
_LOOKS_MIN = 3
_CALLS, _KERNELS_MAX = 8, 256


class DrawMeter:
    """Of one GPU; watts."""

    __slots__ = ("_busy", "_idle", "busy_w", "idle_w")

    def __init__(self) -> None:
        self._idle = self._busy = 0
        self.idle_w = self.busy_w = 0.0

    @property
    def over_idle_w(self) -> float | None:
        """Of the GPU at full utilisation; None: not known yet."""
        return self.busy_w if self._busy >= _LOOKS_MIN else None

    def look(self, power_w: float | None, utilisation: float | None) -> None:
        """What sensors say now; None where they say nothing."""
        if power_w is None or utilisation is None:
            return
        if utilisation <= _IDLE_MAX:
            self._idle += 1
            self.idle_w += max(1.0 / self._idle, _NEWEST) * (power_w - self.idle_w)
        elif utilisation >= _BUSY_MIN and self._idle:
            over_w = (power_w - self.idle_w) / min(utilisation, 1.0)
            if over_w > 0.0:
                self._busy += 1
                self.busy_w += max(1.0 / self._busy, _NEWEST) * (over_w - self.busy_w)


class CoresMeter:
    """By kernel; of at most 256, the one that ran longest ago is forgotten."""

    def __init__(self, cores: int) -> None:
        self._cores = float(max(cores, 1))
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()

    def ran(self, kernel: str, wall_s: float, cpu_s: float) -> None:
        """A call took so long, and the process so much CPU time meanwhile."""
        if wall_s <= 0.0:
            return
        self._seen.setdefault(kernel, deque(maxlen=_CALLS)).append(cpu_s / wall_s)
        self._seen.move_to_end(kernel)
        if len(self._seen) > _KERNELS_MAX:
            self._seen.popitem(last=False)

    def of(self, kernel: str) -> float:
        """From 1, also where nothing is known, to all that there are."""
        return min(max(min(self._seen.get(kernel, ()), default=1.0), 1.0), self._cores)
