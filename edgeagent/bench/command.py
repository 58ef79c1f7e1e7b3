"""The verb ``edgeagent bench NAME``: arguments, run, output. The cli room calls these two functions."""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import msgspec

from edgeagent.bench.harness import BUDGET_S, Bench, Case, Options, Progress, run_cases
from edgeagent.bench.machine import busy_share, describe_machine
from edgeagent.bench.report import Report, table, write_whole

__all__ = ["BENCHMARKS", "add_arguments", "run"]


def _accel() -> Sequence[Case]:
    from edgeagent.bench.accel import cases

    return cases()


def _invoke() -> Sequence[Case]:
    from edgeagent.bench.invoke import cases

    return cases()


def _hose() -> Sequence[Case]:
    from edgeagent.bench.hose import cases

    return cases()


def _gossip() -> Sequence[Case]:
    from edgeagent.bench.gossip import cases

    return cases()


def _orbit() -> Sequence[Case]:
    from edgeagent.bench.orbit import cases

    return cases()


def _placement() -> Sequence[Case]:
    from edgeagent.bench.placement import cases

    return cases()


def _state() -> Sequence[Case]:
    from edgeagent.bench.state import cases

    return cases()


def _topology() -> Sequence[Case]:
    from edgeagent.bench.topology import cases

    return cases()


# One entry a benchmark; the modules are imported only when asked for.
BENCHMARKS: dict[str, Callable[[], Sequence[Case]]] = {
    "accel": _accel,
    "gossip": _gossip,
    "hose": _hose,
    "invoke": _invoke,
    "orbit": _orbit,
    "placement": _placement,
    "state": _state,
    "topology": _topology,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bench``; ``--json`` is added unless the parser has it already."""
    parser.add_argument("name", choices=sorted(BENCHMARKS), help="which benchmark")
    if "--json" not in parser._option_string_actions:
        parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", metavar="F", type=Path, help="also write the JSON document to this file")
    parser.add_argument("--full", action="store_true", help="more rounds, no limit of 5 minutes")
    parser.add_argument(
        "--case",
        metavar="GLOB",
        action="append",
        help="only the cases whose name matches; may be given several times",
    )
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="hose: measure this node's crossovers and write them into its state directory",
    )
    parser.add_argument("--state-dir", default="", help="with --calibrate: the node's state directory")
    parser.add_argument("--seed", type=int, default=1, help="seed of the order of the rounds (default 1)")
    from edgeagent.bench.accel_replay import add_replay_arguments

    add_replay_arguments(parser)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _usage(args: argparse.Namespace, message: str) -> int:
    if args.json:
        problem = {"ok": False, "problem": {"title": "usage", "detail": message}}
        print(msgspec.json.encode(problem).decode())
    print(f"edgeagent bench: {message}", file=sys.stderr)
    return 2


def _calibrate(args: argparse.Namespace) -> int:
    from edgeagent.bench.harness import CaseSkipped
    from edgeagent.bench.hose_calibrate import calibrate
    from edgeagent.node.config import load_config

    if args.name != "hose":
        return _usage(args, "--calibrate goes with hose")
    overrides = {"node.state_dir": args.state_dir} if args.state_dir else {}
    state_dir = Path(load_config(None, dict(os.environ), overrides).node.state_dir)
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        path, found, measured = calibrate(state_dir, Progress())
    except (CaseSkipped, OSError) as error:
        print(f"edgeagent bench: not calibrated: {error}", file=sys.stderr)
        return 1
    if args.json:
        document = {"ok": True, "path": str(path), "crossovers": found, "measured": measured}
        print(msgspec.json.encode(document).decode())
    else:
        print(f"written: {path} (a running node takes it up when it starts again)")
    return 0


def _replay(args: argparse.Namespace) -> int:
    from edgeagent.bench.accel_replay import replay

    if args.name != "accel":
        return _usage(args, "--replay goes with accel")
    return replay(args)


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    """What parts of a node say when they run in this process: standard output is for the document."""
    import structlog

    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        yield
    finally:
        structlog.configure(**before)


def run(args: argparse.Namespace) -> int:
    """Run a benchmark; returns 0, 1 when a case failed or the run was interrupted, 2 on wrong usage."""
    if args.calibrate:
        return _calibrate(args)
    if args.out is not None and not args.out.parent.is_dir():
        return _usage(args, f"no such directory: {args.out.parent}")
    if args.out is not None and args.out.is_dir():
        return _usage(args, f"{args.out} is a directory")
    if args.replay is not None:
        return _replay(args)
    cases = BENCHMARKS[args.name]()
    patterns = tuple(args.case or ["*"])
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(case.name, pattern) for case in cases):
            names = ", ".join(case.name for case in cases)
            return _usage(args, f"no case matches {pattern!r}; there are: {names}")
    progress = Progress()
    machine = describe_machine(busy_share())
    if machine["busy"]:
        share = machine["busy_share_before"]
        progress.say(f"warning: this machine is busy ({share:.0%}), the figures will be noisy")
    options = Options(
        full=args.full, patterns=patterns, seed=args.seed, budget_s=math.inf if args.full else BUDGET_S
    )
    report = Report(
        benchmark=args.name,
        machine=machine,
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        seed=args.seed,
        full=args.full,
    )
    before = signal.signal(signal.SIGTERM, _interrupt)  # servers that we started must not outlive us
    try:
        with _log_on_stderr():
            good = run_cases(cases, Bench(options=options, progress=progress), report)
    finally:
        signal.signal(signal.SIGTERM, before)
    document = msgspec.json.format(msgspec.json.encode(report), indent=2)
    if args.out is not None:
        write_whole(args.out, document + b"\n")
    print(document.decode() if args.json else table(report))
    return 0 if good else 1
