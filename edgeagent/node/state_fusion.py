"""Fusion: the functions of one run that this node runs share what they read, and write as one group each.

Before a step its keys are fetched as one group: those of its run that are known here, and the prefixes of its manifest
that are whole keys. Values that an earlier step has read are not sent again where they are still the newest, and not
asked for where they were written once. What a step writes is one group at its end.

A run is what its id and epoch say: runs that happen at once share nothing, nor does a run with what it was before
another holder took it over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from edgeagent.model.errors import EdgeError
from edgeagent.model.function import Deployed
from edgeagent.model.run_tag import RunTag
from edgeagent.node.state_port import StatePort
from edgeagent.node.state_session import Cache, FusionStats, StepSession

__all__ = ["Fusion"]

log = structlog.get_logger("state")

WAIT_MS = 2_000.0
_READERS = ("get", "group", "version")


class _Meters(Protocol):
    def counter(self, name: str, doc: str, read: Callable[[], float]) -> None: ...


class Fusion:
    """On the event loop's thread. ``wait_ms``: how long a write waits for the durability that a guest asked for.
    ``bound_for`` hears, before a step of a run writes, where the steps after it are to run, and what it puts.
    """

    def __init__(
        self,
        port: StatePort,
        *,
        wait_ms: float = WAIT_MS,
        cache_bytes_max: int = 64 << 20,
        runs_max: int = 256,
        prefetch_bytes_max: int = 16 << 20,
        prefetch_keys_max: int = 256,
        bound_for: Callable[[Sequence[str], Sequence[str]], None] = lambda _nodes, _keys: None,
    ) -> None:
        self.stats = FusionStats()
        self._port = port
        self._wait_ms = wait_ms
        self._cache_bytes_max = cache_bytes_max
        self._runs_max = runs_max
        self._prefetch_bytes_max = prefetch_bytes_max
        self._prefetch_keys_max = prefetch_keys_max
        self._bound_for = bound_for
        self._runs: dict[tuple[str, int], Cache] = {}  # the one used last comes last

    async def begin(self, deployed: Deployed, tag: RunTag | None) -> StepSession:
        """Before a call of a function that uses state; the session is its context for the engine."""
        run = tag or RunTag()
        session = StepSession(
            self._port,
            deployed.name,
            deployed.manifest.state.prefixes,
            run,
            self._cache(run) if run.id else Cache(),
            self.stats,
            wait_ms=self._wait_ms,
            bound_for=self._bound_for,
        )
        if run.id and any(deployed.info.imports_function("edge_state", name) for name in _READERS):
            try:
                await session.prefetch(keys_max=self._prefetch_keys_max, bytes_max=self._prefetch_bytes_max)
            except EdgeError as error:  # it may do without; what it does read is asked for then
                log.info("state was not fetched ahead", function=deployed.name, why=error.message)
        return session

    def forget(self, run: str) -> None:
        """The run is over."""
        for key in [key for key in self._runs if key[0] == run]:
            del self._runs[key]

    def _cache(self, run: RunTag) -> Cache:
        cache = self._runs.pop((run.id, run.epoch), None)
        if cache is None:
            cache = Cache()
        self._runs[run.id, run.epoch] = cache
        total = sum(one.size_bytes for one in self._runs.values())
        for key in list(self._runs):
            if len(self._runs) <= self._runs_max and total <= self._cache_bytes_max:
                break
            gone = self._runs[key] if self._runs[key] is cache else self._runs.pop(key)
            total -= gone.size_bytes
            gone.clear()  # sessions keep what they have seen
        return cache

    def export(self, meters: _Meters) -> None:
        """As counters of the node."""
        stats = self.stats
        for name, doc, read in (
            ("state_guest_reads", "values that functions asked for", lambda: stats.reads),
            ("state_guest_hits", "of these, served by their run's session", lambda: stats.hits),
            ("state_guest_fetched", "keys fetched for functions", lambda: stats.fetched),
            ("state_guest_prefetched", "of these, before their step began", lambda: stats.prefetched),
            ("state_guest_groups", "groups that steps wrote at their ends", lambda: stats.groups),
            ("state_guest_written", "keys in them", lambda: stats.written),
        ):
            meters.counter(name, doc, read)
