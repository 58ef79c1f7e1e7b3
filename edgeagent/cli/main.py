"""``edgeagent``: one verb a file, each imported only when it is used, so that small commands start fast."""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from edgeagent import __version__
from edgeagent.cli.output import Failed, drop_output, fail
from edgeagent.model.errors import BadConfig, EdgeError

__all__ = ["DEFAULT_NODE", "VERBS", "add_node_argument", "main"]

DEFAULT_NODE = "http://127.0.0.1:8480"

# verb -> (module, one line of help)
VERBS = {
    "run": ("run", "run the daemon"),
    "demo": ("demo", "find planted fires in a real satellite scene, through a real daemon"),
    "deploy": ("deploy", "deploy a function"),
    "functions": ("functions", "list deployed functions"),
    "undeploy": ("undeploy", "remove a function"),
    "sign": ("sign", "vouch for a function, so that nodes take it from their peers"),
    "verify": ("verify", "check a signature of a function"),
    "inspect": ("inspect", "what a wasm file is, imports and exports"),
    "invoke": ("invoke", "call a function, or a chain of them"),
    "workflow": ("workflow", "deploy and run workflows"),
    "peers": ("peers", "the other nodes of the mesh: state, place, contact, load"),
    "contacts": ("contacts", "when this node sees which others"),
    "elements": ("elements", "hand the mesh newer orbital elements for its satellites"),
    "top": ("top", "CPU or GPU: what each function runs on, and why"),
    "place": ("place", "where a function or a workflow would run, and why"),
    "state": ("state", "the state of functions and workflows"),
    "keys": ("keys", "the keys of a cluster and of its nodes"),
    "bench": ("bench", "measure, against baselines"),
    "check-config": ("check_config", "check a configuration and show what it comes to"),
    "doctor": ("doctor", "what works on this machine, and what would mend the rest"),
}


class _Parser(argparse.ArgumentParser):
    """Usage errors exit with 2, as JSON when --json was asked for."""

    def error(self, message: str) -> NoReturn:
        if "--json" in sys.argv[1:]:
            print(json.dumps({"ok": False, "problem": {"title": "usage", "detail": message}}))
        else:
            self.print_usage(sys.stderr)
            print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(2)


def build_parser(verb: str | None) -> argparse.ArgumentParser:
    """The parser; only the chosen verb's module is imported for its arguments."""
    parser = _Parser(prog="edgeagent", description="one serverless computer made of many small ones")
    parser.add_argument("--version", action="version", version=f"edgeagent {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, (module, text) in VERBS.items():
        sub = verbs.add_parser(name, help=text, description=text)
        if name == verb:
            sub.add_argument("--json", action="store_true", help="one JSON object on stdout")
            loaded = importlib.import_module(f"edgeagent.cli.{module}")
            loaded.add_arguments(sub)
            sub.set_defaults(run=loaded.run)
    return parser


def add_node_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--node",
        metavar="URL",
        default=os.environ.get("EDGEAGENT_NODE") or DEFAULT_NODE,
        help="the daemon to talk to (default: $EDGEAGENT_NODE, else %(default)s)",
    )
    parser.add_argument(
        "--keys",
        metavar="FOLDER",
        help="a folder of edgeagent keys, for https:// nodes (default: $EDGEAGENT_KEYS)",
    )


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """What stands before and after the first ``--``: the rest is for a function, not for us."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 ok, 1 failed, 2 usage, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    closed = _take_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be any bytes
    try:
        try:
            code = _command(words)
        finally:  # also when argparse ends it
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has gone (head, less): nothing is wrong, and nothing more can be said.
        drop_output()
        return 1
    except OSError as error:
        drop_output()
        about = f"{error.filename}: " if error.filename else "cannot write the output: "
        print(f"edgeagent: {about}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if closed and "run" not in words:
        print("edgeagent: cannot write the output: standard output is closed", file=sys.stderr)
        return code or 1
    return code


def _command(words: list[str]) -> int:
    """The verb, its typed errors told; what its output meets is raised."""
    words, guest_args = _split(words)
    verb = next((word for word in words if word in VERBS), None)
    try:
        parser = build_parser(verb)
        args = parser.parse_args(words)
        if guest_args and verb != "invoke":
            parser.error("only invoke takes arguments after --")
        args.guest_args = guest_args
        if getattr(args, "keys", None):
            os.environ["EDGEAGENT_KEYS"] = args.keys
        return int(args.run(args))
    except BadConfig as error:
        return fail(error, as_json="--json" in words, code=2)
    except (EdgeError, Failed) as error:
        return fail(error, as_json="--json" in words, code=1)


def _take_closed_streams() -> bool:
    """Whether standard output is closed. Its place is taken: the next file or socket would else be printed into."""
    closed = sys.stdout is None
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - until the end
    return closed
