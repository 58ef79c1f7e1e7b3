"""Places that members tell: any payload at all is a node, nothing, or refused and counted."""

from __future__ import annotations

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from edgeagent.gossip.records import Capabilities, Load, Place, Record, Section
from edgeagent.mesh.sky import Sky, SkySettings, eclipse_in_s, sunlit
from edgeagent.mesh.views import _said
from edgeagent.orbit.elements import Elements
from edgeagent.orbit.nodes import GroundNode, Satellite


def record(payload: bytes, section: Section = Section.PLACE) -> Record:
    return Record("n", section, 1, payload, signature=b"", hops=0, blob=b"")


def sky() -> Sky:
    return Sky(SkySettings(), lambda: 0.0)


numbers = st.none() | st.floats() | st.integers(-(2**63), 2**63 - 1)
places = st.builds(
    Place,
    elements=st.binary(max_size=90),
    latitude_deg=numbers,
    longitude_deg=numbers,
    height_m=numbers,
).map(msgspec.msgpack.encode)


@given(st.binary(max_size=100) | places)
@example(b"\x94\xc4\x00\xa1\x80\xc0\xc0")
@example(b"\x94\xa1\x80\xc0\xc0\xc0")
def test_any_place_is_taken_or_refused(payload: bytes) -> None:
    one = sky()
    one.take(record(payload))
    assert one.refused + len(one.nodes) <= 1
    for node in one.nodes.values():
        assert node.positions_km([0.0]).shape == (1, 3)


@given(st.binary(max_size=60), st.sampled_from([Section.CAPABILITIES, Section.LOAD, Section.FUNCTIONS]))
@example(b"\x91\xa1\x80", Section.CAPABILITIES)
def test_any_section_is_shown_or_unknown(payload: bytes, section: Section) -> None:
    said = _said(record(payload, section))
    assert said is None or isinstance(said, msgspec.Struct)


def test_what_is_said_is_shown() -> None:
    load = Load(cpu=0.5)
    assert _said(record(msgspec.msgpack.encode(load), Section.LOAD)) == load
    told = Capabilities(architecture="x86_64")
    assert _said(record(msgspec.msgpack.encode(told), Section.CAPABILITIES)) == told
    assert _said(None) is None


def test_the_next_eclipse() -> None:
    utc_s = 1_795_478_400.0  # 2026-11-24
    elements = Elements(
        epoch_us=round(utc_s * 1e6),
        mean_motion_rev_day=15.2,
        eccentricity=0.0005,
        inclination_deg=53.0,
        raan_deg=20.0,
        arg_perigee_deg=0.0,
        mean_anomaly_deg=0.0,
        norad_id=90000,
        name="sat",
    )
    satellite = Satellite("sat", elements)
    ahead_s = eclipse_in_s(satellite, utc_s, 6000.0)  # longer than an orbit: there is one
    assert ahead_s is not None
    assert sunlit(satellite, utc_s + ahead_s) is False
    assert ahead_s == 0.0 or all(sunlit(satellite, utc_s + at) for at in range(0, int(ahead_s), 10))
    later = eclipse_in_s(satellite, utc_s + ahead_s, 6000.0)
    assert later == 0.0
    assert eclipse_in_s(satellite, utc_s, ahead_s - 20.0) is None if ahead_s > 20.0 else True
    assert eclipse_in_s(GroundNode(id="g", latitude_deg=0.0, longitude_deg=0.0), utc_s, 6000.0) is None
    assert eclipse_in_s(None, utc_s, 6000.0) is None
    stale = utc_s + 20 * 365 * 86400.0
    assert eclipse_in_s(satellite, stale, 100.0) is None
