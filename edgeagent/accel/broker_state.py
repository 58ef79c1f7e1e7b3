"""Whether a GPU may be asked: the life of its broker. Pure: clock and chance are the caller's.

Theory of operation. The broker is a process; this machine says when to start and when to end it, and the caller tells
what became of it. Only READY may be sent work. Rules:

1. OFF until somebody wants the GPU; then STARTING, until the process says that its self-test has passed.
2. Whatever goes wrong while STARTING or READY (a start that takes too long included) is one fall: BROKEN for as long as
   the back-off says. The next one who wants the GPU after that starts it again; nobody waits for it.
3. ABSENT is for good: no driver, no device, no library. Nothing is tried again before the node's next start.
4. READY and not wanted for ``idle_s``: it is ended, and OFF; what it held of the GPU's memory is free then.
5. STOPPED: the node ends; nothing leads out of it.

    OFF --wanted--> STARTING --ready--> READY --idle--> OFF
                       |                  |
                       +---- fell --------+--> BROKEN --wanted, and the wait is over--> STARTING
                       +---- absent ---------> ABSENT
"""

from __future__ import annotations

import math
from enum import StrEnum

from edgeagent.accel.backoff import Backoff

__all__ = ["Action", "BrokerLife", "State"]


class State(StrEnum):
    OFF = "off"
    STARTING = "starting"
    READY = "ready"
    BROKEN = "broken"
    ABSENT = "absent"
    STOPPED = "stopped"


class Action(StrEnum):
    """What the caller must do now."""

    NONE = "none"
    SPAWN = "spawn"
    END = "end"  # kill the process; it has not fallen


class BrokerLife:
    """Of one broker. ``why`` says how it came to its state, ``starts`` and ``falls`` count all of them."""

    __slots__ = (
        "_backoff",
        "_idle_s",
        "_start_timeout_s",
        "_wanted_s",
        "falls",
        "since_s",
        "starts",
        "state",
        "try_at_s",
        "why",
    )

    def __init__(self, backoff: Backoff, *, start_timeout_s: float, idle_s: float) -> None:
        self._backoff, self._start_timeout_s, self._idle_s = backoff, start_timeout_s, idle_s
        self.state, self.why = State.OFF, "not asked for yet"
        self.since_s = self._wanted_s = -math.inf
        self.try_at_s = -math.inf
        self.starts, self.falls = 0, 0

    def wanted(self, now_s: float) -> Action:
        """Somebody would use the GPU now."""
        self._wanted_s = now_s
        if self.state is State.OFF or (self.state is State.BROKEN and now_s >= self.try_at_s):
            self.starts += 1
            self._enter(State.STARTING, now_s, "")
            return Action.SPAWN
        return Action.NONE

    def ready(self, now_s: float) -> None:
        """The process has passed its self-test."""
        if self.state is State.STARTING:
            self._enter(State.READY, now_s, "")

    def absent(self, now_s: float, why: str) -> None:
        """The process says that there is nothing to start here."""
        if self.state in (State.STARTING, State.READY):
            self._enter(State.ABSENT, now_s, why)

    def fell(self, now_s: float, why: str) -> None:
        """The process is gone, or of no use: the caller has ended it."""
        if self.state not in (State.STARTING, State.READY):
            return
        stood_s = now_s - self.since_s if self.state is State.READY else 0.0
        self.falls += 1
        self.try_at_s = now_s + self._backoff.fell(stood_s)
        self._enter(State.BROKEN, now_s, why)

    def overdue(self, now_s: float) -> bool:
        """Whether a start takes too long: end the process, and tell ``fell``."""
        return self.state is State.STARTING and now_s >= self.since_s + self._start_timeout_s

    def rest(self, now_s: float) -> Action:
        """Nothing runs there now: whether it has had nothing to do for so long that it is ended."""
        if self.state is State.READY and now_s >= max(self.since_s, self._wanted_s) + self._idle_s:
            self._enter(State.OFF, now_s, "not used for long")
            return Action.END
        return Action.NONE

    def stop(self, now_s: float) -> Action:
        """The node ends."""
        has_process = self.state in (State.STARTING, State.READY)
        if self.state is not State.STOPPED:
            self._enter(State.STOPPED, now_s, "the node stops")
        return Action.END if has_process else Action.NONE

    def next_s(self) -> float:
        """When ``overdue`` or ``rest`` may have an answer of their own."""
        if self.state is State.STARTING:
            return self.since_s + self._start_timeout_s
        if self.state is State.READY:
            return max(self.since_s, self._wanted_s) + self._idle_s
        return math.inf

    def _enter(self, state: State, now_s: float, why: str) -> None:
        self.state, self.since_s, self.why = state, now_s, why
