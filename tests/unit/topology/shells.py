"""Satellites and stations that the tests of this room share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeagent.orbit.importer import read_elements
from edgeagent.orbit.kepler import kepler_elements
from edgeagent.orbit.propagation import Ensemble
from edgeagent.orbit.sidereal import julian
from edgeagent.topology.edges import Edges

__all__ = ["EPOCH_S", "clouds", "orbit", "raw_positions", "same", "shared_data", "shell", "starlink"]

Floats = NDArray[np.float64]

EPOCH_S = 1_729_497_600.0  # 2024-10-21T08:00Z
orbit = kepler_elements


def shared_data(name: str) -> bytes:
    """A file of the development data beside the repository; the test is skipped where it is absent."""
    path = Path(__file__).parents[4] / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"no development data {name}")
    return path.read_bytes()


def starlink(name: str, utc_s: float) -> Floats:
    """TEME positions of a real set; NaN where the radius guard says no."""
    return Ensemble(read_elements(shared_data(name), source=name)).positions_teme_km(utc_s)[0][:, 0]


def raw_positions(name: str, utc_s: float) -> Floats:
    """The same without the guard: NaN only where SGP4 gives an error."""
    ensemble = Ensemble(read_elements(shared_data(name), source=name), policy=None)
    error, position, _ = ensemble._records.sgp4(*julian(np.array([utc_s])))
    return np.where((error == 0)[..., np.newaxis], position, np.nan)[:, 0]


def shell(
    planes: int, slots: int, phasing: int = 0, *, altitude_km: float = 550.0, tilt_deg: float = 53.0
) -> Floats:
    """A Walker delta on circles, numbered plane by plane."""
    plane, slot = np.divmod(np.arange(planes * slots), slots)
    u = 2 * np.pi * (slot / slots + phasing * plane / (planes * slots))
    node, tilt = 2 * np.pi * plane / planes, np.radians(tilt_deg)
    x, y, z = np.cos(u), np.sin(u) * np.cos(tilt), np.sin(u) * np.sin(tilt)
    around = np.stack([np.cos(node) * x - np.sin(node) * y, np.sin(node) * x + np.cos(node) * y, z], axis=1)
    return np.asarray((6378.137 + altitude_km) * around)


def same(one: Edges, other: Edges) -> bool:
    """Equal to the bit."""
    pairs = ((one.a, other.a), (one.b, other.b), (one.length_km, other.length_km))
    return all(left.dtype == right.dtype and np.array_equal(left, right) for left, right in pairs)


@st.composite
def clouds(draw: st.DrawFn) -> Floats:
    """Positions of 0 to 40 satellites: random shells, lattices full of ties, duplicates, absent and fallen ones."""
    count = draw(st.integers(0, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        places = random.normal(size=(count, 3))
        places *= random.uniform(6400, 8500, (count, 1)) / np.linalg.norm(places, axis=1, keepdims=True)
    else:
        places = random.integers(-3, 4, (count, 3)) * 1000.0 + [7000.0, 0.0, 0.0]
    if count:
        places[random.random(count) < draw(st.sampled_from([0.0, 0.2]))] = draw(
            st.sampled_from([np.nan, np.inf, 1e9])
        )
        doubles = random.random(count) < draw(st.sampled_from([0.0, 0.3]))
        places[doubles] = places[random.integers(0, count, int(doubles.sum()))]
    return np.asarray(places)
