"""``edgeagent state aside KEY``: values that were acknowledged and lost a conflict, as the node that is asked keeps
them.

They stay until somebody has looked at them: ``--show VERSION`` prints one, ``--drop VERSION`` forgets it for good,
after the key was typed again or with ``--yes``. Other nodes keep theirs (``edgeagent state where`` counts them).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from edgeagent.cli.client import call, expect
from edgeagent.cli.main import add_node_argument
from edgeagent.cli.output import print_json, table
from edgeagent.model.errors import BadRequest

__all__ = ["add_aside"]


def add_aside(parts: Any) -> None:
    """The step ``aside``; its ``run_part`` does it."""
    text = "values of a key that lost a conflict: list, show, forget"
    parser: argparse.ArgumentParser = parts.add_parser("aside", help=text, description=text)
    parser.add_argument("key")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--show", metavar="VERSION", help="print this one")
    what.add_argument("--drop", metavar="VERSION", help="forget this one for good")
    parser.add_argument("--out", metavar="F", help="with --show: write it to a file")
    parser.add_argument("--yes", action="store_true", help="with --drop: do not ask")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    add_node_argument(parser)
    parser.set_defaults(run_part=_run)


def _run(args: argparse.Namespace) -> int:
    if args.drop is not None:
        return _drop(args)
    if args.show is not None:
        return _show(args)
    values = expect(call(args.node, "GET", _path(args.key))).json()["values"]
    if args.json:
        print_json({"ok": True, "key": args.key, "values": values})
    elif not values:
        print("no values are set aside here")
    else:
        rows = [(one["version"], one["size_bytes"], one["mode"], one["owner"][:12]) for one in values]
        print(table(("version", "bytes", "mode", "owner"), rows))
    return 0


def _path(key: str, version: str = "") -> str:
    query = {"key": key} | ({"version": version} if version else {})
    return f"/v1/state:aside?{urlencode(query)}"


def _show(args: argparse.Namespace) -> int:
    body = expect(call(args.node, "GET", _path(args.key, args.show))).body
    if args.out:
        Path(args.out).write_bytes(body)
    elif args.json:
        raise BadRequest("--show prints the value itself", hint="with --json give it a file: --out F")
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(body)
        return 0
    if args.json:
        print_json({"ok": True, "key": args.key, "version": args.show, "out": args.out})
    else:
        print(f"{len(body)} bytes to {args.out}")
    return 0


def _drop(args: argparse.Namespace) -> int:
    if not args.yes:
        if args.json or not sys.stdin.isatty():
            raise BadRequest(
                f"{args.drop} of {args.key!r} would be forgotten for good", hint="if that is meant: --yes"
            )
        print(f"{args.drop} of {args.key} is forgotten for good. Type the key if that is meant: ", end="")
        if input() != args.key:
            raise BadRequest("that is not the key: nothing was forgotten")
    expect(call(args.node, "DELETE", _path(args.key, args.drop)))
    if args.json:
        print_json({"ok": True, "key": args.key, "version": args.drop})
    else:
        print(f"{args.key}: {args.drop} is forgotten")
    return 0
