"""``edgeagent invoke NAME``: call a function, or a chain of them."""

from __future__ import annotations

import argparse
import base64
import json
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

from edgeagent.cli.client import Reply, call, expect
from edgeagent.cli.main import add_node_argument
from edgeagent.cli.output import Failed, print_json
from edgeagent.model.errors import BadRequest
from edgeagent.model.function import check_name
from edgeagent.node.steps import parse_step

__all__ = ["add_arguments", "input_bytes", "output_members", "run"]

_POLL_S = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Words after -- become the arguments of a command function."
    parser.add_argument("name")
    parser.add_argument(
        "--data", help="input: TEXT, @FILE, or - for standard input (the default where it is a pipe)"
    )
    parser.add_argument(
        "--then",
        action="append",
        default=[],
        metavar="STEP",
        help="next step of the chain: NAME, NAME@PEER, or several joined by + that get the same input",
    )
    parser.add_argument("--async", dest="is_async", action="store_true", help="return at once with an id")
    parser.add_argument("--wait", action="store_true", help="with --async: wait for the result")
    parser.add_argument("--deadline-ms", type=float, help="for the whole call, waiting included")
    parser.add_argument("--idempotency-key", help="the same key and call run once")
    add_node_argument(parser)
    parser.set_defaults(usage_error=parser.error)


def run(args: argparse.Namespace) -> int:
    if args.is_async and args.then:
        args.usage_error("--async and --then do not go together")
    body = input_bytes(args.data)
    if args.is_async:
        return _run_async(args, body)
    if (args.then or _is_chain(args.name)) and not args.idempotency_key:
        return _run_chain(args, body)
    steps = []
    for position, name in enumerate([args.name, *args.then]):
        headers = _headers(args, with_key=position == 0, arguments=args.guest_args if position == 0 else [])
        reply = expect(call(args.node, "POST", _path(name), body, headers))
        steps.append(_step(name, body, reply))
        body = reply.body
    _show(args, steps, body)
    return 0


def _run_chain(args: argparse.Namespace, body: bytes) -> int:
    """All steps in one request: what passes between them stays on the node."""
    for step in args.then:
        if not _is_chain(step):
            check_name(step)  # a comma would make two of one
    headers = _headers(args, with_key=False, arguments=args.guest_args)
    if args.then:
        headers["Edgeagent-Then"] = ",".join(args.then)
    reply = expect(call(args.node, "POST", _path(args.name), body, headers))
    everywhere = {
        "node": reply.headers.get("edgeagent-node", ""),
        "backend": reply.headers.get("edgeagent-backend", ""),
    }
    steps = [{**everywhere, **step} for step in json.loads(reply.headers["edgeagent-steps"])]
    _show(args, steps, reply.body)
    return 0


def _path(name: str) -> str:
    return f"/functions/{name if _is_chain(name) else check_name(name)}"


def _is_chain(name: str) -> bool:
    """NAME@PEER, or several functions at once. Raises BadRequest."""
    step = parse_step(name) if "@" in name or "+" in name else ()
    return bool(step)


def input_bytes(data: str | None) -> bytes:
    """What ``--data`` says. Raises BadRequest."""
    if data is None:
        data = "-" if _is_piped() else ""
    if data in ("-", "@-"):
        return _standard_input()
    if not data.startswith("@"):
        return data.encode("utf-8", "surrogateescape")  # arguments are bytes, whatever they spell
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise BadRequest(f"cannot read {data[1:]}: {error.strerror}") from None


def _is_piped() -> bool:
    """``producer | edgeagent invoke NAME``; not a terminal, a file or /dev/null that was merely inherited."""
    try:
        return stat.S_ISFIFO(os.fstat(0).st_mode)
    except OSError:  # closed
        return False


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise BadRequest("standard input is closed")
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise BadRequest(f"cannot read standard input: {error.strerror}") from None


def _headers(args: argparse.Namespace, *, with_key: bool, arguments: list[str]) -> dict[str, str]:
    headers = {"Content-Type": "application/octet-stream"}
    if args.deadline_ms is not None:
        headers["Edgeagent-Deadline-Ms"] = f"{args.deadline_ms:.6f}"
    if args.idempotency_key and with_key:
        headers["Idempotency-Key"] = args.idempotency_key
    if arguments:
        headers["Edgeagent-Args"] = json.dumps(arguments)
    return headers


def _step(name: str, body: bytes, reply: Reply) -> dict[str, Any]:
    return {
        "function": name,
        "duration_us": int(reply.headers.get("edgeagent-duration-us", 0)),
        "energy_uj": int(reply.headers.get("edgeagent-energy-uj", 0)),
        "cold": reply.headers.get("edgeagent-cold") == "1",
        "node": reply.headers.get("edgeagent-node", ""),
        "backend": reply.headers.get("edgeagent-backend", ""),
        "hose": reply.headers.get("edgeagent-hose", ""),
        "bytes_in": len(body),
        "bytes_out": len(reply.body),
    }


def _show(args: argparse.Namespace, steps: list[dict[str, Any]], output: bytes) -> None:
    if args.json:
        print_json({"ok": True, **steps[-1], **output_members(output), "steps": steps})
        return
    sys.stdout.buffer.write(output)
    sys.stdout.buffer.flush()


def output_members(output: bytes) -> dict[str, str]:
    """As JSON holds it: text where it is UTF-8, else base64."""
    try:
        return {"output_text": output.decode("utf-8")}
    except UnicodeDecodeError:
        return {"output_base64": base64.b64encode(output).decode("ascii")}


def _run_async(args: argparse.Namespace, body: bytes) -> int:
    headers = _headers(args, with_key=True, arguments=args.guest_args)
    headers["Prefer"] = "respond-async"
    reply = expect(call(args.node, "POST", _path(args.name), body, headers))
    location = reply.headers["location"]
    if not args.wait:
        if args.json:
            print_json({"ok": True, "location": location, **reply.json()})
        else:
            print(location)
        return 0
    view = expect(call(args.node, "GET", location)).json()
    while view["state"] in ("queued", "running"):
        time.sleep(_POLL_S)
        view = expect(call(args.node, "GET", location)).json()
    if view["state"] == "failed":
        raise Failed(view["problem"])
    output = expect(call(args.node, "GET", view["result"])).body
    if args.json:
        print_json({"ok": True, **view, **output_members(output)})
    else:
        sys.stdout.buffer.write(output)
    return 0
