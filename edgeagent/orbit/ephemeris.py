"""Positions of some nodes on a common grid of times, and between its points by Hermite's cubics.

SGP4 runs once for each grid point; everything finer is interpolated. On the grid of 60 s the cubic is within h^4 /
384 times the fourth derivative of the position, 1 m in a low orbit. To that comes that SGP4's velocity is not quite
the derivative of its position. Measured over the SGP4 verification set: below 10 m in near-circular orbits and at
Molniya's, below 35 m for eccentricities up to 0.8; at the speeds there that is 16 ms. Grid points are whole multiples
of the step since 1970, so that plans made at different moments agree to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeagent.orbit.nodes import GroundNode, Node, Satellite
from edgeagent.orbit.propagation import Ensemble

__all__ = ["GRID_S", "Ephemeris"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

GRID_S = 60.0


class Ephemeris:
    """ECEF positions and velocities of ``nodes`` from grid point ``first`` to ``last``, both included.

    ``good`` ``(N, T)`` is False where a satellite has no position; times are seconds since grid point ``first``.
    """

    def __init__(self, nodes: Sequence[Node], ensemble: Ensemble, first: int, last: int) -> None:
        """``ensemble`` holds the element sets of those of ``nodes`` that are satellites, in their order."""
        self.start_s = first * GRID_S
        self.count = last - first + 1
        self._position = np.zeros((len(nodes), self.count, 3))
        self._velocity = np.zeros((len(nodes), self.count, 3))
        self.good = np.ones((len(nodes), self.count), dtype=np.bool_)
        flying = [row for row, node in enumerate(nodes) if isinstance(node, Satellite)]
        if flying:
            states = ensemble.propagate(self.start_s + GRID_S * np.arange(self.count)).in_ecef()
            self._position[flying] = states.position_km
            self._velocity[flying] = states.velocity_km_s
            self.good[flying] = states.good
        for row, node in enumerate(nodes):
            if isinstance(node, GroundNode):
                self._position[row] = node.position_km

    def at(self, rows: Rows, seconds: Floats) -> tuple[Floats, Floats]:
        """(positions, velocities) ``(M, 3)`` of node ``rows[m]`` at ``seconds[m]`` after the start.

        NaN next to grid points where there is no position.
        """
        left = (seconds / GRID_S).astype(np.intp)
        past = seconds - left * GRID_S  # exact, so that nothing depends on where the span begins
        # At a grid point its own values count alone: the next point may have none.
        right = np.where(past > 0.0, np.minimum(left + 1, self.count - 1), left)
        x = (past / GRID_S)[:, np.newaxis]
        p0, p1 = self._position[rows, left], self._position[rows, right]
        m0, m1 = self._velocity[rows, left] * GRID_S, self._velocity[rows, right] * GRID_S
        chord = p1 - p0
        # p0 + x (m0 + x (c2 + x c3)), and its derivative
        c3 = m0 + m1 - 2.0 * chord
        c2 = chord - m0 - c3
        position = p0 + x * (m0 + x * (c2 + x * c3))
        velocity = (m0 + x * (2.0 * c2 + x * 3.0 * c3)) / GRID_S
        return position, velocity
