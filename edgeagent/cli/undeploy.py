"""``edgeagent undeploy NAME``."""

from __future__ import annotations

import argparse

from edgeagent.cli.client import call, expect
from edgeagent.cli.main import add_node_argument
from edgeagent.cli.output import print_json
from edgeagent.model.function import check_name

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name")
    add_node_argument(parser)


def run(args: argparse.Namespace) -> int:
    expect(call(args.node, "DELETE", f"/v1/functions/{check_name(args.name)}"))
    if args.json:
        print_json({"ok": True, "undeployed": args.name})
    else:
        print(f"undeployed: {args.name}")
    return 0
