"""What a configuration says of the mesh, and what is refused with the key's name."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from edgeagent.mesh.emulation import emulation_of
from edgeagent.model.errors import BadConfig
from edgeagent.node.config_schema import MeshSection
from edgeagent.node.mesh_config import check_mesh, mesh_settings

OMM = {
    "OBJECT_NAME": "ONE", "OBJECT_ID": "2020-001A", "EPOCH": "2026-11-23T00:00:00.000000", "MEAN_MOTION": 15.5,
    "ECCENTRICITY": 0.0005, "INCLINATION": 51.6, "RA_OF_ASC_NODE": 100.0, "ARG_OF_PERICENTER": 80.0,
    "MEAN_ANOMALY": 10.0, "EPHEMERIS_TYPE": 0, "CLASSIFICATION_TYPE": "U", "NORAD_CAT_ID": 50001,
    "ELEMENT_SET_NO": 1, "REV_AT_EPOCH": 1, "BSTAR": 0.0001, "MEAN_MOTION_DOT": 0.0, "MEAN_MOTION_DDOT": 0.0,
}  # fmt: skip


def _section(**given: object) -> MeshSection:
    return msgspec.convert({"listen": "127.0.0.1:0", **given}, MeshSection)


def test_a_ground_node() -> None:
    settings = mesh_settings(
        _section(position="48.2, 16.4, 171", seeds="seed.example:8481, [::1]:5", preset="orbit")
    )
    assert settings.place == (48.2, 16.4, 171.0)
    assert settings.seeds == (("seed.example", 8481), ("::1", 5))
    assert settings.allowed == ("127.0.0.0/8", "::1/128")
    assert settings.elements is None


def test_a_satellite_among_others(tmp_path: Path) -> None:
    file = tmp_path / "gp.json"
    newer = {**OMM, "EPOCH": "2026-11-23T06:00:00.000000"}
    file.write_text(json.dumps([OMM, newer, {**OMM, "OBJECT_NAME": "TWO", "NORAD_CAT_ID": 50002}]))
    for which in ("ONE", "50001"):
        elements = mesh_settings(_section(orbit=str(file), orbit_object=which)).elements
        assert elements is not None
        assert elements.name == "ONE"
        assert elements.epoch_us % 86_400_000_000 == 6 * 3_600_000_000
    for which, says in (("", "stands for 3 of the 3"), ("THREE", "stands for 0 of the 3")):
        with pytest.raises(BadConfig, match=says):
            mesh_settings(_section(orbit=str(file), orbit_object=which))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"listen": "nowhere"}, "mesh.listen"),
        ({"listen": "somehost:80"}, "mesh.listen"),
        ({"advertise": "a name"}, "mesh.advertise"),
        ({"seeds": "x"}, "mesh.seeds"),
        ({"seeds": "x:0"}, "mesh.seeds"),
        ({"position": "north pole"}, "mesh.position"),
        ({"position": "1"}, "mesh.position"),
        ({"position": "95, 0"}, "mesh.position"),
        ({"orbit": "/nowhere/at/all"}, "mesh.orbit"),
        ({"orbit": "gp.json", "position": "1, 2"}, "mesh.position and an orbit"),
        ({"orbit_command": "gps", "position": "1, 2"}, "mesh.position and an orbit"),
    ],
)
def test_refusals_name_the_key(given: dict[str, object], says: str) -> None:
    with pytest.raises(BadConfig, match=says):
        mesh_settings(_section(**given))


def test_seeds_without_listen_are_refused_by_both_names() -> None:
    seeds = _section(listen="", seeds="seed.example:8481")
    with pytest.raises(BadConfig, match=r"mesh\.seeds = 'seed.example:8481' without mesh\.listen") as refused:
        check_mesh(seeds)
    assert "mesh.listen" in refused.value.hint
    check_mesh(_section(listen=""))
    check_mesh(_section(seeds="seed.example:8481"))


def test_a_file_that_holds_no_elements(tmp_path: Path) -> None:
    file = tmp_path / "gp.json"
    file.write_text("nothing of the kind")
    with pytest.raises(BadConfig, match=r"mesh\.orbit"):
        mesh_settings(_section(orbit=str(file)))


CLOCK_S = 1_795_478_400.0  # 2026-11-24T00:00:00Z


def test_emulated_time_is_the_same_for_all_who_begin_together() -> None:
    emulation = emulation_of("60 since 2026-11-23T23:50:00Z", CLOCK_S)
    assert emulation is not None
    assert emulation.utc_s(emulation.since_s) == emulation.since_s
    assert emulation.utc_s(CLOCK_S) == CLOCK_S - 600 + 36_000
    assert emulation.loss == 0.0
    lossy = emulation_of("1 since 2026-11-23T23:50:00Z, loss 0.25", CLOCK_S)
    assert lossy is not None
    assert lossy.loss == 0.25
    assert emulation_of(" ", CLOCK_S) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("60", "no emulation"),
        ("yes", "no emulation"),
        ("60 since 2026-11-23T23:50:00Z, loss 1", "no emulation"),
        ("60 since 2026-11-23T23:50:00Z, loss", "no emulation"),
        ("-1 since 2026-11-23T23:50:00Z", "no emulation"),
        ("1e9 since 2026-11-23T23:50:00Z", "no emulation"),
        ("0 since 2026-11-23T23:50:00Z", "speed 0"),
        ("20000 since 2026-11-23T23:50:00Z", "speed 20000"),
        ("60 since 2026-13-23T23:50:00Z", "names no time"),
        ("60 since 2026-11-22T23:50:00Z", "within the last 24 hours"),
        ("60 since 2026-11-24T00:00:01Z", "within the last 24 hours"),
    ],
)
def test_emulation_ends_by_itself(text: str, says: str) -> None:
    with pytest.raises(BadConfig, match=says):
        emulation_of(text, CLOCK_S)
