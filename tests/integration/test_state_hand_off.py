"""A satellite over one station, 100 times as fast: what only it holds is at the station when it has set."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.orbit.geodetic import geodetic_of
from edgeagent.orbit.omm import from_fields
from edgeagent.orbit.propagation import Ensemble
from tests.integration.daemon import Daemon

SPEEDS = (100, 50, 25)  # the first at which daemons are up long before it sets
LATEST_S = 600.0
ZENITH_S = (
    300.0  # of orbits after the beginning; it sets some 800 s later, so that daemons have time to start
)
LARGE = bytes(range(251)) * 3000


def _orbit(folder: Path, begun: datetime.datetime) -> tuple[Path, str]:
    """Elements, and the position that it flies over soon."""
    fields: dict[str, str | float | int] = {
        "OBJECT_NAME": "ONE", "OBJECT_ID": "2020-001A", "EPOCH": begun.strftime("%Y-%m-%dT%H:%M:%S.000000"),
        "MEAN_MOTION": 11.0, "ECCENTRICITY": 0.0005, "INCLINATION": 53.0, "RA_OF_ASC_NODE": 100.0,
        "ARG_OF_PERICENTER": 80.0, "MEAN_ANOMALY": 10.0, "EPHEMERIS_TYPE": 0, "CLASSIFICATION_TYPE": "U",
        "NORAD_CAT_ID": 50001, "ELEMENT_SET_NO": 1, "REV_AT_EPOCH": 1, "BSTAR": 0.0001, "MEAN_MOTION_DOT": 0.0,
        "MEAN_MOTION_DDOT": 0.0,
    }  # fmt: skip
    file = folder / "gp.json"
    file.write_text(json.dumps([fields]))
    ensemble = Ensemble([from_fields(fields, source="test")])
    position_km, _ = ensemble.positions_ecef_km([begun.timestamp() + ZENITH_S])
    latitude, longitude, _ = geodetic_of(position_km.reshape(3))
    return file, f"{float(latitude):.4f}, {float(longitude):.4f}"


def _started(folder: Path, speed: int) -> tuple[Daemon, Daemon, bool]:
    """The station and the satellite, which keep no copies of their own accord; whether they met early enough."""
    folder.mkdir()
    begun = datetime.datetime.fromtimestamp(int(time.time()), datetime.UTC)
    file, place = _orbit(folder, begun)
    common = (
        "mesh.listen=127.0.0.1:0",
        "mesh.preset=local",
        f"mesh.emulate={speed} since {begun.strftime('%Y-%m-%dT%H:%M:%SZ')}",
        "mesh.isl=bent_pipe",
        "mesh.mask_deg=0",
        "state.replicas=0",
    )
    station = Daemon(folder / "station", *common, f"mesh.position={place}", "placement.kind=ground")
    seed = f"mesh.seeds={station.request('GET', '/v1/peers').json()['address']}"
    flying = Daemon(folder / "flying", *common, f"mesh.orbit={file}", "placement.kind=satellite", seed)
    while (time.time() - begun.timestamp()) * speed < LATEST_S:
        if all(node.metric("edgeagent_mesh_members_alive") == 1 for node in (station, flying)):
            return station, flying, True
    return station, flying, False


@pytest.fixture
def pass_over(tmp_path: Path) -> Iterator[tuple[Daemon, Daemon]]:
    for speed in SPEEDS:
        *nodes, is_early = _started(tmp_path / str(speed), speed)
        if is_early:
            break
        for node in nodes:
            node.stop()
    yield nodes[0], nodes[1]
    for node in nodes:
        node.stop()
        assert "Traceback" not in node.log_text()


def _held_at(node: Daemon) -> set[str]:
    keys = node.request("GET", "/v1/state?prefix=pass/&here=1").json()["keys"]
    return {one["key"] for one in keys}


def test_before_it_sets_a_satellite_hands_over_what_only_it_holds(
    pass_over: tuple[Daemon, Daemon],
) -> None:
    station, flying = pass_over
    for key, value in (("pass/small", b"1"), ("pass/large", LARGE)):
        assert flying.request("PUT", f"/v1/state/{key}", value).status == 200
    assert _held_at(station) == set(), "no copies are kept of what is not about to be lost from sight"
    assert flying.request("PUT", "/v1/state/pass/later", b"2").status == 200
    station.wait_metric("edgeagent_mesh_members_occluded", 1)
    assert _held_at(station) == {"pass/small", "pass/large", "pass/later"}
    assert station.request("GET", "/v1/state/pass/large").body == LARGE
    told = station.request("GET", "/v1/state:where?key=pass/small").json()
    assert [one["node"] for one in told["holders"]] == [station.ready["node"]]
    assert _held_at(flying) == {"pass/small", "pass/large", "pass/later"}, "it keeps its own"
