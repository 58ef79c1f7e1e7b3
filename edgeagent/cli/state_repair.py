"""``edgeagent state repair DIR``: a damaged key store made sound again; no daemon may use it meanwhile.

All that is intact is in it afterwards; the damaged files are moved aside and never deleted. What another node has a
replica of comes back by itself when the daemon runs again. Exits with 0 also where something was lost: it is listed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from edgeagent.cli.output import print_json
from edgeagent.state.repair import RepairReport, repair

__all__ = ["add_repair"]

_SHOWN = 20


def add_repair(steps: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The step ``repair``; its ``run_part`` does it."""
    parser = steps.add_parser("repair", help="make a damaged store of state sound again, offline")
    parser.add_argument("directory", type=Path, metavar="DIR", help="the directory that holds state.db")
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.set_defaults(run_part=_run)


def _run(args: argparse.Namespace) -> int:
    report = repair(args.directory)
    if args.json:
        print_json({"ok": True, **msgspec.to_builtins(report)})
        return 0
    for line in _lines(report):
        print(line)
    return 0


def _lines(report: RepairReport) -> list[str]:
    kept = f"{report.entries} keys, {report.chunks} chunks, {report.notes} notes"
    lines = [
        f"kept: {kept}, {report.asides} values that lost a conflict",
        f"the damaged files are in {report.moved}",
    ]
    if report.lost_keys:
        lines.append(f"lost, unless another node has them: {len(report.lost_keys)} keys")
        lines += [f"  {key}" for key in report.lost_keys[:_SHOWN]]
    if report.lost_chunks:
        lines.append(
            f"damaged until another node heals them: {len({key for key, _ in report.lost_chunks})} keys"
        )
        lines += [f"  {key}" for key in sorted({key for key, _ in report.lost_chunks})[:_SHOWN]]
    if report.unnamed_rows:
        lines.append(f"{report.unnamed_rows} rows could not be read at all")
    if not (report.lost_keys or report.lost_chunks or report.unnamed_rows):
        lines.append(
            "nothing that could be found was lost; a page that is gone whole cannot say what it held"
        )
    return lines
