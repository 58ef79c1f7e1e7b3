"""Helpers of the contract suite."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from edgeagent.model.function import Limits
from edgeagent.runtime.port import Engine, Function, LoadSpec, Outcome

__all__ = ["load", "start"]


def load(
    engine: Engine,
    compiled: Any,
    guest: str | bytes,
    *,
    args: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    scratch_dir: str = "",
    scratch_bytes_max: int = 0,
    target: str = "native",
    **limits: int,
) -> Function:
    """Load a guest of tests/guests (or a binary) with these limits."""
    code, info = compiled(guest, fuel=bool(limits.get("fuel")), target=target)
    name = guest.replace("_", "-") if isinstance(guest, str) else "guest"
    spec = LoadSpec(
        name=name,
        info=info,
        limits=Limits(**limits),
        args=args,
        env=env or {},
        scratch_dir=scratch_dir,
        scratch_bytes_max=scratch_bytes_max,
    )
    return engine.load(code, spec)


async def start(function: Function, body: Any = b"", **more: Any) -> Outcome:
    """``start`` and, where it is a future, its result."""
    begun = function.start(body, **more)
    return await begun if isinstance(begun, asyncio.Future) else begun
