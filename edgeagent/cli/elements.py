"""``edgeagent elements``: hand the mesh newer orbital elements for its satellites.

curl ... | edgeagent elements - --keys me      the file's objects that members say they are
edgeagent elements gp.json --of NODE=25544     or as you say

The sets are signed with an operator's keys (``keys issue --operator``); nodes take them from the operators that their
``mesh.operators`` names, and tell each other.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeagent.cli.client import KEYS_VARIABLE, call, expect
from edgeagent.cli.main import add_node_argument
from edgeagent.cli.output import print_json
from edgeagent.model.errors import BadRequest

if TYPE_CHECKING:
    from edgeagent.orbit.elements import Elements

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="OMM (JSON, XML, CSV, KVN) or TLE; - reads standard input")
    parser.add_argument(
        "--of",
        action="append",
        default=[],
        metavar="NODE=OBJECT",
        help="whose elements these are, by name or catalogue number; may be repeated (default: what members say)",
    )
    add_node_argument(parser)


def run(args: argparse.Namespace) -> int:
    from edgeagent.mesh.ephemeris import sign_ephemeris
    from edgeagent.mesh.key_files import NODE_KEY, load_private_key

    folder = os.environ.get(KEYS_VARIABLE, "")
    if not folder:
        raise BadRequest(
            "elements are signed with an operator's keys",
            hint="name a folder by --keys, or in EDGEAGENT_KEYS (edgeagent keys issue CLUSTER --operator NAME)",
        )
    key = load_private_key(Path(folder) / NODE_KEY)
    found = _read(args.file)
    view = expect(call(args.node, "GET", "/v1/peers")).json()
    sent: list[dict[str, str]] = []
    held: list[dict[str, str]] = []
    for node, elements in _chosen(args.of, found, view):
        blob = sign_ephemeris(node, elements, key)
        reply = expect(call(args.node, "POST", "/v1/elements", blob)).json()
        said = {"node": node, "object": elements.label, "epoch": reply["epoch"]}
        (sent if reply["taken"] else held).append(said)
    if args.json:
        print_json({"ok": True, "sent": sent, "held": held})
        return 0
    for said in sent:
        print(f"{said['node'][:12]}: {said['object']}, epoch {said['epoch']}")
    for said in held:
        print(f"{said['node'][:12]}: has elements as new, of {said['epoch']}")
    if not sent and not held:
        print("no member says that it is one of these objects; --of NODE=OBJECT says so for it")
    return 0


def _read(file: str) -> list[Elements]:
    from edgeagent.orbit.errors import OrbitFault
    from edgeagent.orbit.importer import read_elements

    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return read_elements(data, source="operator")
    except OSError as error:
        raise BadRequest(f"{file}: {error.strerror}", hint="name a file, or - for standard input") from None
    except OrbitFault as error:
        raise BadRequest(f"{file}: {error.message}", hint=error.hint) from None


def _chosen(of: list[str], found: list[Elements], view: dict[str, Any]) -> list[tuple[str, Elements]]:
    """The newest set for each node: as ``--of`` says, else for those that say which object they are."""
    everybody = [{"id": view["node"], "place": view["place"]}, *view["peers"]]
    ids = [one["id"] for one in everybody]
    if of:
        return [(_member(word, ids), _newest(found, word.partition("=")[2])) for word in of]
    chosen = []
    for one in everybody:
        said = (one["place"] or {}).get("object_key")
        mine = [elements for elements in found if elements.key == said]
        if mine:
            chosen.append((one["id"], max(mine, key=lambda elements: elements.epoch_us)))
    return chosen


def _member(word: str, ids: list[str]) -> str:
    begin, equals, _ = word.partition("=")
    fitting = [one for one in ids if begin and one.startswith(begin)]
    if not equals or len(fitting) != 1:
        raise BadRequest(
            f"--of {word!r:.80} stands for {len(fitting)} nodes",
            hint="NODE=OBJECT, NODE is an id or its beginning: edgeagent peers lists them",
        )
    return fitting[0]


def _newest(found: list[Elements], which: str) -> Elements:
    mine = [one for one in found if which in {one.name, str(one.norad_id), one.object_id, one.key}]
    if len({one.key for one in mine}) != 1:
        raise BadRequest(
            f"{which!r:.80} stands for {len(mine)} of the {len(found)} sets in the file",
            hint=f"for instance {found[0].label}",
        )
    return max(mine, key=lambda one: one.epoch_us)
