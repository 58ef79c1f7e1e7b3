"""What running draws beyond what the node draws anyway, and what a kilowatt-hour of that costs.

A node that idles draws too; what a call is charged with is what it adds: watts over idle, times the seconds that it
keeps a core or the GPU. ``edgeagent.cost.draws`` finds a GPU's where a sensor says its power; all else is a figure of
the node's configuration, or of this table by its kind. Not counted: memory, disks and radios, what cools a rack, and
what the node draws without work.

A kilowatt-hour costs what it takes to have it: the tariff on the mains; on a satellite the panels, written off over
what they give in their life, and, for what goes through the battery, its losses and its wear besides. The emptier a
battery is, the dearer is what it holds: that factor is a choice of ours, and no price that anybody asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

__all__ = [
    "DRAWS",
    "ENERGY_PRICES",
    "Draw",
    "EnergyPrice",
    "Supply",
    "draw_of",
    "energy_price_of",
    "energy_usd",
    "joules",
    "stored_usd_per_kwh",
    "usd_per_kwh_now",
]

_J_PER_KWH = 3.6e6
_SCARCEST = 10.0
_ROUND_TRIP = 0.9  # of what goes into a battery, what comes out again: an estimate


class Draw(msgspec.Struct, frozen=True, kw_only=True):
    """Watts over idle: of one busy core, of a busy GPU."""

    core_w: float
    gpu_w: float
    source: str
    date: str


class EnergyPrice(msgspec.Struct, frozen=True, kw_only=True):
    """Dollars for a kilowatt-hour: as it comes (mains, panels in the sun), and out of the battery."""

    usd_per_kwh: float
    usd_per_kwh_stored: float
    source: str
    date: str


class Supply(NamedTuple):
    """What a node lives on now. ``battery`` is its share from 0 to 1, ``reserve`` the share that work must leave;
    ``sunlit``: in the sun, in an eclipse; None: not known, or no battery, or no orbit.
    """

    battery: float | None = None
    reserve: float = 0.0
    sunlit: bool | None = None


_SEEN = "2026-11-29"
_DRAWN = (
    "estimate: what configs/{}.toml says of a machine with all cores at work and with none, over {} cores"
)
_JETSON_GPU = "the GPU 15 W, of a board of 25 W"
# 124 to 169 W under load, 30 W idle: the middle of the one less the other.
_GAIA_GPU = "the GPU as in Gaia's published runs, 30 W idle and 124 to 169 W under load"

DRAWS: Mapping[str, Draw] = MappingProxyType(
    {
        "cloud": Draw(
            core_w=280.0 / 64,
            gpu_w=116.0,
            source=f"{_DRAWN.format('cloud', 64)}; {_GAIA_GPU}",
            date=_SEEN,
        ),
        "ground": Draw(
            core_w=120.0 / 32,
            gpu_w=116.0,
            source=f"{_DRAWN.format('ground', 32)}; {_GAIA_GPU}",
            date=_SEEN,
        ),
        "edge": Draw(
            core_w=10.0 / 4, gpu_w=15.0, source=f"{_DRAWN.format('jetson', 4)}; {_JETSON_GPU}", date=_SEEN
        ),
        "satellite": Draw(
            core_w=15.0 / 4, gpu_w=15.0, source=f"{_DRAWN.format('satellite', 4)}; {_JETSON_GPU}", date=_SEEN
        ),
    }
)


def _panels(usd_per_w: float, kg_per_w: float, usd_per_kg: float, sunlit: float, years: float) -> float:
    """USD for a kWh of panels that are flown and give a watt while they are in the sun."""
    return (usd_per_w + kg_per_w * usd_per_kg) / (sunlit * years * 365.25 * 24.0 / 1000.0)


def _wear(usd_per_wh: float, depth: float, cycles: float) -> float:
    """USD for a kWh that goes through a battery which is done after so many cycles of such a depth."""
    return 1000.0 * usd_per_wh / (depth * cycles)


_TARIFF = 0.12
_SUN = _panels(400.0, 0.02, 6_600.0, 0.6, 5.0)
_MAINS = EnergyPrice(
    usd_per_kwh=_TARIFF,
    usd_per_kwh_stored=_TARIFF / _ROUND_TRIP + _wear(0.15, 0.8, 3_000.0),
    source="the median of the states' averages for commercial customers in 2023 (EIA, Electric Power Annual, "
    "eia.gov/electricity/annual/secrev-map.php); through a battery, estimate: 10 % lost, 0.15 USD/Wh for 3,000 "
    "cycles of 80 %",
    date="2024-10-17",
)
_INCLUDED = EnergyPrice(
    usd_per_kwh=0.0,
    usd_per_kwh_stored=0.0,
    source="in the price of a second (edgeagent.cost.prices)",
    date=_SEEN,
)

ENERGY_PRICES: Mapping[str, EnergyPrice] = MappingProxyType(
    {
        "cloud": _INCLUDED,
        "ground": _MAINS,
        "edge": _MAINS,
        "satellite": EnergyPrice(
            usd_per_kwh=_SUN,
            usd_per_kwh_stored=_SUN / _ROUND_TRIP + _wear(10.0 + 0.01 * 6_600.0, 0.3, 27_000.0),
            source="estimate: panels of 400 USD and 20 g a watt, in the sun for 60 % of five years; through a battery "
            "10 % lost, 10 USD and 10 g a Wh for the 27,000 orbits of these years, each 30 % deep; launch at 6,600 "
            "USD/kg (TakeMe2Space's founder in the New Indian Express)",
            date="2025-04-07",
        ),
        "satellite-rented": _INCLUDED,
    }
)


def draw_of(kind: str) -> Draw:
    """Of a kind of node; as "edge" for one that is not known, a satellite's for one that is rented."""
    return DRAWS.get(kind.removesuffix("-rented"), DRAWS["edge"])


def energy_price_of(kind: str) -> EnergyPrice:
    """Of a kind of node; as "edge" for one that is not known."""
    return ENERGY_PRICES.get(kind, ENERGY_PRICES["edge"])


def joules(watts: float, ms: float) -> float:
    """Of a draw for so long."""
    return max(watts, 0.0) * max(ms, 0.0) / 1000.0


def energy_usd(energy_j: float, usd_per_kwh: float) -> float:
    """Dollars for so many joules."""
    return energy_j * usd_per_kwh / _J_PER_KWH


def stored_usd_per_kwh(listed: EnergyPrice, usd_per_kwh: float) -> float:
    """What a kilowatt-hour out of the battery costs where one as it comes has this price, not the listed one."""
    wear = listed.usd_per_kwh_stored - listed.usd_per_kwh / _ROUND_TRIP
    return wear + usd_per_kwh / _ROUND_TRIP


def usd_per_kwh_now(price: EnergyPrice, supply: Supply) -> tuple[float, str]:
    """What a kilowatt-hour costs a node now, and where it comes from, for people.

    Without a battery and an orbit it comes as it comes. In the sun the panels give it, else the battery; either is the
    dearer the less the battery holds above its reserve, where that is known: what is drawn now will not be in it later.
    At most ten times as dear.
    """
    if supply.battery is None:
        if supply.sunlit is None:
            return price.usd_per_kwh, "no battery is known"
        return (
            (price.usd_per_kwh, "in the sun")
            if supply.sunlit
            else (price.usd_per_kwh_stored, "in an eclipse")
        )
    usable = max(1.0 - supply.reserve, 1e-6)
    above = min(max((supply.battery - supply.reserve) / usable, 1.0 / _SCARCEST), 1.0)
    holds = f"{supply.battery:.0%}"
    if supply.sunlit:
        return price.usd_per_kwh / above, f"in the sun, the battery at {holds}"
    where = "out of the battery, at" if supply.sunlit is None else "in an eclipse, the battery at"
    return price.usd_per_kwh_stored / above, f"{where} {holds}"
