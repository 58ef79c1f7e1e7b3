"""Measurements that contradict elements: what cannot be, how often, and what is then no longer predicted."""

from __future__ import annotations

import pytest

from edgeagent.gossip.codec import encode_record
from edgeagent.gossip.records import Place, Record, Section, write_payload
from edgeagent.mesh.measured import CONTRADICTIONS, Contradictions, is_impossible
from edgeagent.mesh.sky import Sky, SkySettings
from edgeagent.orbit.elements import Elements
from edgeagent.orbit.wire import encode_elements

EPOCH_S = 1_795_478_400


@pytest.mark.parametrize(
    ("round_trip_ms", "distance_km", "impossible"),
    [
        (1.0, 2000.0, True),
        (13.4, 2000.0, False),
        (12.6, 2000.0, False),
        (11.0, 2000.0, True),
        (0.1, 0.0, False),
    ],
)
def test_light_is_not_outrun(round_trip_ms: float, distance_km: float, impossible: bool) -> None:
    assert is_impossible(round_trip_ms / 1000, distance_km) is impossible


def test_a_distance_that_is_not_known_contradicts_nothing() -> None:
    assert not is_impossible(0.0, float("nan"))


def test_a_few_without_one_that_agrees_are_enough() -> None:
    counts = Contradictions()
    said = [counts.contradicted("a") for _ in range(2 * CONTRADICTIONS)]
    assert said == ([False] * (CONTRADICTIONS - 1) + [True]) * 2
    for _ in range(CONTRADICTIONS * 3):
        assert not counts.contradicted("b")
        counts.agrees("b")
    assert not counts.contradicted("a")


def place(epoch_s: int, version: int = 1) -> Record:
    elements = Elements(
        epoch_us=epoch_s * 10**6, mean_motion_rev_day=15.2, eccentricity=0.0005, inclination_deg=53.0,
        raan_deg=20.0, arg_perigee_deg=0.0, mean_anomaly_deg=1.0, norad_id=50001,
    )  # fmt: skip
    payload = write_payload(Place(elements=encode_elements(elements)))
    return encode_record("sat", Section.PLACE, version, payload, signature=b"")


def ground(name: str) -> Record:
    payload = write_payload(Place(latitude_deg=48.0, longitude_deg=16.0, height_m=0.0))
    return encode_record(name, Section.PLACE, 1, payload, signature=b"")


def test_nothing_is_predicted_of_a_distrusted_satellite_until_there_are_newer_elements() -> None:
    sky = Sky(SkySettings(), lambda: None)
    sky.take(place(EPOCH_S))
    assert sky.distrust("sat")
    assert sky.is_distrusted("sat")
    assert "sat" not in sky.nodes
    assert not sky.distrust("sat")
    sky.take(place(EPOCH_S, 2))
    assert "sat" not in sky.nodes
    sky.take(place(EPOCH_S + 60, 3))
    assert "sat" in sky.nodes
    assert not sky.is_distrusted("sat")


def test_ground_nodes_are_not_distrusted() -> None:
    sky = Sky(SkySettings(), lambda: None)
    sky.take(ground("g"))
    assert not sky.distrust("g")
    assert not sky.distrust("nobody")
    assert "g" in sky.nodes


def test_distances() -> None:
    sky = Sky(SkySettings(), lambda: None)
    for record in (ground("g"), ground("h"), place(EPOCH_S)):
        sky.take(record)
    distance_km = sky.distance_km("g", "sat", EPOCH_S)
    assert distance_km is not None
    assert 400 < distance_km < 14_000
    assert sky.distance_km("g", "h", EPOCH_S) is None
    assert sky.distance_km("g", "nobody", EPOCH_S) is None
    assert sky.distance_km("g", "sat", EPOCH_S + 90 * 86_400) is None  # too old for a position
