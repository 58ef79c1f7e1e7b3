"""The benchmark ``accel``, replays: how far from the oracle the controller stays, and ``--replay DIR``.

A round makes one pair of traces from its seed and replays it for all contestants; the value is the regret in percent
of the oracle's mean, after the learning phase. Nothing is measured on hardware here, and nothing waits in real time.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from edgeagent.accel.errors import TraceRefused
from edgeagent.accel.figures import LEARNING, Figures
from edgeagent.accel.replay import ReplayOptions
from edgeagent.accel.settings import Probe
from edgeagent.accel.traces import Traces, read_traces
from edgeagent.bench.accel_contest import RIVALS, contest
from edgeagent.bench.accel_traces import TRACES
from edgeagent.bench.harness import Bench, Case, Rounds, Sample, Sampler
from edgeagent.bench.report import write_whole
from edgeagent.bench.stats import ratio, significant

__all__ = ["add_replay_arguments", "replay", "replay_cases"]

_SHOWN = (
    "regret_ready_pct",
    "mean_ms",
    "slo_violations",
    "failures",
    "switches",
    "gpu_share_pct",
    "cost_usd",
)
_FILE_BYTES_MAX = 256 << 20
_AMOUNT_MAX = 1e12  # sums of so many stay finite
_NUMBERS = ("slo_ms", "think_s", "gpu_cold_s", "cpu_usd_s", "gpu_usd_s")


class _Rounds:
    """All contestants of a round share its traces; they are played when the first of them asks."""

    def __init__(self, kind: str, seed: int) -> None:
        self._kind, self._seed = kind, seed
        self._played: dict[int, Mapping[str, Figures]] = {}

    def of(self, number: int) -> Mapping[str, Figures]:
        if number not in self._played:
            made = TRACES[self._kind](random.Random(f"{self._kind}/{self._seed}/{number}"))
            self._played = {number: contest(made.traces, replace(made.options, seed=self._seed + number))}
        return self._played[number]


def _case(kind: str) -> Case:
    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        rounds = _Rounds(kind, bench.options.seed)

        def sampler(who: str) -> Sampler:
            numbers = iter(range(1_000_000))

            def sample() -> Sample:
                one = rounds.of(next(numbers))[who]
                shown = {name: getattr(one, name) for name in _SHOWN}
                return one.regret_pct, {name: value for name, value in shown.items() if value is not None}

            return sample

        yield {name: sampler(name) for name in ("ours", *RIVALS)}

    def fields(rounds: Rounds, _bench: Bench) -> dict[str, Any]:
        above = {who: [100.0 + value for value, _ in taken] for who, taken in rounds.items() if taken}
        ratios = {
            who: ratio(above["ours"], theirs, "lower") for who, theirs in above.items() if who != "ours"
        }
        return {"latency_ratio": {who: significant(value, 4) for who, value in ratios.items()}}

    options = TRACES[kind](random.Random(0)).options
    return Case(
        name=f"replay-{kind}-regret",
        unit="% over the oracle",
        better="lower",
        open=opened,
        params={"learning": LEARNING, **{name: getattr(options, name) for name in _NUMBERS}},
        rounds=21,
        rounds_full=201,
        warm_up_rounds=0,
        fields=fields,
    )


def replay_cases() -> list[Case]:
    """One a kind of trace."""
    return [_case(kind) for kind in TRACES]


def _amount(text: str) -> float:
    """An option's value."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value < _AMOUNT_MAX:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number from 0 up")
    return value


def add_replay_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``bench accel --replay DIR``."""
    group = parser.add_argument_group("accel --replay")
    defaults = ReplayOptions()
    group.add_argument(
        "--replay",
        metavar="DIR",
        type=Path,
        help="accel: run the controller over DIR/cpu.csv and DIR/gpu.csv (timestamp,response_time_ms[,size])",
    )
    helps = {
        "slo_ms": "limit of the latency, 0: none",
        "think_s": "from an answer to the next request",
        "gpu_cold_s": "from when the GPU is first wanted until it is ready",
        "cpu_usd_s": "price of a second of a core",
        "gpu_usd_s": "price of a second of the GPU",
    }
    for name in _NUMBERS:
        option = "--" + name.replace("_", "-")
        default = getattr(defaults, name)
        group.add_argument(
            option, type=_amount, default=None, metavar="X", help=f"{helps[name]} (default {default:g})"
        )
    group.add_argument(
        "--probe",
        choices=("shadow", "serve"),
        default="shadow",
        help="whether a probe runs beside its request or answers it (default shadow)",
    )


def _options(args: argparse.Namespace) -> ReplayOptions:
    given = {name: getattr(args, name) for name in _NUMBERS if getattr(args, name) is not None}
    return ReplayOptions(seed=args.seed, **given)


def _read(folder: Path) -> Traces:
    texts = []
    for name in ("cpu.csv", "gpu.csv"):
        try:
            size_bytes = (folder / name).stat().st_size
            if size_bytes > _FILE_BYTES_MAX:
                raise TraceRefused(
                    f"{folder / name} has {size_bytes} bytes", hint=f"up to {_FILE_BYTES_MAX >> 20} MiB"
                )
            texts.append((folder / name).read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise TraceRefused(f"{folder / name} cannot be read: {error}") from None
    return read_traces(*texts)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _table(found: Mapping[str, Figures]) -> str:
    columns = [
        "regret_pct",
        "regret_ready_pct",
        "mean_ms",
        "p50_ms",
        "p95_ms",
        "slo_violations",
        "failures",
        "switches",
    ]
    columns += ["gpu_seconds", "gpu_share_pct", "cost_usd"]
    lines = ["  ".join(["who".ljust(10), *(column.rjust(16) for column in columns)])]
    for name, one in found.items():
        cells = [_cell(getattr(one, column)).rjust(16) for column in columns]
        lines.append("  ".join([name.ljust(10), *cells]))
    first = next(iter(found.values()))
    oracle = _cell(first.oracle_mean_ms)
    lines.append(f"{first.requests} requests after {first.learning.requests} of learning; oracle {oracle} ms")
    return "\n".join(lines)


def replay(args: argparse.Namespace) -> int:
    """``bench accel --replay DIR``; returns 0, or 1 where the traces cannot be replayed."""
    probe: Probe = args.probe
    try:
        options = _options(args)
        traces = _read(args.replay)
        for remark in traces.remarks:
            print(f"edgeagent bench: {remark}", file=sys.stderr)
        found = contest(traces, options, probe)
    except TraceRefused as error:
        hint = f" ({error.hint})" if error.hint else ""
        if args.json:
            print(msgspec.json.encode({"ok": False, "problem": error.problem()}).decode())
        print(f"edgeagent bench: {error.message}{hint}", file=sys.stderr)
        return 1
    ours = found["ours"]
    document = {
        "ok": True,
        "replay": str(args.replay),
        "params": {**{name: getattr(options, name) for name in _NUMBERS}, "seed": args.seed, "probe": probe},
        **msgspec.structs.asdict(ours),
        "ours": ours,
        "baselines": {name: one for name, one in found.items() if name != "ours"},
    }
    encoded = msgspec.json.encode(document)
    if args.out is not None:
        write_whole(args.out, msgspec.json.format(encoded, indent=2) + b"\n")
    print(encoded.decode() if args.json else _table(found))
    return 0
