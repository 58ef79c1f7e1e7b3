"""``edgeagent demo``: the work is in the demo room."""

from __future__ import annotations

import argparse

from edgeagent.demo.command import add_arguments as _add_arguments
from edgeagent.demo.command import run as _run

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    return _run(args)
