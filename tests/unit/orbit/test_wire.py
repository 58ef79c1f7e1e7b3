"""The compact form: exact both ways, small, and nothing but a typed error for bytes that are none."""

from __future__ import annotations

import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.orbit.elements import NORAD_ID_MAX, Elements
from edgeagent.orbit.errors import WireRefused
from edgeagent.orbit.instants import EARLIEST_US, LATEST_US
from edgeagent.orbit.wire import WIRE_BYTES_MAX, decode_elements, encode_elements
from tests.unit.orbit.samples import elements, lines

ANGLE = st.one_of(st.floats(0, 360), st.integers(0, 3_600_000).map(lambda n: n / 1e4))
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=10)
ANY = st.builds(
    Elements,
    epoch_us=st.integers(EARLIEST_US, LATEST_US - 1),
    mean_motion_rev_day=st.one_of(
        st.floats(1e-6, 20, exclude_min=True), st.integers(100, 2_000_000_000).map(lambda n: n / 1e8)
    ),
    eccentricity=st.one_of(st.floats(0, 0.9999999), st.integers(0, 9_999_999).map(lambda n: n / 1e7)),
    inclination_deg=st.one_of(st.floats(0, 180), st.integers(0, 1_800_000).map(lambda n: n / 1e4)),
    raan_deg=ANGLE,
    arg_perigee_deg=ANGLE,
    mean_anomaly_deg=ANGLE,
    bstar_per_er=st.floats(-1e3, 1e3),
    mean_motion_dot_rev_day2=st.floats(-1e3, 1e3),
    mean_motion_ddot_rev_day3=st.floats(-1e6, 1e6),
    norad_id=st.one_of(st.none(), st.integers(0, NORAD_ID_MAX)),
    object_id=TEXT.map(lambda text: text.encode()[:32].decode(errors="ignore")),
    name=st.text(string.printable[:95], min_size=1, max_size=128),
    classification=st.sampled_from("UCS"),
    element_set=st.integers(0, 2**32 - 1),
    rev_at_epoch=st.integers(0, 2**32 - 1),
    ephemeris_type=st.sampled_from([0, 2, 3]),
    source=TEXT,
)


@given(ANY)
def test_every_set_comes_back_equal(one: Elements) -> None:
    data = encode_elements(one)
    assert len(data) <= WIRE_BYTES_MAX
    assert decode_elements(data) == one
    assert encode_elements(decode_elements(data)) == data


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda data: b"\x01" + data)))
def test_bytes_that_are_none_are_refused(data: bytes) -> None:
    try:
        one = decode_elements(data)
    except WireRefused:
        return
    assert isinstance(one, Elements)


@given(st.sampled_from(list(lines)), st.data())
def test_damage_is_refused_or_gives_a_set_that_can_be(name: str, data: st.DataObject) -> None:
    good = bytearray(encode_elements(elements(name)))
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] ^= data.draw(st.integers(1, 255))
    try:
        one = decode_elements(bytes(good))
    except WireRefused:
        return
    assert one != elements(name)


@pytest.mark.parametrize("name", list(lines))
def test_cut_or_longer_bytes_are_refused(name: str) -> None:
    data = encode_elements(elements(name))
    for count in range(len(data)):
        with pytest.raises(WireRefused):
            decode_elements(data[:count])
    with pytest.raises(WireRefused, match="1 bytes follow"):
        decode_elements(data + b"\0")


def test_a_catalogued_satellite_takes_about_80_bytes() -> None:
    assert [len(encode_elements(elements(name))) for name in lines] == [82, 86, 82, 84]


def test_golden_version_1() -> None:
    """What version 1 looks like must not change any more: a later version still reads it."""
    data = bytes.fromhex(
        "0137000599480680f6e05c64b3b000001cf90007e15700203a010002b21b000d114e3f045692f8847a673ef27f3391d2d0c8"
        "000063c8000003e700004f1800550349535309313939382d3036374103746c65"
    )
    assert encode_elements(elements("iss")) == data
    assert decode_elements(data) == elements("iss")


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [(0, 0, "version 0"), (0, 2, "version 2"), (1, 0xC0, "flags"), (0, 0x01, "bits")],
)
def test_what_a_later_version_might_send(at: int, value: int, match: str) -> None:
    data = bytearray(encode_elements(msgspec.structs.replace(elements("geo"), source="")))
    if match == "bits":
        at = data.index(b"\x00U")
    data[at] = value
    with pytest.raises(WireRefused, match=match):
        decode_elements(bytes(data))


def test_values_that_cannot_be_are_refused_on_the_way_in() -> None:
    data = bytearray(encode_elements(elements("iss")))
    data[2:10] = (2**62).to_bytes(8)
    with pytest.raises(WireRefused, match="epoch_us"):
        decode_elements(bytes(data))


def test_text_that_is_not_utf8() -> None:
    data = encode_elements(elements("iss")).replace(b"ISS", b"\xff\xfe\xfd")
    with pytest.raises(WireRefused, match="UTF-8"):
        decode_elements(data)
