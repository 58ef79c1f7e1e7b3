"""``edgeagent keys``: the keys of a cluster and of its nodes.

edgeagent keys init cluster --label farm            once: an authority, and a secret that all nodes share
edgeagent keys issue cluster --node ID --out node1  for each node: its keys, to be copied to it (mesh.keys)
edgeagent keys issue cluster --operator me --out me who may deploy beyond loopback (--keys)
edgeagent keys request --node ID --out node1        or on the node itself: a request, which is no secret,
edgeagent keys issue cluster --request REQUEST      is answered with a token, which only that node can open
edgeagent keys join TOKEN --out node1
edgeagent keys rotate cluster --step add            a new secret: add, use, drop; each step to all nodes (--to)
"""

from __future__ import annotations

import argparse
import datetime
import re
import secrets
import sys
import time
from pathlib import Path
from typing import Any

from edgeagent.cli.output import print_json
from edgeagent.mesh.errors import KeysRefused

__all__ = ["add_arguments", "run"]

_HOURS_MAX = 24 * 366
_TEXT_MAX = 64 << 10
_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    steps = parser.add_subparsers(dest="step_of_keys", metavar="STEP", required=True)
    init = steps.add_parser("init", help="a new cluster: its authority and its shared secret")
    init.add_argument("folder", help="a new folder; whoever has it admits nodes")
    init.add_argument("--label", default="edgeagent", help="the cluster's name (default: %(default)s)")
    issue = steps.add_parser("issue", help="the keys of one node, or of one who deploys")
    issue.add_argument("folder", help="the cluster's folder")
    holder = issue.add_mutually_exclusive_group(required=True)
    holder.add_argument("--node", metavar="ID", help="the node's id, as its start prints it")
    holder.add_argument("--operator", metavar="NAME", help="who may deploy to nodes beyond loopback (--keys)")
    holder.add_argument("--request", metavar="TEXT", help="what keys request printed; - reads it from stdin")
    issue.add_argument("--out", metavar="FOLDER", help="where to; copy it to the node (mesh.keys)")
    issue.add_argument(
        "--hours", type=float, default=24.0, help="how long a token can be used (default: %(default)g)"
    )
    issue.add_argument(
        "--address",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="an IP address or host name of the node, for TLS; may be repeated",
    )
    request = steps.add_parser("request", help="on a node: a key, and a request for the rest")
    request.add_argument("--node", required=True, metavar="ID", help="the node's id, as its start prints it")
    request.add_argument("--out", required=True, metavar="FOLDER", help="a new folder (mesh.keys)")
    join = steps.add_parser("join", help="on a node: what the token gives")
    join.add_argument("token", help="what keys issue --request printed; - reads it from stdin")
    join.add_argument("--out", required=True, metavar="FOLDER", help="the folder of keys request")
    rotate = steps.add_parser(
        "rotate", help="another shared secret, without a pause: add, then use, then drop"
    )
    rotate.add_argument("folder", help="the cluster's folder")
    rotate.add_argument(
        "--step", required=True, choices=("add", "use", "drop", "give"), help="give: only --to, nothing new"
    )
    rotate.add_argument(
        "--to",
        action="append",
        default=[],
        metavar="FOLDER",
        help="a node's folder that gets the ring at once; running nodes take it up by themselves",
    )
    for one in (init, issue, request, join, rotate):
        one.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    does = {"init": _init, "issue": _issue, "request": _request, "join": _join, "rotate": _rotate}
    shown = does[args.step_of_keys](args)
    if args.json:
        print_json({"ok": True, **shown})
    else:
        print(shown["says"])
    return 0


def _init(args: argparse.Namespace) -> dict[str, Any]:
    from edgeagent.mesh.authority import make_cluster
    from edgeagent.mesh.keyring import SECRET_BYTES

    folder = Path(args.folder)
    make_cluster(folder, args.label, secrets.token_bytes(SECRET_BYTES), datetime.datetime.now(datetime.UTC))
    says = (
        f"{folder}: keys of the cluster {args.label!r}. Keep ca.key where no node is.\n"
        f"next, for each node: edgeagent keys issue {folder} --node ID --out FOLDER"
    )
    return {"folder": str(folder), "label": args.label, "says": says}


def _issue(args: argparse.Namespace) -> dict[str, Any]:
    from edgeagent.mesh.authority import issue_node, issue_operator

    if args.request is not None:
        return _answer(args)
    now = datetime.datetime.now(datetime.UTC)
    if args.out is None:
        raise KeysRefused(
            "issue takes --out: a folder for the keys", hint="or --request, which prints a token"
        )
    cluster, out = Path(args.folder), Path(args.out)
    _checked_id(args.operator or args.node or "")
    if args.operator is not None:
        if args.address:
            raise KeysRefused("--address is for nodes", hint="an operator calls, and is not called")
        public = issue_operator(cluster, out, args.operator, now).hex()
        says = (
            f"{out}: keys of the operator {args.operator}. Name the folder by --keys, or in EDGEAGENT_KEYS.\n"
            f"public key {public}: nodes that have it in mesh.operators take orbital elements from this operator"
        )
        return {"folder": str(out), "operator": args.operator, "public_key": public, "says": says}
    issue_node(cluster, out, args.node, args.address, now)
    says = f"{out}: keys of node {args.node}. Copy the folder to it, and name it in mesh.keys."
    return {"folder": str(out), "node": args.node, "says": says}


def _answer(args: argparse.Namespace) -> dict[str, Any]:
    from edgeagent.mesh.authority import Authority
    from edgeagent.mesh.join import read_request

    if args.out is not None:
        raise KeysRefused("--request prints a token, and writes no folder", hint="leave --out away")
    if not 0 < args.hours <= _HOURS_MAX:
        raise KeysRefused(f"--hours {args.hours:g} is not within 0 and {_HOURS_MAX}")
    request = read_request(_given(args.request))
    now = datetime.datetime.now(datetime.UTC)
    token = Authority(Path(args.folder)).token(request, args.address, now, args.hours * 3600)
    return {"node": request.node, "token": token, "says": token}


def _request(args: argparse.Namespace) -> dict[str, Any]:
    from edgeagent.mesh.join import make_request
    from edgeagent.mesh.key_files import new_node_key

    _checked_id(args.node)
    text = make_request(args.node, new_node_key(Path(args.out)))
    return {"folder": args.out, "node": args.node, "request": text, "says": text}


def _join(args: argparse.Namespace) -> dict[str, Any]:
    from edgeagent.mesh.join import open_token
    from edgeagent.mesh.key_files import NODE_KEY, load_node, load_private_key, write_granted

    out = Path(args.out)
    grant = open_token(_given(args.token), load_private_key(out / NODE_KEY), time.time())
    write_granted(out, grant.files)
    load_node(out, grant.node)
    says = f"{out}: keys of node {grant.node}. Name the folder in mesh.keys."
    return {"folder": str(out), "node": grant.node, "says": says}


def _checked_id(text: str) -> None:
    if not _ID.fullmatch(text):
        raise KeysRefused(
            f"{text!r:.80} is no id: 1 to 64 of A-Z, a-z, 0-9 and ._:-",
            hint="edgeagent run prints a node's id when it starts",
        )


def _given(text: str) -> str:
    return sys.stdin.read(_TEXT_MAX) if text == "-" else text


def _rotate(args: argparse.Namespace) -> dict[str, Any]:
    from edgeagent.mesh.key_files import load_ring, save_ring
    from edgeagent.mesh.keyring import SECRET_BYTES, added, dropped, used

    ring = load_ring(Path(args.folder))
    match args.step:
        case "add":
            ring = added(ring, secrets.token_bytes(SECRET_BYTES))
        case "use":
            ring = used(ring)
        case "drop":
            ring = dropped(ring)
    for folder in args.to:
        if load_ring(Path(folder)).label != ring.label:
            raise KeysRefused(f"{folder} is of another cluster", hint="name folders of this cluster's nodes")
    for folder in (args.folder, *args.to):
        save_ring(Path(folder), ring)
    ids = [one.id for one in ring.secrets]
    then = {"add": ", then use", "use": ", then drop"}.get(args.step, "")
    says = f"secrets {ids}, {ring.primary} seals. Bring cluster.json to every node{then}."
    return {"secrets": ids, "primary": ring.primary, "given_to": list(args.to), "says": says}
