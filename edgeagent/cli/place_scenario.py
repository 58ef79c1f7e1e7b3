"""``edgeagent place --scenario FILE``: a placement case of the form of HyperDrive's wildfire scenario, offline."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgeagent.cli.output import print_json, table

if TYPE_CHECKING:
    from edgeagent.simulator.wildfire_play import Placement

__all__ = ["POLICIES", "run_scenario"]

POLICIES = ("edgeagent", "hyperdrive", "nearest", "greedy", "first-fit", "round-robin", "random")


def run_scenario(args: argparse.Namespace) -> int:
    """Every decision of the case, and its figures."""
    import random

    import msgspec

    from edgeagent.simulator.wildfire_case import read_case
    from edgeagent.simulator.wildfire_ours import ours
    from edgeagent.simulator.wildfire_play import Networks, play
    from edgeagent.simulator.wildfire_rivals import RIVALS

    case = read_case(args.scenario)
    networks, chance = Networks(case), random.Random(args.seed)
    rival = RIVALS.get(args.policy)
    scheduler = ours if rival is None else (lambda turn: rival(turn, chance))
    played = play(case, scheduler, networks=networks, known=args.source == "known")
    summary = msgspec.to_builtins(played.summary)
    summary["topology_cpu_ms_mean"] = sum(networks.build_cpu_ms) / max(len(networks.build_cpu_ms), 1)
    if args.json:
        placements = [msgspec.to_builtins(one) for one in played.placements]
        print_json(
            {
                "ok": True,
                "policy": args.policy,
                "source": args.source,
                "placements": placements,
                "summary": summary,
            }
        )
        return 0
    print(
        table(("run", "task", "node", "from before", "from data"), [_row(one) for one in played.placements])
    )
    for name, value in summary.items():
        print(f"{name}: {value:.3f}" if isinstance(value, float) else f"{name}: {value}")
    return 0


def _row(one: Placement) -> tuple[str, ...]:
    def ms(value: float | None) -> str:
        return "" if value is None else f"{value:.2f} ms"

    node = str(one.node) if one.node >= 0 else "none"
    return (str(one.wf), one.task, node, ms(one.pred_ms), ms(one.data_ms))
