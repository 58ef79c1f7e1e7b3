"""``edgeagent state WHAT``: one part a file, which adds its own arguments."""

from __future__ import annotations

import argparse

from edgeagent.cli import state_aside, state_elect, state_keys, state_repair

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    state_keys.register(parts)
    state_elect.register(parts)
    state_aside.add_aside(parts)
    state_repair.add_repair(parts)


def run(args: argparse.Namespace) -> int:
    return int(args.run_part(args))
