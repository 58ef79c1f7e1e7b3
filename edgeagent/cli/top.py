"""``edgeagent top``: which functions run on the CPU and which on a GPU, and why; the load of the node and its GPUs."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from typing import Any, NoReturn

from edgeagent.cli.client import call, expect
from edgeagent.cli.main import add_node_argument
from edgeagent.cli.output import print_json, table
from edgeagent.model.errors import PeerFailed

__all__ = ["add_arguments", "run"]

_EVERY_S = 1.0
_CLEAR = "\x1b[H\x1b[J"
_ROWS_MAX = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_node_argument(parser)
    parser.add_argument("--once", action="store_true", help="show it once, instead of every second")


def run(args: argparse.Namespace) -> int:
    view = expect(call(args.node, "GET", "/v1/accel")).json()
    if args.json:
        print_json({"ok": True, **view})
        return 0
    if args.once or not sys.stdout.isatty():
        print(shown(view))
        return 0
    try:
        _follow(args.node, shown(view))
    finally:
        print()


def _follow(node: str, text: str) -> NoReturn:
    """Until Ctrl-C."""
    while True:
        print(_CLEAR + _clipped(text, *shutil.get_terminal_size()), end="", flush=True)
        time.sleep(_EVERY_S)
        try:
            text = shown(expect(call(node, "GET", "/v1/accel")).json())
        except PeerFailed as error:  # it may come back: a restart is when one looks
            text = error.message


def _clipped(text: str, columns: int, rows: int) -> str:
    """What fits on the terminal: a line that wraps, or one too many, would push the first ones out of sight."""
    lines = [line[:columns] for line in text.splitlines()]
    return "\n".join(lines if len(lines) <= rows else [*lines[: max(rows - 1, 0)], "..."[:columns]])


def shown(view: dict[str, Any]) -> str:
    """One screen; the functions with the most calls first."""
    lines = [_load(view), *map(_gpu, view["gpus"])]
    if not view["gpus"]:
        lines.append(f"no GPU: {view['why_no_gpu']}")
    functions = sorted(view["functions"], key=lambda one: (-one["calls"], one["name"]))
    if not functions:
        return "\n".join([*lines, "no functions: edgeagent deploy brings some"])
    head = ("function", "calls", "p50 ms", "mode", "backend", "gpu s", "joules", "usd", "why")
    lines += ["", table(head, [_row(one) for one in functions[:_ROWS_MAX]])]
    if len(functions) > _ROWS_MAX:
        lines.append(f"and {len(functions) - _ROWS_MAX} more")
    return "\n".join(lines)


def _load(view: dict[str, Any]) -> str:
    load = view["load"]
    cpu = "-" if load["cpu"] is None else f"{load['cpu']:.0%}"
    shown = f"{view['node'][:12]}: cpu {cpu}, {load['active']} calls, {load['waiting']} wait"
    if energy := view.get("energy"):  # a node of an earlier version does not say
        draws = f"a core {energy['core_w']:.3g} W" + (
            f", a GPU {energy['gpu_w']:.3g} W" if view["gpus"] else ""
        )
        shown += f"; {draws}, {energy['usd_per_kwh']:.3g} USD/kWh ({energy['usd_per_kwh_why']})"
    return shown


def _gpu(one: dict[str, Any]) -> str:
    words = [f"GPU {one['index']} {one['device']}".rstrip(), one["state"]]
    if one["why"]:
        words.append(one["why"])
    if one["temperature_c"] is not None:
        words.append(f"{one['temperature_c']:.0f} C")
    if one.get("power_w") is not None:
        words.append(f"{one['power_w']:.0f} W")
    if one.get("utilisation") is not None:
        words.append(f"{one['utilisation']:.0%} busy")
    if one["state"] == "ready":
        words.append(f"{one['load']} calls")
    if one["falls"]:
        words.append(f"lost {one['falls']} times")
    return ", ".join(words)


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    why = f"{one['why']} ({one['changed_at']})" if one["changed_at"] else one["why"]
    p50 = "-" if one["p50_ms"] is None else f"{one['p50_ms']:.1f}"
    spent = [f"{one[key]:.3g}" if key in one else "-" for key in ("gpu_seconds", "energy_j", "cost_usd")]
    return one["name"], one["calls"], p50, one["mode"], one["backend"], *spent, why
