"""The command that a failing seed names: one scenario, one seed, and with ``--story`` what happens in it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence

from edgeagent.simulator.gossip_checks import PropertyBroken

__all__ = ["replay"]

Say = Callable[[str], None]


def replay(
    module: str,
    scenarios: Iterable[str],
    run: Callable[[str, int, Say | None], str],
    argv: Sequence[str] | None,
) -> int:
    """``module`` is what ``python -m`` is given; 0 where all properties hold."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    parser.add_argument("--scenario", choices=sorted(scenarios), required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--story", action="store_true", help="tell what happens, line by line")
    chosen = parser.parse_args(argv)

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")

    try:
        digest = run(chosen.scenario, chosen.seed, say if chosen.story else None)
    except PropertyBroken as broken:
        say(str(broken))
        return 1
    say(f"{chosen.scenario}, seed {chosen.seed}: all properties hold, digest {digest}")
    return 0
