"""Join tokens: what opens them, and what does not."""

from __future__ import annotations

import base64
import datetime
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.mesh.authority import Authority, make_cluster
from edgeagent.mesh.errors import KeysRefused
from edgeagent.mesh.join import Grant, make_request, open_token, read_request, seal_token
from edgeagent.mesh.key_files import load_node, new_node_key, write_granted

NOW = datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC)
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
GRANT = Grant(node="n1", expires_s=1000, files={"voucher": b"v"})


def test_a_node_joins_and_its_key_stays_with_it(tmp_path: Path) -> None:
    ring = make_cluster(tmp_path / "cluster", "farm", b"s" * 32, NOW)
    key = new_node_key(tmp_path / "n1")
    request = read_request(make_request("n1", key))
    token = Authority(tmp_path / "cluster").token(request, ["192.0.2.7"], NOW, 3600)
    grant = open_token(token, key, NOW.timestamp() + 3599)
    write_granted(tmp_path / "n1", grant.files)
    keys = load_node(tmp_path / "n1", "n1")
    assert keys.ring == ring
    assert not any(key.private_bytes_raw() in data for data in grant.files.values())
    with pytest.raises(KeysRefused, match="expired"):
        open_token(token, key, NOW.timestamp() + 3601)


def test_a_token_opens_with_the_key_of_its_request_only() -> None:
    token = seal_token(read_request(make_request("n1", KEY)), GRANT)
    assert open_token(token, KEY, 0) == GRANT
    with pytest.raises(KeysRefused, match="for another key"):
        open_token(token, OTHER, 0)


def test_lines_may_be_broken_on_their_way() -> None:
    token = seal_token(read_request(make_request("n1", KEY)), GRANT)
    broken = "\n ".join(token[at : at + 40] for at in range(0, len(token), 40))
    assert open_token(broken, KEY, 0) == GRANT


def test_a_request_is_signed_by_its_own_key() -> None:
    mine, theirs = (read_request(make_request("n1", key)) for key in (KEY, OTHER))
    for forged in (
        msgspec.structs.replace(mine, node="n2"),
        msgspec.structs.replace(mine, box_key=theirs.box_key),
        msgspec.structs.replace(mine, public_key=theirs.public_key),
        msgspec.structs.replace(mine, signature=b""),
    ):
        text = "edgeagent-request-1." + base64.urlsafe_b64encode(msgspec.msgpack.encode(forged)).decode()
        with pytest.raises(KeysRefused, match="signature is wrong"):
            read_request(text)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    text = base64.urlsafe_b64encode(data).decode()
    with pytest.raises(KeysRefused):
        read_request("edgeagent-request-1." + text)
    with pytest.raises(KeysRefused):
        open_token("edgeagent-token-1." + text, KEY, 0)


@pytest.mark.parametrize(
    "text", ["", "x", "edgeagent-token-2.AAAA", "edgeagent-token-1.A", "edgeagent-token-1.ü"]
)
def test_text_that_is_none(text: str) -> None:
    with pytest.raises(KeysRefused):
        open_token(text, KEY, 0)
    with pytest.raises(KeysRefused):
        read_request(text.replace("token", "request"))
    with pytest.raises(KeysRefused):
        read_request("edgeagent-request-1." + "A" * 20_000)


def test_other_files_than_a_nodes_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(KeysRefused, match="does not hold a node"):
        write_granted(tmp_path, {"../x": b""})
    assert list(tmp_path.iterdir()) == []
