"""Places that members tell: any payload at all is a node, nothing, or refused and counted."""

from __future__ import annotations

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from edgeagent.gossip.records import Capabilities, Load, Place, Record, Section
from edgeagent.mesh.sky import Sky, SkySettings
from edgeagent.mesh.views import _said


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
