"""Key folders and who vouches for whom: what is made, what is accepted, and each refusal."""

from __future__ import annotations

import datetime
import json
import random
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edgeagent.gossip.commands import Publish
from edgeagent.gossip.context import Ports
from edgeagent.gossip.core import Mesh
from edgeagent.gossip.presets import preset
from edgeagent.gossip.records import Identity, Place, Record, Section, Trust, write_payload
from edgeagent.mesh.authority import issue_node, make_cluster
from edgeagent.mesh.errors import KeysRefused
from edgeagent.mesh.identity import VOUCHED_KEY_BYTES, Verifier, vouches
from edgeagent.mesh.key_files import load_node, load_ring, save_ring
from edgeagent.mesh.keyring import added

NOW = datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC)


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    make_cluster(tmp_path / "cluster", "farm", b"s" * 32, NOW)
    return tmp_path / "cluster"


def node_folder(cluster: Path, name: str = "n1", *addresses: str) -> Path:
    issue_node(cluster, cluster.parent / name, name, addresses, NOW)
    return cluster.parent / name


def own_records(mesh: Mesh, name: str) -> dict[Section, Record]:
    member = mesh.member(name)
    assert member is not None
    return {Section(section): one for section, one in enumerate(member.records) if one is not None}


def speaker(folder: Path, name: str) -> Mesh:
    """A core that signs with the folder's keys, and has said where it is."""
    keys = load_node(folder, name)
    ports = Ports(chance=random.Random(1), sign=keys.sign)
    mesh = Mesh(name, Identity(("127.0.0.1:1",), key=keys.vouched_key), preset("lan"), ports, epoch_ms=1)
    mesh.start(0.0)
    mesh.on_command(0.0, Publish(Section.PLACE, write_payload(Place(latitude_deg=1.0))))
    return mesh


def test_what_a_cluster_and_a_node_get(cluster: Path) -> None:
    folder = node_folder(cluster, "n1", "192.0.2.7", "n1.example")
    for file in (cluster / "ca.key", cluster / "cluster.json", folder / "node.key", folder / "cluster.json"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not (folder / "ca.key").exists()
    assert load_ring(folder) == load_ring(cluster)
    certificate = x509.load_pem_x509_certificate((folder / "node.crt").read_bytes())
    authority = x509.load_pem_x509_certificate((cluster / "ca.crt").read_bytes())
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["edgeagent:node:n1"]
    assert names.get_values_for_type(x509.DNSName) == ["n1.example"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]


def test_records_count_when_their_writer_signed_them_and_the_authority_vouches(cluster: Path) -> None:
    records = own_records(speaker(node_folder(cluster), "n1"), "n1")
    verify = Verifier(load_node(cluster.parent / "n1", "n1").authority)
    place = records[Section.PLACE]
    assert verify(place) is Trust.REFUSED  # nobody has said yet whose key that is
    assert verify(records[Section.IDENTITY]) is Trust.VERIFIED
    assert verify(place) is Trust.VERIFIED
    forged = Record(
        place.name,
        place.section,
        place.version + 1,
        place.payload,
        signature=place.signature,
        hops=0,
        blob=b"",
    )
    assert verify(forged) is Trust.REFUSED


def test_a_member_cannot_write_for_another(cluster: Path) -> None:
    folder = node_folder(cluster)
    node_folder(cluster, "n2")
    keys = load_node(folder, "n1")
    verify = Verifier(keys.authority)
    ports = Ports(chance=random.Random(1), sign=keys.sign)
    # n1's own good key under n2's name.
    liar = Mesh("n2", Identity(("127.0.0.1:1",), key=keys.vouched_key), preset("lan"), ports, epoch_ms=1)
    liar.start(0.0)
    assert verify(own_records(liar, "n2")[Section.IDENTITY]) is Trust.REFUSED


def test_a_stranger_who_vouches_for_itself_is_refused(cluster: Path, tmp_path: Path) -> None:
    make_cluster(tmp_path / "other", "farm", b"s" * 32, NOW)
    issue_node(tmp_path / "other", tmp_path / "x", "n1", (), NOW)
    verify = Verifier(load_node(node_folder(cluster, "n1"), "n1").authority)
    for record in own_records(speaker(tmp_path / "x", "n1"), "n1").values():
        assert verify(record) is Trust.REFUSED


def test_keys_of_no_length_are_refused(cluster: Path) -> None:
    verify = Verifier(load_node(node_folder(cluster), "n1").authority)
    short = Identity(("127.0.0.1:1",), key=b"k" * 7)
    mesh = Mesh("n1", short, preset("lan"), Ports(chance=random.Random(1)), epoch_ms=1)
    mesh.start(0.0)
    assert verify(own_records(mesh, "n1")[Section.IDENTITY]) is Trust.REFUSED


def test_keys_issued_again_replace_those_before(cluster: Path) -> None:
    first = own_records(speaker(node_folder(cluster), "n1"), "n1")
    again = cluster.parent / "again"
    issue_node(cluster, again, "n1", (), NOW)
    second = own_records(speaker(again, "n1"), "n1")
    verify = Verifier(load_node(again, "n1").authority)
    assert verify(first[Section.IDENTITY]) is Trust.VERIFIED
    assert verify(second[Section.IDENTITY]) is Trust.VERIFIED
    assert verify(second[Section.PLACE]) is Trust.VERIFIED
    assert verify(first[Section.PLACE]) is Trust.REFUSED


def test_vouchers_hold_for_one_name_and_one_key(cluster: Path) -> None:
    keys = load_node(node_folder(cluster), "n1")
    assert len(keys.vouched_key) == VOUCHED_KEY_BYTES
    key, voucher = keys.vouched_key[:32], keys.vouched_key[32:]
    assert vouches(keys.authority, "n1", key, voucher)
    assert not vouches(keys.authority, "n2", key, voucher)
    assert not vouches(keys.authority, "n1", bytes(32), voucher)
    assert not vouches(keys.authority, "n1", key, bytes(64))


def test_keys_are_never_overwritten(cluster: Path) -> None:
    folder = node_folder(cluster)
    with pytest.raises(KeysRefused, match=r"ca\.key exists"):
        make_cluster(cluster, "farm", b"s" * 32, NOW)
    with pytest.raises(KeysRefused, match=r"node\.key exists"):
        issue_node(cluster, folder, "n1", (), NOW)


@pytest.mark.parametrize("file", ["node.key", "cluster.json"])
def test_private_files_open_to_others_are_refused(cluster: Path, file: str) -> None:
    folder = node_folder(cluster)
    (folder / file).chmod(0o640)
    with pytest.raises(KeysRefused, match="open to other users") as caught:
        load_node(folder, "n1")
    assert caught.value.hint == f"chmod 600 {folder / file}"


@pytest.mark.parametrize("file", ["node.key", "voucher", "ca.crt", "cluster.json"])
@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"-----BEGIN PRIVATE KEY-----\n", b"00" * 64])
def test_damaged_files_are_named(cluster: Path, file: str, content: bytes | None) -> None:
    folder = node_folder(cluster)
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(KeysRefused) as caught:
        load_node(folder, "n1")
    assert caught.value.hint
    assert str(folder) in caught.value.message


def test_keys_of_another_kind_are_refused(cluster: Path) -> None:
    folder = node_folder(cluster)
    key = rsa.generate_private_key(65537, 2048)
    (folder / "node.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(KeysRefused, match="no Ed25519 key"):
        load_node(folder, "n1")


def test_certificates_of_another_kind_are_refused(cluster: Path) -> None:
    folder = node_folder(cluster)
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + datetime.timedelta(days=1))
        .sign(key, SHA256())
    )
    (folder / "ca.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    with pytest.raises(KeysRefused, match="not of edgeagent keys"):
        load_node(folder, "n1")


def test_keys_of_another_node_are_refused(cluster: Path) -> None:
    folder = node_folder(cluster)
    with pytest.raises(KeysRefused, match="not those of node n2") as caught:
        load_node(folder, "n2")
    assert "--node n2" in caught.value.hint


@pytest.mark.parametrize("address", ["", "a b", "x/y", "ü"])
def test_addresses_that_are_none(cluster: Path, address: str) -> None:
    with pytest.raises(KeysRefused, match="neither an IP address nor a host name"):
        node_folder(cluster, "n1", address)


def test_folders_that_cannot_be(cluster: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(KeysRefused, match=r"File exists|Not a directory"):
        make_cluster(tmp_path / "file" / "x", "farm", b"s" * 32, NOW)
    with pytest.raises(KeysRefused, match="No such file"):
        save_ring(tmp_path / "nowhere", added(load_ring(cluster), b"t" * 32))


@pytest.mark.parametrize("label", ["", "x" * 65])
def test_labels_that_cannot_be(tmp_path: Path, label: str) -> None:
    with pytest.raises(KeysRefused):
        make_cluster(tmp_path / "new", label, b"s" * 32, NOW)


def test_the_ring_is_replaced_whole(cluster: Path) -> None:
    ring = added(load_ring(cluster), b"t" * 32)
    save_ring(cluster, ring)
    assert load_ring(cluster) == ring
    assert [file.name for file in cluster.iterdir() if file.name.startswith(".")] == []
    assert json.loads((cluster / "cluster.json").read_bytes())["label"] == "farm"
