"""How full a node's battery is: watt-hours in from the sun, watt-hours out for work.

The energy balance of a spacecraft's power system (Wertz, Everett & Puschell, Space Mission Engineering: The New SMAD,
ch. 21.2): solar power only in sunlight, the load always; what does not fit is shed. Charging is taken as free of loss
and the capacity as constant; ``battery_wh`` is what can be used of it, and ``solar_w`` what arrives at the battery.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeagent.placement.body import Body

__all__ = ["charge_after", "lowest_charge", "net_w"]

_S_PER_H = 3600.0


def net_w(body: Body, busy_share: float, sunlit_share: float) -> float:
    """What the battery gains, in watts; negative where it is drained."""
    load = body.idle_w + (body.busy_w - body.idle_w) * busy_share
    return body.solar_w * sunlit_share - load


def _charges(
    body: Body, share: float, busy_share: float, sunlit: Sequence[tuple[float, float]]
) -> list[float]:
    """The share at the beginning and at the end of each stretch."""
    charges = [share]
    for seconds, light in sunlit:
        gained = net_w(body, busy_share, light) * seconds / _S_PER_H
        charges.append(min(max(charges[-1] + gained / (body.battery_wh or 1.0), 0.0), 1.0))
    return charges


def charge_after(body: Body, share: float, busy_share: float, sunlit: Sequence[tuple[float, float]]) -> float:
    """The share of the battery that is left (0 to 1) after stretches of (seconds, share of sunlight).

    ``busy_share`` is how busy the node is throughout. Without a battery ``share`` stays.
    """
    return share if body.battery_wh is None else _charges(body, share, busy_share, sunlit)[-1]


def lowest_charge(
    body: Body, share: float, busy_share: float, sunlit: Sequence[tuple[float, float]]
) -> float:
    """The lowest share at the ends of the stretches, its beginning included.

    Within a stretch the light is even, so that the charge only rises or only falls: nothing lower lies between.
    """
    return share if body.battery_wh is None else min(_charges(body, share, busy_share, sunlit))
