"""``edgeagent workflow deploy|run|status|list``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import msgspec

from edgeagent.cli.client import Reply, call, expect
from edgeagent.cli.invoke import input_bytes, output_members
from edgeagent.cli.main import add_node_argument
from edgeagent.cli.output import Failed, print_json, table
from edgeagent.cli.workflow_progress import follow
from edgeagent.model.errors import BadRequest

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    deploy = verbs.add_parser("deploy", help="deploy a workflow")
    deploy.add_argument("file", type=Path, help="TOML, or JSON")
    deploy.add_argument("--name", help="instead of the one in the file")
    start = verbs.add_parser("run", help="run a workflow, and wait for its output")
    start.add_argument("name")
    start.add_argument(
        "--data", help="input: TEXT, @FILE, or - for standard input (the default where it is a pipe)"
    )
    start.add_argument(
        "--async", dest="is_async", action="store_true", help="return at once with the run's id"
    )
    start.add_argument("--wait", action="store_true", help="with --async: wait all the same")
    start.add_argument("--deadline-ms", type=float, help="instead of the workflow's")
    start.add_argument("--idempotency-key", help="the same key and input run once")
    status = verbs.add_parser("status", help="how a run stands")
    status.add_argument("run_id", metavar="RUN")
    status.add_argument("--follow", action="store_true", help="show what happens until it ends")
    listing = verbs.add_parser("list", help="deployed workflows, or runs")
    listing.add_argument("--runs", action="store_true", help="the latest runs instead")
    listing.add_argument("--workflow", metavar="NAME", help="runs of this one only")
    listing.add_argument("--limit", type=int, default=20, help="so many runs (default: %(default)s)")
    for one in (deploy, start, status, listing):
        one.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="one JSON object on stdout"
        )
        add_node_argument(one)


def run(args: argparse.Namespace) -> int:
    """Exit code 1 where a run did not succeed."""
    return {"deploy": _deploy, "run": _run, "status": _status, "list": _list}[args.what](args)


def _deploy(args: argparse.Namespace) -> int:
    from edgeagent.node.workflow_spec import check_workflow_name, parse_workflow

    try:
        data = args.file.read_bytes()
    except OSError as error:
        raise BadRequest(f"cannot read {args.file}: {error.strerror}") from None
    kind = {".json": "application/json", ".toml": "application/toml"}.get(args.file.suffix)
    workflow = parse_workflow(data, kind, source=str(args.file))
    name = args.name or workflow.workflow.name
    if args.name:
        named = msgspec.structs.replace(workflow.workflow, name=check_workflow_name(name))
        data, kind = (
            msgspec.json.encode(msgspec.structs.replace(workflow, workflow=named)),
            "application/json",
        )
    headers = {"Content-Type": kind or "application/octet-stream"}
    reply = expect(call(args.node, "PUT", f"/v1/workflows/{name}", data, headers))
    if args.json:
        print_json({"ok": True, "new": reply.status == 201, "workflow": reply.json()})
    else:
        print(f"{name}: {'deployed' if reply.status == 201 else 'deployed again'}")
    return 0


def _run(args: argparse.Namespace) -> int:
    from edgeagent.node.workflow_spec import check_workflow_name

    headers = {"Content-Type": "application/octet-stream", "Prefer": "respond-async"}
    if args.deadline_ms is not None:
        headers["Edgeagent-Deadline-Ms"] = f"{args.deadline_ms:.6f}"
    if args.idempotency_key:
        headers["Idempotency-Key"] = args.idempotency_key
    name = check_workflow_name(args.name)
    reply = expect(call(args.node, "POST", f"/workflows/{name}", input_bytes(args.data), headers))
    run_id = reply.json()["id"]
    if args.is_async and not args.wait:
        if args.json:
            print_json({"ok": True, "location": reply.headers["location"], **reply.json()})
        else:
            print(run_id)
        return 0
    view = follow(args.node, run_id, quiet=args.json)
    return _ended(args, view)


def _ended(args: argparse.Namespace, view: dict[str, Any]) -> int:
    if view["state"] != "succeeded":
        if args.json:
            print_json({"ok": False, **view})
            return 1
        raise Failed(view["problem"] or {"title": view["state"], "detail": f"the run is {view['state']}"})
    output = expect(call(args.node, "GET", f"/v1/runs/{view['id']}/output")).body
    if args.json:
        view.pop("output_base64", None)
        print_json({"ok": True, **view, **output_members(output)})
        return 0
    sys.stdout.buffer.write(output)
    sys.stdout.buffer.flush()
    return 0


def _status(args: argparse.Namespace) -> int:
    if args.follow:
        follow(args.node, args.run_id, quiet=args.json)
    view = expect(call(args.node, "GET", f"/v1/runs/{args.run_id}")).json()
    if args.json:
        print_json({"ok": True, **view})
        return 0
    print(
        f"{view['id']}  {view['workflow']}  {view['state']}  held by {view['holder'][:12]}, epoch {view['epoch']}"
    )
    print(
        table(
            ("step", "state", "node", "ms", "predicted", "hose", "why"), [_step(one) for one in view["steps"]]
        )
    )
    for entry in view["decisions"]:
        if entry.get("event") in {"refused", "taken-over"}:
            print(", ".join(f"{key} {value}" for key, value in entry.items() if value))
    if view["problem"]:
        print(f"{view['problem'].get('step', '')}: {view['problem']['detail']}")
    return 0


def _step(one: dict[str, Any]) -> tuple[str, ...]:
    def ms(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}"

    return (
        one["name"], one["state"], one["node"][:12], ms(one["measured_ms"]), ms(one["predicted_ms"]), one["hose"],
        one["why"],
    )  # fmt: skip


def _list(args: argparse.Namespace) -> int:
    if args.runs or args.workflow:
        from edgeagent.node.workflow_spec import check_workflow_name

        if args.workflow:
            check_workflow_name(args.workflow)
        query = f"?limit={max(1, args.limit)}" + (f"&workflow={args.workflow}" if args.workflow else "")
        found = _listed(call(args.node, "GET", f"/v1/runs{query}"), "runs")
        if args.json:
            print_json({"ok": True, "runs": found})
            return 0
        rows = [
            (one["id"], one["workflow"], one["state"], one["created_at"], one["holder"][:12]) for one in found
        ]
        print(table(("run", "workflow", "state", "began", "holder"), rows) if rows else "no runs")
        return 0
    found = _listed(call(args.node, "GET", "/v1/workflows"), "workflows")
    if args.json:
        print_json({"ok": True, "workflows": found})
        return 0
    shown = [(one["name"], len(one["step"]), len(one["trigger"])) for one in found]
    print(table(("workflow", "steps", "triggers"), shown) if shown else "no workflows are deployed")
    return 0


def _listed(reply: Reply, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = expect(reply).json()[name]
    return found
