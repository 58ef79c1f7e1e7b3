"""A process that is a member of a group and writes down whom it holds alive, one line a change: time, name, state.

    python -m edgeagent.bench.gossip_agent ours|kinship NAME LOOK_S [SEED]

Started by ``bench gossip``. The first line is the address that others can join. Times are of the monotonic clock, which
all processes of a machine share. Both libraries are asked for their members every LOOK_S, and run without encryption
with their preset for a local network.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

__all__: list[str] = []

States = Mapping[str, str]


async def _ours(name: str, seed: str) -> tuple[str, Callable[[], States]]:
    from edgeagent.gossip.presets import preset
    from edgeagent.mesh.service import MeshService
    from edgeagent.mesh.settings import MeshSettings, seeds_of

    settings = MeshSettings(host="127.0.0.1", port=0, seeds=seeds_of(seed), knobs=preset("lan"))
    service = MeshService(
        name,
        settings,
        epoch_ms=int(time.time() * 1000),
        persist=lambda _: None,
        clock_is_set=lambda: True,
    )
    await service.start(())
    return service.address, lambda: {one: state.value for one, state in service.core.states().items()}


async def _kinship(name: str, seed: str) -> tuple[str, Callable[[], States]]:
    kinship: Any = importlib.import_module("kinship")  # a peer to compare with, not a requirement
    config = kinship.Config.lan(
        name=name, bind="127.0.0.1:0", seeds=[seed] if seed else [], insecure_plaintext=True
    )
    cluster = kinship.Cluster(config)
    await cluster.start()

    def states() -> States:
        return {one.name: one.state.name.lower() for one in cluster.members() if one.name != name}

    return str(cluster.local.addr), states


async def _watch(states: Callable[[], States], look_s: float) -> None:
    before: dict[str, str] = {}
    while True:
        now = dict(states())
        at_s = time.monotonic()
        for name in {*before, *now}:
            if now.get(name) != before.get(name):
                sys.stdout.write(f"{at_s:.6f} {name} {now.get(name, 'gone')}\n")
        sys.stdout.flush()
        before = now
        await asyncio.sleep(look_s)


async def _main(which: str, name: str, look_s: str, seed: str) -> None:
    address, states = await {"ours": _ours, "kinship": _kinship}[which](name, seed)
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()
    await _watch(states, float(look_s))


if __name__ == "__main__":
    import logging

    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    asyncio.run(_main(*[*sys.argv[1:], ""][:4]))
