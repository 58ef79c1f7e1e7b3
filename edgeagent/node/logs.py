"""The log: structlog on standard error, JSON lines for machines, coloured lines for a terminal."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, TextIO, cast

import structlog

from edgeagent.node.config_schema import LogSection
from edgeagent.node.log_stream import LogStream

__all__ = ["configure"]

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# What journald reads from the start of a line (sd-daemon(3)).
_PRIORITIES = {"debug": "<7>", "info": "<6>", "warning": "<4>", "error": "<3>", "critical": "<2>"}


def configure(section: LogSection, stream: TextIO | None = None) -> None:
    """Set up structlog for the process; ``stream`` is standard error unless given. A stream that fails is no error."""
    out = LogStream(sys.stderr if stream is None else stream)
    console = section.format == "console" or (section.format == "auto" and out.isatty())
    chain: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Lost(out),
        structlog.processors.format_exc_info,
    ]
    if console:
        chain[-1:] = [structlog.dev.ConsoleRenderer(colors=out.isatty())]
    else:
        chain.append(structlog.processors.JSONRenderer(default=repr))
        if os.environ.get("JOURNAL_STREAM"):
            chain.append(_Journald())
    structlog.configure(
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[section.level]),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", out)),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(
        level=logging.WARNING, stream=cast("TextIO", out), force=True
    )  # libraries that log on their own


class _Lost:
    """The first line after a gap says how many are missing."""

    def __init__(self, out: LogStream) -> None:
        self._out = out

    def __call__(self, _logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        return {**event, "lines_lost_before": self._out.lost} if self._out.lost else event


class _Journald:
    """Puts the priority before the line, by the name of the method that was called."""

    def __call__(self, _logger: Any, method: str, line: str) -> str:
        return _PRIORITIES.get(method, "<6>") + line
