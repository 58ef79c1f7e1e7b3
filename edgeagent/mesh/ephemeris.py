"""Orbital elements that an operator on the ground found for a node, as signed records.

Radar sees a satellite better than the satellite sees itself, and one that manoeuvred may not know its new orbit. An
ephemeris names a node, carries an element set and is signed by an operator; every node takes it only from the operators
that its own configuration names (``mesh.operators``), whoever brings it and whatever other keys there are. The version
comes from the elements' epoch: newer ones replace older ones everywhere.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from edgeagent.gossip.codec import encode_record
from edgeagent.gossip.records import (
    Place,
    Record,
    Section,
    Trust,
    Verify,
    first_version,
    signed_bytes,
    write_payload,
)
from edgeagent.mesh.errors import KeysRefused
from edgeagent.mesh.identity import KEY_BYTES, holds
from edgeagent.orbit.elements import Elements
from edgeagent.orbit.wire import encode_elements

__all__ = ["OPERATORS_MAX", "operator_keys", "sign_ephemeris", "with_operators"]

OPERATORS_MAX = 16


def operator_keys(text: str) -> frozenset[bytes]:
    """The public keys of a list in hexadecimal, by commas. Raises KeysRefused."""
    words = text.replace(",", " ").split()
    try:
        keys = frozenset(bytes.fromhex(word) for word in words)
    except ValueError:
        keys = frozenset((b"",))
    if len(keys) > OPERATORS_MAX or any(len(key) != KEY_BYTES for key in keys):
        raise KeysRefused(
            f"mesh.operators = {text!r:.100} are not at most {OPERATORS_MAX} public keys",
            hint="64 hexadecimal digits each, by commas; edgeagent keys issue --operator prints them",
        )
    return keys


def sign_ephemeris(node: str, elements: Elements, key: Any) -> bytes:
    """The record; ``key`` is the operator's Ed25519 private key. Raises RecordRefused for an epoch before 1970."""
    version = first_version(elements.epoch_us // 1000)
    payload = write_payload(Place(elements=encode_elements(elements)))
    section = int(Section.EPHEMERIS)
    signature = key.public_key().public_bytes_raw() + key.sign(signed_bytes(node, section, version, payload))
    return encode_record(node, section, version, payload, signature=signature).blob


def with_operators(verify: Verify, operators: Collection[bytes]) -> Verify:
    """``verify``, and for ephemerides the operators' signatures instead."""

    def checked(record: Record) -> Trust:
        if record.section != Section.EPHEMERIS:
            return verify(record)
        key, signature = record.signature[:KEY_BYTES], record.signature[KEY_BYTES:]
        good = key in operators and holds(key, signature, record.signed())
        return Trust.VERIFIED if good else Trust.REFUSED

    return checked
