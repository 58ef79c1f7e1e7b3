"""Runs the cases of a benchmark: interleaved rounds, bounded in time and memory, interruptible.

Theory of operation:

1. A case opens its contestants (ours and the baselines), each a *sampler*: a callable that takes one
   round's sample.
2. A round calls every sampler once, in an order drawn from a seeded generator, so that drift of the machine
   (heat, neighbours) falls on all alike. Warm-up is the opener's job; the first ``warm_up_rounds`` are
   thrown away besides.
3. The value of a case is the median over rounds, with its order-statistic interval (``stats.py``).
4. A round that would not end within the time budget, taking as long as the longest before it, does not
   start; a case for which no time is left is listed under ``skipped``.
5. A baseline that fails is dropped and named under ``skipped``. When ours fails, the case fails.
"""

from __future__ import annotations

import fnmatch
import gc
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any, TextIO, TypeVar

from edgeagent.bench.machine import available_memory_bytes
from edgeagent.bench.report import Better, Report, Skipped, case_document

__all__ = [
    "BUDGET_S",
    "Bench",
    "Case",
    "CaseSkipped",
    "Options",
    "Progress",
    "Rounds",
    "Sample",
    "Sampler",
    "no_more_fields",
    "run_cases",
]

T = TypeVar("T")

BUDGET_S = 285.0  # of the contract's 300 s: the servers' shutdown comes on top
START_S = 25.0  # what a case needs to open its servers and to measure its first round

Sample = tuple[float, Mapping[str, Any]]  # the value of a round, then further figures and names
Sampler = Callable[[], Sample]
Rounds = dict[str, list[Sample]]


class CaseSkipped(Exception):
    """Raised by an opener when the whole case cannot run here; the message is the reason."""


class Progress:
    """Progress on stderr: steps are rewritten in place on a terminal and left out elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._tty = self._stream.isatty()

    def say(self, text: str) -> None:
        self._stream.write(f"\r\x1b[K{text}\n" if self._tty else f"{text}\n")
        self._stream.flush()

    def step(self, text: str) -> None:
        if self._tty:
            self._stream.write(f"\r\x1b[K{text}")
            self._stream.flush()


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line chose; ``budget_s`` is infinite with ``--full``."""

    full: bool = False
    patterns: tuple[str, ...] = ("*",)
    seed: int = 1
    budget_s: float = BUDGET_S

    @property
    def is_choice(self) -> bool:
        """Whether somebody chose the cases."""
        return self.patterns != ("*",)

    def wants(self, case: str) -> bool:
        return any(fnmatch.fnmatchcase(case, pattern) for pattern in self.patterns)


@dataclass(kw_only=True)
class Bench:
    """What the cases of one run share: options, the skipped list, and resources that outlive a case."""

    options: Options
    progress: Progress
    skipped: list[Skipped] = field(default_factory=list)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    _shared: dict[str, Any] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def skip(self, name: str, reason: str) -> None:
        """List ``name`` under ``skipped``, once."""
        if all(known.name != name for known in self.skipped):
            self.skipped.append(Skipped(name, reason))
            self.progress.say(f"skipped {name}: {reason}")

    def share(self, key: str, opener: Callable[[], AbstractContextManager[T]]) -> T:
        """Open a resource once for all the cases of a group; :meth:`close_shared` closes it."""
        if key not in self._shared:
            self._shared[key] = self._stack.enter_context(opener())
        value: T = self._shared[key]
        return value

    def close_shared(self) -> None:
        self._shared.clear()
        self._stack.close()


def no_more_fields(_rounds: Rounds, _bench: Bench) -> dict[str, Any]:
    """The ``fields`` of a case that publishes nothing beyond the contract."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the benchmark.

    ``open`` yields the samplers: ``ours``, the baselines by name, and helpers whose name begins with ``_``,
    which are interleaved like the rest but published only by ``fields``. Cases of one ``group`` that follow
    each other keep their shared resources. ``memory_bytes`` is what the case needs at its peak.
    """

    name: str
    unit: str
    better: Better
    open: Callable[[Bench], AbstractContextManager[dict[str, Sampler]]]
    params: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 21
    rounds_full: int = 51
    warm_up_rounds: int = 1
    memory_bytes: int = 64 << 20
    group: str = ""
    fields: Callable[[Rounds, Bench], dict[str, Any]] = no_more_fields


def _one_round(
    samplers: dict[str, Sampler], rounds: Rounds, rng: random.Random, case: Case, bench: Bench
) -> None:
    order = sorted(samplers)
    rng.shuffle(order)
    for name in order:
        try:
            rounds[name].append(samplers[name]())
        except Exception as error:
            if name == "ours":
                raise
            # A peer that breaks is the peer's affair: say so and go on without it.
            bench.skip(name, f"failed in {case.name}: {error}")
            del samplers[name]
            rounds.pop(name, None)


def _measure(case: Case, bench: Bench, deadline: float) -> tuple[Rounds, bool]:
    """The rounds of one case, and whether it was interrupted."""
    rng = random.Random(f"{bench.options.seed}/{case.name}")
    wanted = case.rounds_full if bench.options.full else case.rounds
    with case.open(bench) as opened:
        samplers = dict(opened)
        rounds: Rounds = {name: [] for name in samplers}
        try:
            for _ in range(case.warm_up_rounds):
                _one_round(samplers, {name: [] for name in samplers}, rng, case, bench)
            longest_s = 0.0
            for number in range(wanted):
                start = time.monotonic()
                if start + longest_s > deadline:
                    bench.progress.say(f"{case.name}: out of time after {number} rounds")
                    break
                _one_round(samplers, rounds, rng, case, bench)
                longest_s = max(longest_s, time.monotonic() - start)
                bench.progress.step(f"{case.name}: round {number + 1} of {wanted}")
        except KeyboardInterrupt:
            whole = min((len(taken) for taken in rounds.values()), default=0)
            return {name: taken[:whole] for name, taken in rounds.items()}, True
    return rounds, False


def _document(case: Case, rounds: Rounds, bench: Bench) -> dict[str, Any]:
    public = {name: taken for name, taken in rounds.items() if not name.startswith("_")}
    document = case_document(case.name, case.params, case.unit, case.better, public, bench.options.seed)
    document.update(case.fields(rounds, bench))
    return document


def _refusal(case: Case, deadline: float) -> str:
    quarter = available_memory_bytes() // 4
    if case.memory_bytes > quarter:
        needed = f"needs {case.memory_bytes >> 20} MiB"
        return f"{needed}, more than a quarter of the available memory ({quarter >> 20} MiB)"
    if time.monotonic() + START_S > deadline:
        return "out of time; choose it with --case, or use --full"
    return ""


def _run_one(case: Case, bench: Bench, report: Report, deadline: float) -> bool:
    """Run one case into the report; returns False when it failed."""
    if reason := _refusal(case, deadline):
        bench.skip(case.name, reason)
        return True
    bench.progress.say(case.name)
    gc.collect()
    try:
        rounds, report.interrupted = _measure(case, bench, deadline)
    except CaseSkipped as skipped:
        bench.skip(case.name, str(skipped))
        return True
    except Exception as error:  # noqa: BLE001 - one broken case must not lose the others' figures
        bench.skip(case.name, f"failed: {type(error).__name__}: {error}")
        return False
    if not rounds.get("ours"):
        cause = "interrupted" if report.interrupted else "out of time"
        bench.skip(case.name, f"{cause} before its first round")
        return True
    document = _document(case, rounds, bench)
    bench.results[case.name] = document
    report.cases.append(document)
    return True


def run_cases(cases: Sequence[Case], bench: Bench, report: Report) -> bool:
    """Run the chosen cases in order and fill the report; returns whether all of them went well.

    Ctrl-C ends the run: what was measured stays in the report, the rest is listed under ``skipped``.
    """
    started = time.monotonic()
    deadline = started + bench.options.budget_s
    chosen = [case for case in cases if bench.options.wants(case.name)]
    good, group = True, ""
    try:
        for case in chosen:
            if report.interrupted:
                bench.skip(case.name, "interrupted")
                continue
            if case.group != group:
                bench.close_shared()
            group = case.group
            good = _run_one(case, bench, report, deadline) and good
    except KeyboardInterrupt:
        report.interrupted = True
        done = {*bench.results, *(skipped.name for skipped in bench.skipped)}
        for case in chosen:
            if case.name not in done:
                bench.skip(case.name, "interrupted")
    finally:
        bench.close_shared()
        report.skipped = bench.skipped
        report.elapsed_s = round(time.monotonic() - started, 1)
    return good and not report.interrupted
