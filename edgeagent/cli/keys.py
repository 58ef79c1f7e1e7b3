"""``edgeagent keys``: the keys of a cluster and of its nodes.

edgeagent keys init cluster --label farm            once: an authority, and a secret that all nodes share
edgeagent keys issue cluster --node ID --out node1  for each node: its keys, to be copied to it (mesh.keys)
edgeagent keys rotate cluster --step add            a new secret: add, use, drop; each step to all nodes (--to)
"""

from __future__ import annotations

import argparse
import datetime
import re
import secrets
from pathlib import Path
from typing import Any

from edgeagent.cli.output import print_json
from edgeagent.mesh.errors import KeysRefused

__all__ = ["add_arguments", "run"]

_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    steps = parser.add_subparsers(dest="step_of_keys", metavar="STEP", required=True)
    init = steps.add_parser("init", help="a new cluster: its authority and its shared secret")
    init.add_argument("folder", help="a new folder; whoever has it admits nodes")
    init.add_argument("--label", default="edgeagent", help="the cluster's name (default: %(default)s)")
    issue = steps.add_parser("issue", help="the keys of one node")
    issue.add_argument("folder", help="the cluster's folder")
    issue.add_argument("--node", required=True, metavar="ID", help="the node's id, as its start prints it")
    issue.add_argument(
        "--out", required=True, metavar="FOLDER", help="where to; copy it to the node (mesh.keys)"
    )
    issue.add_argument(
        "--address",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="an IP address or host name of the node, for TLS; may be repeated",
    )
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
    for one in (init, issue, rotate):
        one.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    shown = {"init": _init, "issue": _issue, "rotate": _rotate}[args.step_of_keys](args)
    if args.json:
        print_json({"ok": True, **shown})
    else:
        print(shown["says"])
    return 0


def _init(args: argparse.Namespace) -> dict[str, Any]:
    from edgeagent.mesh.key_files import make_cluster
    from edgeagent.mesh.keyring import SECRET_BYTES

    folder = Path(args.folder)
    make_cluster(folder, args.label, secrets.token_bytes(SECRET_BYTES), datetime.datetime.now(datetime.UTC))
    says = (
        f"{folder}: keys of the cluster {args.label!r}. Keep ca.key where no node is.\n"
        f"next, for each node: edgeagent keys issue {folder} --node ID --out FOLDER"
    )
    return {"folder": str(folder), "label": args.label, "says": says}


def _issue(args: argparse.Namespace) -> dict[str, Any]:
    from edgeagent.mesh.key_files import issue_node

    if not _ID.fullmatch(args.node):
        raise KeysRefused(f"{args.node!r:.80} is no node id", hint="edgeagent run prints it when it starts")
    now = datetime.datetime.now(datetime.UTC)
    out = issue_node(Path(args.folder), Path(args.out), args.node, args.address, now)
    says = f"{out}: keys of node {args.node}. Copy the folder to it, and name it in mesh.keys."
    return {"folder": str(out), "node": args.node, "says": says}


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
