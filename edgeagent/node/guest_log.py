"""What guests write (``edge_log`` lines, commands' standard error) as log events: cleaned, cut, counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import structlog

from edgeagent.node.config_schema import LogSection
from edgeagent.runtime.guest_text import clean

__all__ = ["GuestLog"]

LINE_CHARACTERS_MAX = 2000
# edge_log's levels (sdk/edge.h): 0 trace, 1 debug, 2 info, 3 warn, 4 error; unknown ones are informative.
_METHODS = ("debug", "debug", "info", "warning", "error")


class GuestLog:
    """Bounded twice: lines of a call, and lines of the node in a second; what is left out is said."""

    def __init__(self, section: LogSection, clock: Callable[[], float] = time.monotonic) -> None:
        self.dropped = 0
        self._lines_max = section.guest_lines_max
        self._per_s_max = section.guest_lines_per_s_max
        self._clock = clock
        self._second = 0
        self._this_second = 0
        self._log = structlog.get_logger("guest")

    def write(self, function: str, lines: Sequence[tuple[int, bytes]], stderr: bytes) -> None:
        """Log what one call wrote."""
        every = [(level, text) for level, text in lines]
        every += [(2, line) for line in stderr.split(b"\n") if line.strip()]
        shown = every[: self._allowed(min(len(every), self._lines_max))]
        log = self._log.bind(function=function)
        for level, text in shown:
            method = _METHODS[level] if 0 <= level < len(_METHODS) else "info"
            getattr(log, method)("guest", text=clean(text, LINE_CHARACTERS_MAX))
        if missing := len(every) - len(shown):
            self.dropped += missing
            if shown:
                log.warning("guest lines left out", lines=missing)

    def _allowed(self, wanted: int) -> int:
        second = int(self._clock())
        if second != self._second:
            self._second, self._this_second = second, 0
        granted = min(wanted, self._per_s_max - self._this_second)
        self._this_second += granted
        return granted
