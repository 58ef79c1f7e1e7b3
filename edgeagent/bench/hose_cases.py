"""What all cases of ``bench hose`` have in common: sizes, rounds, memory, throughput, and what only a long run does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import msgspec

from edgeagent.bench.harness import Bench, Case, CaseSkipped, Rounds, Sample, Sampler
from edgeagent.bench.hose_rig import KIB, MIB, size_name
from edgeagent.bench.report import Better

__all__ = ["FROM_1MIB", "SIZES", "TOO_LONG", "Samplers", "Shape", "is_thorough", "rounds_of", "sized_cases"]

SIZES = (KIB, 64 * KIB, MIB, 16 * MIB, 64 * MIB, 256 * MIB, 512 * MIB)
FROM_1MIB = SIZES[2:]
TOO_LONG = "too long for a run of 5 minutes; choose cases with --case, or use --full"
_SECONDS = {"ms": 1e-3, "us": 1e-6}

# The contestants for that many bytes; what they need open is closed after the case.
Samplers = Callable[[Bench, int, ExitStack], dict[str, Sampler]]


def _no_more_fields(_count: int, _rounds: Rounds, _bench: Bench) -> dict[str, Any]:
    return {}


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What the cases of one name have in common besides their contestants.

    A round of a case moves ``times`` payloads and needs memory for ``held`` of them at once. ``is_rate``: the time is
    that of a transfer, and GB/s are given beside it. ``only_full(bytes)``: too long for a run of 5 minutes.
    """

    unit: str
    better: Better = "lower"
    sizes: Sequence[int] = SIZES
    times: int = 1
    held: int = 6
    is_rate: bool = False
    group: str = "hose"
    params: Mapping[str, Any] = {}
    fields: Callable[[int, Rounds, Bench], dict[str, Any]] = _no_more_fields
    only_full: Callable[[int], bool] = lambda _: False


def is_thorough(bench: Bench) -> bool:
    """Whether time is no matter: ``--full``, or somebody chose the cases."""
    return bench.options.full or bench.options.is_choice


def rounds_of(count: int) -> tuple[int, int]:
    """Rounds for so many bytes a round, and with ``--full``."""
    if count <= 16 * MIB:
        return 21, 51
    return (11, 21) if count <= 64 * MIB else (5, 11)


def sized_cases(name: str, samplers: Samplers, shape: Shape) -> list[Case]:
    """One case a size; ``name`` has the place of the size as ``{}``."""
    cases = []
    for count in shape.sizes:
        rounds, rounds_full = rounds_of(count * shape.times)
        cases.append(
            Case(
                name=name.format(size_name(count)),
                unit=shape.unit,
                better=shape.better,
                open=_opener(samplers, shape, count),
                params={**shape.params, "bytes": count},
                rounds=rounds,
                rounds_full=rounds_full,
                memory_bytes=shape.held * count + 64 * MIB,
                group=shape.group,
                fields=partial(shape.fields, count),
            )
        )
    return cases


def _opener(
    samplers: Samplers, shape: Shape, count: int
) -> Callable[[Bench], AbstractContextManager[dict[str, Sampler]]]:
    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        if shape.only_full(count) and not is_thorough(bench):
            raise CaseSkipped(TOO_LONG)
        with ExitStack() as stack:
            made = samplers(bench, count, stack)
            if shape.is_rate:
                made = {who: _rated(one, count, _SECONDS[shape.unit]) for who, one in made.items()}
            yield made

    return opened


def _rated(sampler: Sampler, count: int, second: float) -> Sampler:
    def sample() -> Sample:
        value, more = sampler()
        return value, {"gb_per_s": count / (value * second) / 1e9, **more}

    return sample
