"""Elements that operators sign for members: who is believed, which are newer, and how they spread."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeagent.gossip.codec import Kind, decode_item, encode_record
from edgeagent.gossip.commands import Adopt, Publish
from edgeagent.gossip.effects import NameTaken, Notify, RecordChanged
from edgeagent.gossip.errors import RecordRefused
from edgeagent.gossip.records import Place, Record, Section, Trust, first_version, write_payload
from edgeagent.mesh.ephemeris import operator_keys, sign_ephemeris, with_operators
from edgeagent.mesh.errors import KeysRefused
from edgeagent.mesh.sky import Sky, SkySettings
from edgeagent.orbit.elements import Elements
from edgeagent.orbit.nodes import GroundNode, Satellite
from edgeagent.orbit.wire import encode_elements
from tests.unit.gossip.parts import driver, identity, packet, sent

OLGA, OTTO = (Ed25519PrivateKey.from_private_bytes(one * 32) for one in (b"1", b"2"))
OPERATORS = operator_keys(OLGA.public_key().public_bytes_raw().hex())
EPOCH_S = 1_795_478_400


def elements(epoch_s: int = EPOCH_S) -> Elements:
    return Elements(
        epoch_us=epoch_s * 10**6, mean_motion_rev_day=15.2, eccentricity=0.0005, inclination_deg=53.0,
        raan_deg=20.0, arg_perigee_deg=0.0, mean_anomaly_deg=1.0, norad_id=50001,
    )  # fmt: skip


def trusting(_: Record) -> Trust:
    return Trust.UNVERIFIED


def read(blob: bytes) -> Record:
    record = decode_item(blob)
    assert isinstance(record, Record)
    return record


VERIFY = with_operators(trusting, OPERATORS)


def test_only_configured_operators_are_believed() -> None:
    good = read(sign_ephemeris("sat", elements(), OLGA))
    assert VERIFY(good) is Trust.VERIFIED
    assert VERIFY(read(sign_ephemeris("sat", elements(), OTTO))) is Trust.REFUSED
    assert with_operators(trusting, frozenset())(good) is Trust.REFUSED
    for changed in ({"name": "sas"}, {"version": good.version + 1}, {"signature": good.signature[:32]}):
        values: dict[str, Any] = {
            "name": good.name,
            "version": good.version,
            "signature": good.signature,
            **changed,
        }
        forged = encode_record(
            values["name"], good.section, values["version"], good.payload, signature=values["signature"]
        )
        assert VERIFY(forged) is Trust.REFUSED


def test_other_records_are_checked_as_before() -> None:
    assert VERIFY(identity("sat")) is Trust.UNVERIFIED


@pytest.mark.parametrize("text", ["x", "00", "00" * 31, ", ".join(f"{one:064x}" for one in range(17))])
def test_keys_that_are_none(text: str) -> None:
    with pytest.raises(KeysRefused, match="public keys"):
        operator_keys(text)


def test_lists_of_keys() -> None:
    assert operator_keys("") == frozenset()
    assert operator_keys("00" * 32 + ", " + "11" * 32) == {bytes(32), b"\x11" * 32}


def test_newer_elements_spread_and_older_ones_do_not() -> None:
    one = driver("me", verify=with_operators(lambda _: Trust.VERIFIED, OPERATORS))
    for name in ("a", "sat"):
        one.receive(f"{name}:1", packet(Kind.GOSSIP, name, 0, "", identity(name).blob))
    old, new = (sign_ephemeris("sat", elements(EPOCH_S + later), OLGA) for later in (0, 3600))
    effects = one.take(one.mesh.on_command(one.now_s, Adopt(new)))
    notices = [one.notice for one in effects if isinstance(one, Notify)]
    changed = [one.record.section for one in notices if isinstance(one, RecordChanged)]
    assert changed == [Section.EPHEMERIS]
    assert any(new in one_packet.items for _, one_packet in sent(one.run(1.0)))
    with pytest.raises(RecordRefused, match="as new already"):
        one.mesh.on_command(one.now_s, Adopt(old))
    member = one.mesh.member("sat")
    assert member is not None
    assert member.version_of(Section.EPHEMERIS) == first_version((EPOCH_S + 3600) * 1000)


def test_what_is_not_adopted() -> None:
    one = driver("me", verify=with_operators(lambda _: Trust.VERIFIED, OPERATORS))
    one.receive("sat:1", packet(Kind.GOSSIP, "sat", 0, "", identity("sat").blob))
    for blob, says in (
        (b"", "refused"),
        (identity("sat", 9).blob, "not an ephemeris"),
        (sign_ephemeris("unknown", elements(), OLGA), "no member"),
        (sign_ephemeris("sat", elements(), OTTO), "not signed by an operator"),
    ):
        with pytest.raises(RecordRefused, match=says):
            one.mesh.on_command(one.now_s, Adopt(blob))
    with pytest.raises(RecordRefused, match="an operator's"):
        one.mesh.on_command(one.now_s, Publish(Section.EPHEMERIS, write_payload(Place())))


def test_one_about_ourselves_is_taken_and_is_no_second_life() -> None:
    one = driver("me", verify=with_operators(lambda _: Trust.VERIFIED, OPERATORS))
    one.receive("a:1", packet(Kind.GOSSIP, "a", 0, "", identity("a").blob))
    before = one.mesh.incarnation
    effects = []
    for hour in range(6):
        blob = sign_ephemeris("me", elements(EPOCH_S + 3600 * hour), OLGA)
        effects += one.receive("a:1", packet(Kind.GOSSIP, "a", 0, "", blob))
    assert one.mesh.incarnation == before
    assert not any(isinstance(e, Notify) and isinstance(e.notice, NameTaken) for e in effects)
    me = one.mesh.member("me")
    assert me is not None
    assert me.version_of(Section.EPHEMERIS) == first_version((EPOCH_S + 5 * 3600) * 1000)


def place(**said: object) -> Record:
    return encode_record("sat", Section.PLACE, 1, msgspec.msgpack.encode(Place(**said)), signature=b"")  # type: ignore[arg-type]


def test_the_newest_elements_say_where_a_member_is() -> None:
    sky = Sky(SkySettings(), lambda: None)
    sky.take(place(elements=encode_elements(elements(EPOCH_S))))
    for hour, expected in ((-1, 0), (2, 2)):
        sky.take(read(sign_ephemeris("sat", elements(EPOCH_S + 3600 * hour), OLGA)))
        node = sky.nodes["sat"]
        assert isinstance(node, Satellite)
        assert node.elements.epoch_us == (EPOCH_S + 3600 * expected) * 10**6
    sky.take(place(elements=encode_elements(elements(EPOCH_S + 7200 + 1))))
    node = sky.nodes["sat"]
    assert isinstance(node, Satellite)
    assert node.elements.epoch_us == (EPOCH_S + 7201) * 10**6
    sky.take(place(latitude_deg=1.0, longitude_deg=2.0))
    assert isinstance(sky.nodes["sat"], GroundNode)
    sky.take(place())
    assert isinstance(sky.nodes["sat"], Satellite)
    sky.forget("sat")
    assert sky.nodes == {}
