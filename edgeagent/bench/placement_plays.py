"""What every contestant of the benchmark ``placement`` does in the cases of one size, and how two compare."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeagent.bench.stats import quantile

if TYPE_CHECKING:
    from edgeagent.simulator.wildfire_make import WildfireRecipe
    from edgeagent.simulator.wildfire_play import Played, Turn

__all__ = ["RIVAL_NAMES", "Plays", "Variant", "paired"]

RIVAL_NAMES = ("hyperdrive", "nearest", "greedy", "first-fit", "round-robin", "random")
_CENTRES = ((39.51, -122.99), (-33.6, 150.3), (38.1, 23.6), (-12.5, -60.7), (53.4, -119.9), (-25.7, 28.2))
_RESAMPLES = 2000


@dataclass(frozen=True)
class Variant:
    """How a case differs from the plain one: another shell, or the strains of ``wildfire_strain.py``.

    ``sky`` is (planes, satellites a plane, inclination in degrees).
    """

    suffix: str = ""
    stale_s: float = 0.0
    crowd: int = 1
    failing: float = 0.0
    sky: tuple[int, int, float] | None = None

    @property
    def strained(self) -> bool:
        return self.crowd > 1 or self.failing > 0.0

    @property
    def params(self) -> dict[str, Any]:
        """What of it is to be published."""
        said: dict[str, Any] = {}
        if self.crowd > 1:
            said.update(view_age_s=self.stale_s, crowd=self.crowd)
        if self.failing:
            said["failing"] = self.failing
        if self.sky:
            said.update(zip(("planes", "sats_per_plane", "inclination_deg"), self.sky, strict=True))
        return said

    def recipe(self, size: int, number: int) -> WildfireRecipe:
        """The recipe of round ``number``; 0 is the original's time and region."""
        from edgeagent.simulator.wildfire_make import SIZES, WildfireRecipe

        slots = SIZES[size]
        planes, slots_here, inclination_deg = self.sky or (72, slots, 53.0)
        return WildfireRecipe(
            planes=planes,
            sats_per_plane=slots_here,
            inclination_deg=inclination_deg,
            edge_nodes=100 * slots // 14,
            ground_stations=10 * slots // 14,
            seed=1 + number,
            start_minute=37 * number,
            centre=_CENTRES[number % len(_CENTRES)],
        )


def _ruled(
    rule: Callable[[Turn, random.Random], list[int]], chance: random.Random
) -> Callable[[Turn], list[int]]:
    return lambda turn: rule(turn, chance)


class Plays:
    """What each contestant did in each case of one size, played once for all figures."""

    def __init__(self, size: int, variant: Variant) -> None:
        self._size = size
        self._variant = variant
        self._known: dict[tuple[int, str], Played] = {}
        self.topology_cpu_ms: dict[int, float] = {}

    def of(self, number: int, who: str) -> Played:
        if (number, who) not in self._known:
            self._play(number)
        return self._known[number, who]

    def _play(self, number: int) -> None:
        from edgeagent.simulator.wildfire_make import make_case
        from edgeagent.simulator.wildfire_ours import ours
        from edgeagent.simulator.wildfire_play import Networks, play
        from edgeagent.simulator.wildfire_rivals import RIVALS
        from edgeagent.simulator.wildfire_strain import Strain

        variant = self._variant
        case = make_case(variant.recipe(self._size, number))
        strain = Strain(
            stale_s=variant.stale_s, crowd=variant.crowd, failing=variant.failing, seed=1 + number
        )
        networks, chance = Networks(case), random.Random(number)
        order = ["ours", *([] if variant.strained else ["ours-late"]), *RIVALS]
        chance.shuffle(order)
        for who in order:
            if who.startswith("ours"):
                played = play(case, ours, networks=networks, known=who == "ours", strain=strain)
            else:
                played = play(case, _ruled(RIVALS[who], chance), networks=networks, strain=strain)
            self._known[number, who] = played
        self.topology_cpu_ms[number] = statistics.fmean(networks.build_cpu_ms)


def paired(
    known: Plays, numbers: range, mine: str, theirs: str, part: int, seed: int
) -> dict[str, float | int | list[float]]:
    """The means over the workflows that both placed to the end, ``ratio`` of them and its 95 % interval.

    The interval is a bootstrap over rounds, both sides of a round together. ``part`` 0 is the critical path, 1 the sum
    of the ways.
    """
    rounds: list[list[tuple[float, float]]] = []
    for number in numbers:
        one, other = known.of(number, mine).finished(), known.of(number, theirs).finished()
        rounds.append([(one[wf][part], other[wf][part]) for wf in sorted(one.keys() & other.keys())])
    both = [pair for each in rounds for pair in each]
    if not both:
        return {"workflows": 0}
    sums = [(sum(pair[0] for pair in each), sum(pair[1] for pair in each)) for each in rounds]
    rng = random.Random(seed)
    drawn = [_over(rng.choices(sums, k=len(sums))) for _ in range(_RESAMPLES)]
    return {
        "workflows": len(both),
        "ours": statistics.fmean(pair[0] for pair in both),
        "baseline": statistics.fmean(pair[1] for pair in both),
        "lower_by": 1.0 - 1.0 / _over(both) if _over(both) else 0.0,
        "ratio": _over(both),
        "ratio_ci95": [quantile(drawn, 0.025), quantile(drawn, 0.975)],
    }


def _over(pairs: Sequence[tuple[float, float]]) -> float:
    """Theirs over ours, all together; 1 where there is nothing to divide."""
    mine = sum(pair[0] for pair in pairs)
    return sum(pair[1] for pair in pairs) / mine if mine else 1.0
