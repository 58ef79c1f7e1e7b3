"""``edgeagent functions``: what is deployed."""

from __future__ import annotations

import argparse

from edgeagent.cli.client import call, expect
from edgeagent.cli.main import add_node_argument
from edgeagent.cli.output import print_json, table

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_node_argument(parser)


def run(args: argparse.Namespace) -> int:
    found = expect(call(args.node, "GET", "/v1/functions")).json()["functions"]
    if args.json:
        print_json({"ok": True, "functions": found})
    elif not found:
        print("no functions are deployed; deploy one with: edgeagent deploy FILE.wasm")
    else:
        rows = [
            (
                d["name"],
                d["abi"],
                d.get("execution", {}).get("mode", "-"),
                d["info"]["size_bytes"],
                d["sha256"][:12],
                d["deployed_at"],
            )
            for d in found
        ]
        print(table(("name", "abi", "mode", "bytes", "sha256", "deployed"), rows))
    return 0
