"""The contact table against the topology that it is made of."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeagent.mesh.predicted import ContactTable, make_table
from edgeagent.orbit.elements import Elements
from edgeagent.orbit.nodes import GroundNode, Node, Satellite
from edgeagent.topology.protocols import IslSettings
from edgeagent.topology.topology import TopologySettings

UTC_S = 1_795_478_400.0  # 2026-11-24
STEP_S = 10.0
HORIZON_S = 6 * 3600.0


def _satellite(name: str, anomaly_deg: float) -> Satellite:
    elements = Elements(
        epoch_us=round(UTC_S * 1e6),
        mean_motion_rev_day=15.2,
        eccentricity=0.0005,
        inclination_deg=53.0,
        raan_deg=20.0,
        arg_perigee_deg=0.0,
        mean_anomaly_deg=anomaly_deg,
        norad_id=90000 + round(anomaly_deg),
        name=name,
    )
    return Satellite(name, elements)


def _nodes() -> dict[str, Node]:
    found: list[Node] = [_satellite("sat-a", 0.0), _satellite("sat-b", 180.0)]
    found += [
        GroundNode(id="vienna", latitude_deg=48.2, longitude_deg=16.4, mask_deg=10.0),
        GroundNode(id="perth", latitude_deg=-31.9, longitude_deg=115.9, mask_deg=10.0),
    ]
    return {node.id: node for node in found}


def _table(*, protocol: str = "bent_pipe", ground_network: bool = True) -> ContactTable:
    settings = TopologySettings(isl=IslSettings(protocol=protocol), step_s=STEP_S)
    table = make_table(_nodes(), settings, ground_network=ground_network)
    assert table is not None
    while not table.extend(UTC_S, HORIZON_S, steps_max=500):
        pass
    return table


def test_reachable_is_a_route_of_the_topology() -> None:
    table = _table()
    steps = [UTC_S + STEP_S * step for step in range(0, int(HORIZON_S / STEP_S), 37)]
    for a, b in (("sat-a", "vienna"), ("sat-a", "sat-b"), ("perth", "vienna"), ("sat-b", "perth")):
        for at_s in steps:
            assert table.reachable(a, b, at_s) == math.isfinite(table.topology.latency_ms(a, b, at_s))


def test_the_return_is_the_first_moment_with_a_route() -> None:
    table = _table()
    apart = next(s for s in range(int(HORIZON_S)) if not table.reachable("sat-a", "vienna", UTC_S + s))
    returns_s = table.returns_at_s("sat-a", "vienna", UTC_S + apart)
    assert returns_s is not None
    assert table.reachable("sat-a", "vienna", returns_s)
    between = np.arange(UTC_S + apart, returns_s, STEP_S)
    assert not any(table.reachable("sat-a", "vienna", float(at_s)) for at_s in between)
    assert table.returns_at_s("sat-a", "vienna", returns_s + 1.0) == returns_s + 1.0


def test_over_the_ground_or_not() -> None:
    assert _table().reachable("vienna", "perth", UTC_S)
    apart = _table(ground_network=False)
    assert not all(apart.reachable("vienna", "perth", UTC_S + s) for s in range(0, 3600, 10))


def test_strangers_and_times_beyond_the_table_are_not_judged() -> None:
    table = _table()
    assert table.reachable("stranger", "vienna", UTC_S)
    assert table.reachable("sat-a", "vienna", UTC_S - 1e6)
    assert table.reachable("sat-a", "vienna", table.end_s + STEP_S)
    assert table.returns_at_s("stranger", "sat-a", UTC_S) == UTC_S


def test_stale_elements_judge_nobody() -> None:
    settings = TopologySettings(isl=IslSettings(protocol="bent_pipe"), step_s=STEP_S)
    table = make_table(_nodes(), settings, ground_network=False)
    assert table is not None
    later_s = UTC_S + 60 * 86_400.0
    table.extend(later_s, 600.0, steps_max=1000)
    assert table.reachable("sat-a", "vienna", later_s)


def test_the_table_moves_with_time() -> None:
    table = _table()
    size = len(table._steps)
    assert table.extend(UTC_S + 3600.0, HORIZON_S, steps_max=10_000)
    assert abs(len(table._steps) - size) <= 2
    assert table.end_s == pytest.approx(UTC_S + 3600.0 + HORIZON_S, abs=2 * STEP_S)


def test_without_satellites_there_is_nothing_to_predict() -> None:
    ground = {name: node for name, node in _nodes().items() if isinstance(node, GroundNode)}
    assert make_table(ground, TopologySettings(), ground_network=False) is None


def test_contacts_last_until_the_table_says_otherwise() -> None:
    table = _table()
    for a, b in (("sat-a", "vienna"), ("sat-a", "sat-b"), ("vienna", "perth")):
        for step in range(0, int(HORIZON_S / STEP_S), 37):
            at_s = UTC_S + STEP_S * step + 3.0
            until_s = table.contact_until_s(a, b, at_s)
            looks = np.arange(math.floor(at_s / STEP_S) * STEP_S, UTC_S + HORIZON_S, STEP_S)
            apart = [look for look in looks if not table.reachable(a, b, float(look))]
            assert until_s == (max(at_s, apart[0]) if apart else math.inf)
    assert table.contact_until_s("sat-a", "stranger", UTC_S) == math.inf
    assert table.contact_until_s("sat-a", "vienna", UTC_S + 2 * HORIZON_S) == math.inf
