"""Choosing an engine: the native one where the extension is built, else pure Python."""

from __future__ import annotations

import os
from typing import Literal

from edgeagent import native
from edgeagent.model.errors import Unavailable
from edgeagent.runtime.engine_config import Target
from edgeagent.runtime.port import Engine

__all__ = ["default_workers", "open_engine"]


def default_workers() -> int:
    """One worker per CPU that this process may use, at least two: a long function must not block the next."""
    return max(2, len(os.sched_getaffinity(0)))


def open_engine(
    choice: Literal["auto", "native", "pure"] = "auto",
    *,
    workers: int = 0,
    settings_target: Target = "native",
    small_slots: int = 256,
    large_slots: int = 0,
    inline: bool = True,
) -> Engine:
    """Open an engine; ``workers`` = 0 means one per CPU, ``large_slots`` = 0 means twice the workers.

    Raises Unavailable when ``native`` is asked for and the extension is not there. Not to be called before
    faulthandler has been enabled (or left alone for good): the last signal handler installed wins.
    """
    count = workers or default_workers()
    if choice == "pure" or (choice == "auto" and not native.accelerated):
        from edgeagent.runtime.pure_engine import PureEngine

        return PureEngine(workers=count, target=settings_target, slots=small_slots)
    if not native.accelerated:
        raise Unavailable(
            f"the native engine is not available: {native.why_not}",
            hint="build it with: make native (needs g++ and python3-dev), or choose runtime.engine = 'pure'",
        )
    from edgeagent.runtime.native_engine import NativeEngine

    return NativeEngine(
        workers=count,
        small_slots=small_slots,
        large_slots=large_slots or max(4, 2 * count),
        target=settings_target,
        inline=inline,
    )
