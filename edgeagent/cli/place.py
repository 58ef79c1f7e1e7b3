"""``edgeagent place``: where things would run, and why.

edgeagent place detect --explain                 every member, what removed it or what its score is made of
edgeagent place --workflow wildfire --at +600    a deployed workflow, in ten minutes
edgeagent place --workflow wildfire.toml         one that is not deployed yet
edgeagent place --scenario wildfire-1118.json.gz --source late     plans a case of that form, offline
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from edgeagent.cli.client import call, expect
from edgeagent.cli.main import add_node_argument
from edgeagent.cli.output import print_json, table
from edgeagent.cli.place_scenario import POLICIES, run_scenario
from edgeagent.model.errors import BadRequest

__all__ = ["add_arguments", "run"]

_TERMS = ("path_ms", "queue_ms", "exec_ms", "data_ms", "transfer_ms", "energy_ms", "cost_ms")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="a function")
    parser.add_argument("--workflow", metavar="NAME|FILE", help="a workflow, deployed or in a file")
    parser.add_argument(
        "--scenario", metavar="FILE", type=Path, help="a placement case, JSON, plain or gzipped"
    )
    parser.add_argument(
        "--explain", action="store_true", help="every candidate, with its filter or its score"
    )
    parser.add_argument(
        "--at", default="", metavar="TIME", help="for a time ahead: 2026-11-23T20:00:00Z, or +600 (seconds)"
    )
    parser.add_argument("--bytes", type=int, default=0, metavar="N", help="size of the input (default: 0)")
    parser.add_argument(
        "--source",
        choices=("known", "late"),
        default="known",
        help="scenario: the data source is named with the workflow, or revealed after its first step "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--policy", default="edgeagent", choices=POLICIES, help="scenario: who decides (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="scenario: of the policy random (default: %(default)s)"
    )
    add_node_argument(parser)
    parser.set_defaults(usage_error=parser.error)


def run(args: argparse.Namespace) -> int:
    """Exit code 1 where no node will do."""
    if sum(one is not None for one in (args.name, args.workflow, args.scenario)) != 1:
        args.usage_error("give one of NAME, --workflow and --scenario")
    if args.scenario is not None:
        return run_scenario(args)
    view = _asked(args)
    if args.json:
        print_json({"ok": bool(view["feasible"]), **view})
        return 0 if view["feasible"] else 1
    if not view["feasible"]:
        problem = view["problem"]
        print(f"no placement: {problem['detail']}" + (f" ({problem['hint']})" if "hint" in problem else ""))
    else:
        head = ("step", "node", "predicted", "why")
        rows = [
            (one["step"], one["node"][:12], f"{one['predicted_ms']:.1f} ms", one["why"])
            for one in view["choices"]
        ]
        print(table(head, rows))
    if args.explain:
        for step in view["steps"]:
            print(f"\n{step['step']}")
            print(
                table(("candidate", "kind", "score", "why"), [_candidate(one) for one in step["candidates"]])
            )
    return 0 if view["feasible"] else 1


def _asked(args: argparse.Namespace) -> dict[str, Any]:
    query = {"bytes": str(max(0, args.bytes)), "at": args.at}
    if args.name is not None:
        query["function"] = args.name
        return expect(call(args.node, "GET", f"/v1/placement?{urlencode(query)}")).json()
    path = Path(args.workflow)
    if path.suffix not in {".toml", ".json"}:
        query["workflow"] = args.workflow
        return expect(call(args.node, "GET", f"/v1/placement?{urlencode(query)}")).json()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadRequest(
            f"{path}: {error.strerror}", hint="name a file, or a workflow that is deployed"
        ) from None
    headers = {"Content-Type": "application/json" if path.suffix == ".json" else "application/toml"}
    return expect(call(args.node, "POST", f"/v1/placement?{urlencode(query)}", data, headers)).json()


def _candidate(one: dict[str, Any]) -> tuple[str, ...]:
    if one["removed_by"]:
        return (one["node"][:12], one["kind"], "-", f"{one['removed_by']}: {one['detail']}")
    terms = ", ".join(
        f"{name[:-3]} {one['terms'][name]:.1f}" for name in _TERMS if one["terms"][name] >= 0.05
    )
    return (one["node"][:12], one["kind"], f"{one['score_ms']:.1f} ms", terms or "nothing to speak of")
