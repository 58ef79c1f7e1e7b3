"""The GPUs of a node, each with its broker: started when a function could use one, asked when they are ready."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from edgeagent.accel.broker import Broker, BrokerSettings
from edgeagent.accel.broker_state import State
from edgeagent.node.config_accel import AccelSection

__all__ = ["CUDA", "Gpus", "open_gpus"]

CUDA = "edgeagent.accel.cuda_backend:CudaBackend"

_USABLE = frozenset({State.READY, State.STARTING})
_LOAD_MUCH = 4
_NEAREST = (State.READY, State.STARTING, State.OFF, State.BROKEN, State.ABSENT, State.STOPPED)


def open_gpus(section: AccelSection, count: int, cache_dir: str, backend: str = "") -> Gpus:
    """Nothing is started yet. ``cache_dir`` is for compiled code, ``backend`` is another than CUDA."""
    settings = BrokerSettings(
        arena_bytes=section.arena_bytes,
        queue_max=section.queue_max,
        deadline_s=section.deadline_ms / 1000,
        start_timeout_s=section.start_timeout_ms / 1000,
        idle_s=section.idle_ms / 1000,
        cache_dir=cache_dir,
    )
    return Gpus([Broker(settings, backend or CUDA, index) for index in range(min(count, section.gpus_max))])


class Gpus:
    """On the event loop's thread; one or more."""

    def __init__(self, brokers: Sequence[Broker]) -> None:
        self.brokers = tuple(brokers)

    @property
    def ready(self) -> bool:
        return any(one.ready for one in self.brokers)

    @property
    def why_not(self) -> str:
        """Why none is ready."""
        return "; ".join(f"GPU {one.device} {one.why_not}" for one in self.brokers)

    @property
    def described(self) -> str:
        """The first one that was ready in this process, and its memory; empty: none was yet."""
        known = next((one for one in self.brokers if one.device_name), None)
        return "" if known is None else f"{known.device_name}, {known.memory_bytes >> 30} GiB"

    @property
    def falls(self) -> int:
        """How often one was lost."""
        return sum(one.life.falls for one in self.brokers)

    def want(self) -> None:
        """Somebody could use one. The next is started where those before it are lost, or have much to do."""
        for one in self._allowed():
            one.want()
            if one.life.state in _USABLE and one.load < _LOAD_MUCH:
                return

    def keep(self, *, one: bool) -> None:
        """Whether one is to be ready however rarely it is asked: the first that can be, and it is started."""
        if one:
            self.want()
        kept = next((it for it in self._allowed() if it.life.state in _USABLE), None) if one else None
        for it in self.brokers:
            it.is_kept = it is kept

    def pick(self) -> Broker | None:
        """The one with the least to do of those that are ready."""
        return min((one for one in self.brokers if one.ready), key=lambda one: one.load, default=None)

    @property
    def best(self) -> tuple[State, str]:
        """The state of the one that is nearest to being of use, and why it is in it."""
        one = min(self.brokers, key=lambda one: (bool(one.barred), _NEAREST.index(one.life.state)))
        return one.life.state, one.barred or one.life.why

    def _allowed(self) -> Iterator[Broker]:
        return (one for one in self.brokers if not one.barred)

    def worked_s(self, function: str) -> float:
        """What they have worked for a function since this process began, probes and failures included."""
        return sum(one.worked_s.get(function, 0.0) for one in self.brokers)

    def forget(self, function: str) -> None:
        for one in self.brokers:
            one.forget(function)

    async def close(self) -> None:
        await asyncio.gather(*(one.close() for one in self.brokers))

    def view(self) -> list[dict[str, Any]]:
        return [
            {
                "index": one.device,
                "device": one.device_name,
                "state": str(one.life.state),
                "why": one.barred or one.life.why,
                "pid": one.pid,
                "load": one.load,
                "starts": one.life.starts,
                "falls": one.life.falls,
                "memory_bytes": one.memory_bytes,
                "used_bytes": one.used_bytes,
                "arena_used_bytes": one.arena_used_bytes,
            }
            for one in self.brokers
        ]
