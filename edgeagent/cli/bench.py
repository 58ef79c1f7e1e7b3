"""``edgeagent bench NAME``: the work is in the bench room."""

from __future__ import annotations

import argparse

from edgeagent.bench.command import add_arguments as _add_arguments
from edgeagent.bench.command import run as _run

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    return _run(args)
