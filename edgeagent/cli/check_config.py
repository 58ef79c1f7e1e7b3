"""``edgeagent check-config [FILE]``: check a configuration and show what it comes to."""

from __future__ import annotations

import argparse
import os
from typing import Any

import msgspec

from edgeagent.cli.output import print_json, table
from edgeagent.cli.run import add_config_arguments, configured
from edgeagent.node.config import describe

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", help="TOML file (default: $EDGEAGENT_CONFIG, else none)")
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    args.config = args.file or args.config
    from edgeagent.node.mesh_config import check_mesh

    effective = configured(args, os.environ)
    check_mesh(effective.mesh)
    config: dict[str, Any] = msgspec.to_builtins(effective)
    if args.json:
        print_json({"ok": True, "config": config})
        return 0
    rows = []
    for item in describe():
        section, name = item.key.split(".")
        value = config[section][name]
        rows.append((item.key, _shown(value), "" if value == item.default else "set", item.doc))
    print(table(("key", "value", "", "meaning"), rows))
    return 0


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={one}" for key, one in value.items()) or "none"
    return '""' if value == "" else str(value)
