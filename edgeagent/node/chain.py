"""Chains: functions that run one after the other on this node, each on the output of the one before.

The output is not copied out between two of them: it waits where its producer left it and reaches the consumer by the
best tier (docs/hoses.md). Each step takes its permit like any other call, so that chains and calls are bounded alike.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from edgeagent.hose.settings import TIERS
from edgeagent.model.errors import DeadlineExceeded, EdgeError
from edgeagent.node.meters import Meters
from edgeagent.node.result import Result, Step
from edgeagent.runtime.port import Payload

__all__ = ["Chains"]


class _Run(Protocol):
    async def __call__(
        self,
        name: str,
        body: bytes | memoryview | Payload,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        exempt: bool = False,
        keep: bool = False,
    ) -> Result: ...


class Chains:
    def __init__(self, run: _Run, meters: Meters) -> None:
        self._run = run
        self._meters = meters

    async def run(
        self, names: Sequence[str], body: bytes | memoryview, args: Sequence[str] | None, wall_ms: float
    ) -> Result:
        """See ``Invoker.invoke_chain``."""
        deadline = time.monotonic() + wall_ms / 1000 if wall_ms > 0 else 0.0
        steps: list[Step] = []
        given: bytes | memoryview | Payload = body
        held: Payload | None = None
        bytes_in = len(body)
        try:
            for i, name in enumerate(names):
                last = i + 1 == len(names)
                result = await self._step(name, given, args if i == 0 else None, deadline, keep=not last)
                if held is not None:
                    held.close()
                held = result.payload
                bytes_out = len(result.output) if held is None else held.size
                steps.append(self._note(name, result, bytes_in, bytes_out))
                given = held if held is not None else result.output
                bytes_in = bytes_out
        finally:
            if held is not None:
                held.close()
        result.steps = tuple(steps)
        return result

    async def _step(
        self,
        name: str,
        given: bytes | memoryview | Payload,
        args: Sequence[str] | None,
        deadline: float,
        *,
        keep: bool,
    ) -> Result:
        left_ms = 0.0
        if deadline:
            left_ms = (deadline - time.monotonic()) * 1000
            if left_ms <= 0:
                raise DeadlineExceeded(f"the deadline of the chain passed before {name} ran", function=name)
        try:
            return await self._run(name, given, args, left_ms, keep=keep)
        except EdgeError as error:
            error.details.setdefault("function", name)
            raise

    def _note(self, name: str, result: Result, bytes_in: int, bytes_out: int) -> Step:
        tier, copied, mapped, _ = result.hose
        self._meters.handed_over(TIERS[tier], copied, mapped)
        return Step(
            function=name,
            duration_us=result.duration_us,
            cold=result.cold,
            hose=TIERS[tier],
            copied_bytes=copied,
            mapped_bytes=mapped,
            bytes_in=bytes_in,
            bytes_out=bytes_out,
        )
