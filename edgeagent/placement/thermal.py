"""How warm a node gets: first order, with memory, heated by what it spends and by the sun.

One body of one temperature, heated by W watts and cooled in proportion to how much warmer it is than what surrounds it
(Newton's law of cooling, lumped capacitance: Incropera et al., Fundamentals of Heat and Mass Transfer, ch. 5.1-5.3):

    T(t) = Teq + (T0 - Teq) exp(-t / tau)
    Teq  = base_c + heat_c_per_w W + sun_c s

s is the share of sunlight. In space heat leaves by radiation, which goes with T^4; around an operating point it is
linear enough for a limit of some degrees (Gilmore, Spacecraft Thermal Control Handbook, vol. I, on lumped nodes). The
approach is monotone, so the hottest moment of a constant load is at its beginning or its end.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeagent.placement.body import Body

__all__ = ["approach_c", "equilibrium_c", "hottest_c", "temperature_after_c"]

F = TypeVar("F", float, NDArray[np.float64])


def equilibrium_c(body: Body, watts: float, sunlit_share: float) -> float:
    """Where the temperature ends if nothing changes."""
    return body.base_c + body.heat_c_per_w * watts + body.sun_c * sunlit_share


def approach_c(now_c: F, end_c: F, left: F) -> F:
    """From ``now_c`` towards ``end_c``, when the share ``left`` = exp(-t / tau) of the difference is left."""
    return end_c + (now_c - end_c) * left


def temperature_after_c(body: Body, now_c: float, watts: float, sunlit_share: float, seconds: float) -> float:
    """The temperature after ``seconds`` at constant load and light."""
    left = math.exp(-max(seconds, 0.0) / body.heat_tau_s)
    return approach_c(now_c, equilibrium_c(body, watts, sunlit_share), left)


def hottest_c(body: Body, now_c: float, watts: float, sunlit_share: float, seconds: float) -> float:
    """The highest temperature within ``seconds`` at constant load and light."""
    return max(now_c, temperature_after_c(body, now_c, watts, sunlit_share, seconds))
