"""``edgeagent state get|put|delete|list|where``: keys, through a daemon."""

from __future__ import annotations

import argparse
import base64
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from edgeagent.cli.client import call, expect
from edgeagent.cli.main import add_node_argument
from edgeagent.cli.output import print_json, table
from edgeagent.model.errors import BadRequest

__all__ = ["register"]

_PREVIEW_BYTES = 64 << 10


def register(verbs: Any) -> None:
    """The subcommands that take a node."""
    get = _verb(verbs, "get", _get, "print the value of a key")
    get.add_argument("key")
    get.add_argument("--out", metavar="F", help="write the value to a file")
    put = _verb(verbs, "put", _put, "write a key")
    put.add_argument("key")
    put.add_argument("value", nargs="?", help="text, or @FILE, or - for standard input")
    put.add_argument("--data", metavar="@F|TEXT", help="the same, as a flag")
    put.add_argument("--mode", choices=("once", "owner", "lww"), help="how writes of a new key meet")
    put.add_argument("--ttl-ms", type=int, default=0, metavar="N", help="forget the key after this")
    put.add_argument("--takeover", action="store_true", help="become the key's owner: its owner is gone")
    _add_conditions(put)
    delete = _verb(verbs, "delete", _delete, "delete a key")
    delete.add_argument("key")
    delete.add_argument("--takeover", action="store_true", help="become the key's owner: its owner is gone")
    _add_conditions(delete)
    listing = _verb(verbs, "list", _list, "keys, here and at other members")
    listing.add_argument("prefix", nargs="?", default="", help="only keys that begin so")
    listing.add_argument("--after", default="", metavar="KEY", help="only keys behind this one")
    listing.add_argument("--limit", type=int, default=100, metavar="N")
    listing.add_argument("--here", action="store_true", help="only what this node holds")
    where = _verb(verbs, "where", _where, "which nodes hold a key, how fresh, how durable")
    where.add_argument("key")


def _verb(verbs: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    add_node_argument(parser)
    parser.set_defaults(run_part=run)
    return parser


def _add_conditions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--expect", metavar="VERSION", help="only over this version; empty: only a new key")
    parser.add_argument(
        "--durability", choices=("local", "peer", "ground"), help="wait until it is so durable"
    )
    parser.add_argument("--deadline-ms", type=int, metavar="N", help="and so long at most")


def _path(key: str) -> str:
    return f"/v1/state/{quote(key, safe='/')}"


def _wanted(args: argparse.Namespace) -> dict[str, str]:
    headers = {}
    if args.expect is not None:
        headers["If-None-Match" if not args.expect else "Edgeagent-Version"] = args.expect or "*"
    if args.durability:
        headers["Edgeagent-Durability"] = args.durability
    if args.deadline_ms:
        headers["Edgeagent-Deadline-Ms"] = str(args.deadline_ms)
    if args.takeover:
        headers["Edgeagent-Takeover"] = "1"
    return headers


def _get(args: argparse.Namespace) -> int:
    reply = expect(call(args.node, "GET", _path(args.key)))
    told = {
        "ok": True,
        "key": args.key,
        "version": reply.headers["edgeagent-version"],
        "durability": reply.headers["edgeagent-durability"],
        "mode": reply.headers["edgeagent-mode"],
        "size_bytes": len(reply.body),
    }
    if args.out:
        try:
            Path(args.out).write_bytes(reply.body)
        except OSError as error:
            raise BadRequest(f"cannot write {args.out}: {error.strerror}") from None
        told["out"] = args.out
    if args.json:
        if not args.out:
            told["value"] = base64.b64encode(reply.body).decode()
            text = reply.body[:_PREVIEW_BYTES].decode("utf-8", "replace")
            told["text"] = text if text.encode() == reply.body else None
        print_json(told)
    elif args.out:
        print(f"{len(reply.body)} bytes to {args.out}, version {told['version']}")
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(reply.body)
        if sys.stdout.isatty() and not reply.body.endswith(b"\n"):
            print()
    return 0


def _put(args: argparse.Namespace) -> int:
    headers = _wanted(args)
    if args.mode:
        headers["Edgeagent-Mode"] = args.mode
    if args.ttl_ms:
        headers["Edgeagent-Ttl-Ms"] = str(args.ttl_ms)
    body = _value(args)
    told = expect(call(args.node, "PUT", _path(args.key), body, headers)).json()
    if args.json:
        print_json({"ok": True, **told})
    else:
        print(f"{told['key']}: {told['size_bytes']} bytes, version {told['version']}, {told['durability']}")
    return 0


def _value(args: argparse.Namespace) -> bytes:
    if (args.value is None) == (args.data is None):
        raise BadRequest("a put takes one value", hint="TEXT, @FILE, or - for standard input")
    word: str = args.data if args.value is None else args.value
    if word == "-":
        return sys.stdin.buffer.read()
    if not word.startswith("@"):
        return word.encode()
    try:
        return Path(word[1:]).read_bytes()
    except OSError as error:
        raise BadRequest(f"cannot read {word[1:]}: {error.strerror}") from None


def _delete(args: argparse.Namespace) -> int:
    reply = expect(call(args.node, "DELETE", _path(args.key), headers=_wanted(args)))
    version = reply.headers["edgeagent-version"]
    if args.json:
        durability = reply.headers["edgeagent-durability"]
        print_json({"ok": True, "key": args.key, "version": version, "durability": durability})
    else:
        print(f"{args.key}: deleted, version {version}")
    return 0


def _list(args: argparse.Namespace) -> int:
    query = {"prefix": args.prefix, "after": args.after, "limit": str(args.limit)}
    if args.here:
        query["here"] = "1"
    keys = expect(call(args.node, "GET", f"/v1/state?{urlencode(query)}")).json()["keys"]
    if args.json:
        print_json({"ok": True, "keys": keys})
    elif not keys:
        print("no keys")
    else:
        rows = [(one["key"], one["size_bytes"], one["mode"], one["version"]) for one in keys]
        print(table(("key", "bytes", "mode", "version"), rows))
    return 0


def _where(args: argparse.Namespace) -> int:
    told = expect(call(args.node, "GET", f"/v1/state:where?{urlencode({'key': args.key})}")).json()
    if args.json:
        print_json({"ok": True, **told})
        return 0
    print(f"{told['key']}: {told['durability']}")
    rows = [
        (
            one["node"][:12],
            one["version"],
            f"{one['age_ms'] / 1000:.1f} s",
            "ground" if one["is_ground"] else "",
            f"{one['aside']} set aside" if one["aside"] else "",
        )
        for one in told["holders"]
    ]
    print(table(("node", "version", "written", "", ""), rows))
    return 0
