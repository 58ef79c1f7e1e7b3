"""``edgeagent contacts``: when this node sees which others."""

from __future__ import annotations

import argparse
from urllib.parse import urlencode

from edgeagent.cli.client import call, expect
from edgeagent.cli.main import add_node_argument
from edgeagent.cli.output import print_json, table

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", nargs="?", default="", help="only with this one (an id, or how it begins)")
    parser.add_argument("--hours", type=float, default=3.0, help="how far ahead (default: %(default)g)")
    add_node_argument(parser)


def run(args: argparse.Namespace) -> int:
    query = urlencode({"peer": args.peer, "hours": args.hours})
    view = expect(call(args.node, "GET", f"/v1/contacts?{query}")).json()
    if args.json:
        print_json({"ok": True, **view})
        return 0
    print(f"contacts of {view['node'][:12]} from {view['from']} to {view['until']}")
    rows = [
        (
            one["peer"][:12],
            "now" if one["now"] else one["start"],
            one["end"] + (" or later" if one["goes_on"] else ""),
            f"{one['duration_s']:.0f} s",
        )
        for one in view["contacts"]
    ]
    print(table(("peer", "begins", "ends", "lasts"), rows) if rows else "none")
    return 0
