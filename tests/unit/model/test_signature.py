"""Signatures of functions: what was signed holds, and nothing that differs by a digit does."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.model.errors import BadConfig, Refused
from edgeagent.model.function import FunctionSection, Limits, Manifest, Slo
from edgeagent.model.signature import (
    SIGNATURE_BYTES_MAX,
    SIGNERS_MAX,
    admit_signature,
    canonical_manifest,
    differences,
    public_keys,
    read_signature,
    sign_function,
)
from edgeagent.runtime.manifest import parse_manifest

OLGA, OTTO = (Ed25519PrivateKey.from_private_bytes(one * 32) for one in (b"1", b"2"))
OLGAS = OLGA.public_key().public_bytes_raw()
SHA = hashlib.sha256(b"module").hexdigest()
MANIFEST = Manifest(function=FunctionSection(name="f", env={"B": "1", "A": "2"}), limits=Limits(wall_ms=5))
SIGNED = sign_function(SHA, MANIFEST, OLGA)


def test_a_signature_is_of_its_module_manifest_and_key() -> None:
    assert differences(read_signature(SIGNED), SHA, MANIFEST) == []
    assert admit_signature(SIGNED, SHA, MANIFEST, {OLGAS}, unknown_ok=False) == OLGAS.hex()
    assert admit_signature(SIGNED, SHA, MANIFEST, (), unknown_ok=True) == OLGAS.hex()
    with pytest.raises(Refused, match="does not trust") as caught:
        admit_signature(SIGNED, SHA, MANIFEST, {OTTO.public_key().public_bytes_raw()}, unknown_ok=False)
    assert caught.value.details == {"key": OLGAS.hex()}


def test_the_order_and_the_kind_of_numbers_do_not_matter() -> None:
    written = parse_manifest(
        '[slo]\nlatency_ms_p95 = 5\n[function]\nenv = {A = "2", B = "1"}\nname = "f"\n[limits]\nwall_ms = 5'
    )
    made = msgspec.structs.replace(
        MANIFEST, slo=Slo(latency_ms_p95=5), function=FunctionSection(name="f", env={"A": "2", "B": "1"})
    )
    assert canonical_manifest(written) == canonical_manifest(made)
    again = msgspec.json.decode(canonical_manifest(MANIFEST), type=Manifest)
    assert canonical_manifest(again) == canonical_manifest(MANIFEST)


def test_another_module_and_another_manifest_are_named() -> None:
    other = msgspec.structs.replace(MANIFEST, function=FunctionSection(name="g"))
    with pytest.raises(Refused, match=r"is of the module .*; it is of the manifest"):
        admit_signature(SIGNED, "ab" * 32, other, {OLGAS}, unknown_ok=True)


@given(field=st.sampled_from(["sha256", "manifest_sha256", "key", "signature"]), data=st.data())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_no_digit_can_be_another(field: str, data: st.DataObject) -> None:
    text: str = msgspec.json.decode(SIGNED)[field]
    at = data.draw(st.integers(0, len(text) - 1))
    digit = data.draw(st.sampled_from([one for one in "0123456789abcdef" if one != text[at]]))
    changed = {**msgspec.json.decode(SIGNED), field: text[:at] + digit + text[at + 1 :]}
    read = read_signature(msgspec.json.encode(changed))
    # As of what it says that it is of, too: then only the signature itself is wrong.
    assert any("did not sign" in one for one in differences(read, read.sha256, MANIFEST))
    with pytest.raises(Refused):
        admit_signature(msgspec.json.encode(changed), SHA, MANIFEST, {OLGAS}, unknown_ok=True)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        read_signature(data)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "of version 2"),
        ({"key": "ab"}, "key is not 64"),
        ({"signature": "G" * 128}, "signature is not 128"),
        ({"sha256": SHA.upper()}, "sha256 is not 64"),
        ({"more": 1}, "unknown field"),
    ],
)
def test_the_form_is_checked(change: dict[str, object], said: str) -> None:
    with pytest.raises(Refused, match=said):
        read_signature(msgspec.json.encode({**msgspec.json.decode(SIGNED), **change}))
    with pytest.raises(Refused, match="over"):
        read_signature(SIGNED + b" " * SIGNATURE_BYTES_MAX)


def test_lists_of_keys() -> None:
    assert public_keys("", "k") == frozenset()
    assert public_keys(f" {OLGAS.hex().upper()}, {'ab' * 32}", "k") == {OLGAS, b"\xab" * 32}
    for bad in ("ab", "x" * 64, ",".join(["ab" * 32] * (SIGNERS_MAX + 1))):
        with pytest.raises(BadConfig, match=r"k = .* public keys"):
            public_keys(bad, "k")
