"""The wildfire workflow over emulated orbits: how long it takes, and how many end a second, by where its state goes.

Virtual time, so that the machine does not matter: ``simulator/state_flow.py`` says what is modelled. Four steps of
100 ms, pinned to satellites two hops apart, at a place and time that are each round's own, and the same for every
policy; lasers of 1 Gbit/s, one ground station with 80 Mbit/s down and as much up, the cloud 20 ms beyond it; eight
clients, each with a core, one workflow after the other. Transfers share links fairly. Every node's disk writes and
syncs as that of a 2-core VM does. A round's value is the mean over 16 workflows in the steady state.

- ours: moved ahead, by the planner of the daemon, from disk to disk; a step's group while it is written.
- cloud: everything in the cloud store. random-node: at any node. databelt: the original's election, towards the cloud,
  with a limit made as its authors made theirs.

Further fields: ``lower_by`` or ``higher_by``, of medians; ``producer_ms``: state that stays where it was made and is
fetched by who needs it; of all rounds ``local_share`` of the keys read, ``late`` and ``violations`` of so many
``steps`` with inputs. ``storage``, ms: reads and writes of a whole workflow, as groups and key by key (where state
moves ahead, each key does as soon as it is written); of ours the mean of all rounds, of the others the first round's.
Of the first round, ms: ``alone``: one client only; ``on_the_way``: the satellites lie along the way to the cloud, the
best case of the original; ``free_disks``: disks take no time.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from edgeagent.bench.harness import Bench, Case, Rounds, Sample, Sampler

if TYPE_CHECKING:
    from edgeagent.simulator.state_flow import Played
    from edgeagent.simulator.state_flow_world import FlowSettings

__all__ = ["Plays", "cases"]

SIZES_MB = (10, 1, 50)  # the first one gives the cases their plain names
BASELINES = ("cloud", "random-node", "databelt")
_BESIDE = "_producer"
_STEPS = 4
_WORKFLOWS_50 = 8  # are measured at 50 MB: they take long in all respects
Worth = Callable[["Played"], float]


class Plays:
    """What each policy came to, each round and variant played once."""

    def __init__(self, seed: int, *, planes: int = 72, slots: int = 22) -> None:
        from edgeagent.simulator.state_flow_sky import FlowSky

        self._seed = seed
        self._sky = FlowSky(planes, slots)
        self._known: dict[tuple[object, ...], Played] = {}

    def of(self, policy: str, number: int, settings: FlowSettings, *, on_the_way: bool = False) -> Played:
        from edgeagent.simulator.state_flow import play

        key = (policy, number, settings, on_the_way)
        if key not in self._known:
            places = self._sky.places(number, self._seed, steps=_STEPS, on_the_way=on_the_way)
            self._known[key] = play(self._sky, places, policy, settings, self._seed)
        return self._known[key]


def _time_ms(played: Played) -> float:
    return played.time_ms


def _workflows_per_s(played: Played) -> float:
    return played.workflows_per_s


def _settings(size_mb: int) -> FlowSettings:
    from edgeagent.simulator.state_flow_world import FlowSettings

    settings = FlowSettings(size_bytes=size_mb * 1_000_000)
    return settings._replace(workflows=_WORKFLOWS_50) if size_mb >= 50 else settings


def _plays(bench: Bench) -> Plays:
    return bench.share("state-workflow", lambda: contextlib.nullcontext(Plays(bench.options.seed)))


def _opener(
    size_mb: int, worth: Worth
) -> Callable[[Bench], contextlib.AbstractContextManager[dict[str, Sampler]]]:
    @contextlib.contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        plays, settings = _plays(bench), _settings(size_mb)

        def sampler(policy: str) -> Sampler:
            numbers = itertools.count()

            def sample() -> Sample:
                played = plays.of(policy, next(numbers), settings)
                return worth(played), {
                    "local_share": played.local_share,
                    "ahead_share": played.ahead_share,
                    "storage_ms": played.storage_ms,
                    "steps": played.edges,
                    "late": played.late,
                    "violations": played.violations,
                }

            return sample

        yield {name: sampler(name.removeprefix("_")) for name in ("ours", *BASELINES, _BESIDE)}

    return opened


def _sums(rounds: Rounds) -> dict[str, Any]:
    """Of all rounds: the late steps, and the share of keys that were local."""
    public = {name.removeprefix("_"): taken for name, taken in rounds.items()}
    return {
        "local_share": {
            name: round(sum(more["local_share"] for _, more in taken) / len(taken), 4)
            for name, taken in public.items()
        },
        **{
            part: {name: sum(more[part] for _, more in taken) for name, taken in public.items()}
            for part in ("steps", "late", "violations")
        },
    }


def _less(mine: float, theirs: float) -> float:
    return round(1.0 - mine / theirs, 4)


def _time_fields(size_mb: int) -> Callable[[Rounds, Bench], dict[str, Any]]:
    def fields(rounds: Rounds, bench: Bench) -> dict[str, Any]:
        means = {name: median(value for value, _ in taken) for name, taken in rounds.items()}
        said = {
            "lower_by": {name: _less(means["ours"], means[name]) for name in BASELINES if name in means},
            "producer_ms": round(means[_BESIDE], 1) if _BESIDE in means else None,
            **_sums(rounds),
        }
        count = len(rounds["ours"])
        return {**said, **(_variants(bench, size_mb, count) if size_mb < 50 or bench.options.full else {})}

    return fields


def _variants(bench: Bench, size_mb: int, rounds: int) -> dict[str, Any]:
    """Of the first round; of ours, storage of so many rounds."""
    plays, settings = _plays(bench), _settings(size_mb)
    names = ("ours", "producer", "databelt", "cloud")
    storage = {}
    for name in names:
        numbers = range(rounds if name == "ours" else 1)
        fused, single = (
            fmean(plays.of(name, number, settings._replace(fused=one)).storage_ms for number in numbers)
            for one in (True, False)
        )
        storage[name] = {
            "fused_ms": round(fused, 1),
            "per_key_ms": round(single, 1),
            "lower_by": _less(fused, single),
        }
    alone = settings._replace(clients=1)
    free = settings._replace(disk_bit_s=math.inf, commit_s=0.0)
    return {
        "storage": storage,
        "alone": {name: round(plays.of(name, 0, alone).time_ms, 1) for name in names},
        "on_the_way": {
            name: round(plays.of(name, 0, settings, on_the_way=True).time_ms, 1) for name in names
        },
        "free_disks": {name: round(plays.of(name, 0, free).time_ms, 1) for name in names},
    }


def _rate_fields(rounds: Rounds, _bench: Bench) -> dict[str, Any]:
    means = {name: median(value for value, _ in taken) for name, taken in rounds.items()}
    more = {name: round(means["ours"] / means[name] - 1.0, 4) for name in BASELINES if name in means}
    return {"higher_by": more, **_sums(rounds)}


def cases() -> list[Case]:
    """Times and throughput at each size; both of a size are of the same plays."""
    made = []
    for size_mb in SIZES_MB:
        suffix = "" if size_mb == SIZES_MB[0] else f"-{size_mb}MB"
        params = {
            "state_mb": size_mb,
            "steps": _STEPS,
            "hops_apart": 2,
            "compute_ms": 100,
            "clients": 8,
            "isl_mbit_s": 1000,
            "downlink_mbit_s": 80,
            "cloud_ms": 20,
            "keys": 8,
            "satellites": 72 * 22,
        }
        common: dict[str, Any] = {
            "params": params,
            "rounds": 3 if size_mb >= 50 else 5,
            "rounds_full": 9 if size_mb >= 50 else 31,
            "warm_up_rounds": 0,  # virtual time has nothing to warm up
            "memory_bytes": 250 << 20,
            "group": "state-workflow",
        }
        made += [
            Case(
                name=f"workflow-time{suffix}",
                unit="ms",
                better="lower",
                open=_opener(size_mb, _time_ms),
                fields=_time_fields(size_mb),
                **common,
            ),
            Case(
                name=f"workflow-throughput{suffix}",
                unit="workflows/s",
                better="higher",
                open=_opener(size_mb, _workflows_per_s),
                fields=_rate_fields,
                **common,
            ),
        ]
    return made
