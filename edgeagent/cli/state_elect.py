"""``edgeagent state elect``: which node of a graph a value would be sent to, by which way, and whether it is in time.

The rule is that of :mod:`edgeagent.state.election`; ``--policy`` asks a baseline instead, whose choice is told in the
same true units. ``transfer_ms`` is the way's latency and the time that the bytes take to leave (``sending_ms``). Beside
CONTRACTS' members there are ``fetch_ms`` (until ``--to`` has it from there), ``ready_ms`` (both together: feasible is
ready_ms <= slo_ms), ``why``, and for databelt ``model_ms`` and ``model_fits``, what it believed.
Times are null where no way leads. An infeasible election is an answer: the exit code is 0.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeagent.cli.output import print_json

if TYPE_CHECKING:
    from edgeagent.state.election import Demand, Election
    from edgeagent.state.ways import Ways

__all__ = ["register", "run"]

_POLICIES = ("edgeagent", "databelt", "random-node", "cloud")


def register(parts: argparse._SubParsersAction[Any]) -> None:
    """Add ``elect`` to the parts of ``edgeagent state``."""
    elect = parts.add_parser(
        "elect", help="which node a value would be sent to, offline", description=__doc__
    )
    elect.add_argument(
        "--graph", type=Path, required=True, metavar="F", help="JSON: {node: [[neighbour, latency_ms], ...]}"
    )
    elect.add_argument(
        "--from", dest="origin", required=True, metavar="A", help="the node that has the value"
    )
    elect.add_argument("--to", dest="consumer", required=True, metavar="B", help="the node that will need it")
    elect.add_argument("--size-bytes", type=_whole, required=True, metavar="N", help="its size")
    elect.add_argument("--slo-ms", type=_amount, required=True, metavar="M", help="the time that it may take")
    elect.add_argument("--mbit-s", type=_rate, required=True, metavar="R", help="the rate along a way")
    elect.add_argument(
        "--policy", choices=_POLICIES, default="edgeagent", help="who decides (default: %(default)s)"
    )
    elect.add_argument("--cloud", metavar="NODE", help="policy cloud: the store's node (default: --to)")
    elect.add_argument("--seed", type=int, default=1, help="policy random-node (default: %(default)s)")
    elect.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="one JSON object on stdout"
    )
    elect.set_defaults(run_part=run)


def _amount(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 0")
    return value


def _rate(text: str) -> float:
    value = _amount(text)
    if not 1.0 <= value * 1e6 < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no rate of at least a bit a second")
    return value


def _whole(text: str) -> int:
    from edgeagent.state.units import SIZE_BYTES_MAX

    value = int(text)
    if not 0 <= value <= SIZE_BYTES_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no size from 0 to {SIZE_BYTES_MAX}")
    return value


def run(args: argparse.Namespace) -> int:
    from edgeagent.model.errors import BadRequest
    from edgeagent.state.election import Demand
    from edgeagent.state.units import Bytes, Ms, mbit_s
    from edgeagent.state.ways import GRAPH_BYTES_MAX, read_graph

    try:
        with args.graph.open("rb") as file:
            data = file.read(GRAPH_BYTES_MAX + 1)
    except OSError as error:
        raise BadRequest(f"cannot read {args.graph}: {error.strerror}") from None
    demand = Demand(size_bytes=Bytes(args.size_bytes), slo_ms=Ms(args.slo_ms), rate=mbit_s(args.mbit_s))
    election, more = _decide(args, read_graph(data), demand)
    shown = {
        "node": election.node,
        "path": list(election.path),
        "latency_ms": _finite(election.latency_ms),
        "transfer_ms": _finite(election.transfer_ms),
        "feasible": election.feasible,
        "sending_ms": demand.sending_ms,
        "fetch_ms": _finite(election.fetch_ms),
        "ready_ms": _finite(election.ready_ms),
        "why": election.why,
        "policy": args.policy,
        **more,
    }
    if args.json:
        print_json({"ok": True, **shown})
        return 0
    print(f"{election.node}: {'feasible' if election.feasible else 'not feasible'} ({election.why})")
    print(f"  path      {' - '.join(election.path) or 'none'}")
    for name in ("latency_ms", "transfer_ms", "fetch_ms", "ready_ms"):
        print(f"  {name[:-3]:9} {'never' if shown[name] is None else f'{shown[name]:.3f} ms'}")
    return 0


def _decide(args: argparse.Namespace, ways: Ways, demand: Demand) -> tuple[Election, dict[str, Any]]:
    """The election, and what a baseline has to say beside."""
    import random

    from edgeagent.state.databelt import cloud, databelt, random_node
    from edgeagent.state.election import elect

    ends = (args.origin, args.consumer)
    if args.policy == "databelt":
        believed = databelt(ways, *ends, demand)
        return believed.election, {"model_ms": believed.cost_ms, "model_fits": believed.fits}
    if args.policy == "random-node":
        return random_node(ways, *ends, demand, random.Random(args.seed)), {"seed": args.seed}
    if args.policy == "cloud":
        return cloud(ways, *ends, demand, args.cloud or args.consumer), {}
    return elect(ways, *ends, demand), {}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
