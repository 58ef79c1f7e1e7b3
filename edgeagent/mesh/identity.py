"""Who wrote a record: each node signs its own with Ed25519, and the cluster's authority vouches for its key.

An identity record carries the node's public key and the authority's signature over name and key (``voucher``), so that
any member checks any other without asking anybody. A record of another section counts once its writer's identity is
known. Nobody else, a member included, can write where a node is or how it is reached.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from edgeagent.gossip.records import Identity, Record, Section, Trust

__all__ = ["KEY_BYTES", "VOUCHED_KEY_BYTES", "Verifier", "holds", "voucher_text", "vouches"]

KEY_BYTES = 32
_SIGNATURE_BYTES = 64
VOUCHED_KEY_BYTES = KEY_BYTES + _SIGNATURE_BYTES
_KNOWN_MAX = 65_536
_LABEL = b"edgeagent node key 1\0"


def voucher_text(name: str, public_key: bytes) -> bytes:
    """What the authority signs."""
    return _LABEL + name.encode() + b"\0" + public_key


def vouches(authority: bytes, name: str, public_key: bytes, voucher: bytes) -> bool:
    """Whether the authority says that this is the key of ``name``."""
    return holds(authority, voucher, voucher_text(name, public_key))


def holds(public_key: bytes, signature: bytes, text: bytes) -> bool:
    """Whether that is its signature. ``public_key`` has KEY_BYTES."""
    return _holds(_public(public_key), signature, text)


class Verifier:
    """A :data:`gossip.records.Verify`: VERIFIED or REFUSED. ``authority`` is its public key, 32 bytes."""

    def __init__(self, authority: bytes) -> None:
        self._authority = _public(authority)
        self._keys: OrderedDict[str, tuple[bytes, Any]] = OrderedDict()

    def __call__(self, record: Record) -> Trust:
        key = self._key_of(record)
        if key is None or not _holds(key, record.signature, record.signed()):
            return Trust.REFUSED
        return Trust.VERIFIED

    def _key_of(self, record: Record) -> Any:
        known = self._keys.get(record.name)
        if record.section != Section.IDENTITY:
            return None if known is None else known[1]
        identity: Identity | None = record.identity
        vouched = b"" if identity is None else identity.key
        if known is not None and known[0] == vouched:
            return known[1]
        if len(vouched) != VOUCHED_KEY_BYTES:
            return None
        raw, voucher = vouched[:KEY_BYTES], vouched[KEY_BYTES:]
        if not _holds(self._authority, voucher, voucher_text(record.name, raw)):
            return None
        key = _public(raw)
        self._keys[record.name] = vouched, key
        if len(self._keys) > _KNOWN_MAX:
            self._keys.popitem(last=False)
        return key


def _public(raw: bytes) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(raw)


def _holds(key: Any, signature: bytes, text: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, text)
    except InvalidSignature:
        return False
    return True
