"""Who vouches for a function: an Ed25519 signature over its module and its manifest, as a small JSON document.

    {"version": 1, "sha256": ..., "manifest_sha256": ..., "key": ..., "signature": ...}

All but the version are hexadecimal. What is signed is ``edgeagent function``, NUL, the version as four bytes
(big-endian) and both digests. The manifest's digest is that of its canonical form, name included, so that a signed
module cannot be brought under another name or with wider limits. The document holds the signer's public key, which says
nothing: whoever checks decides whose keys count (``placement.signers``, ``mesh.operators``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from typing import Any

import msgspec

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import BadConfig, Refused
from edgeagent.model.function import Manifest

__all__ = [
    "SIGNATURE_BYTES_MAX",
    "SIGNERS_MAX",
    "Signature",
    "admit_signature",
    "canonical_manifest",
    "differences",
    "public_keys",
    "read_signature",
    "sign_function",
]

SIGNATURE_BYTES_MAX = 4096
SIGNERS_MAX = 16
_VERSION = 1
_LABEL = b"edgeagent function\0"
_KEY_BYTES, _SIGNED_BYTES, _DIGEST_BYTES = 32, 64, 32
_HEX = re.compile(r"[0-9a-f]*")
_HINT = "edgeagent sign makes one, edgeagent verify says what differs"


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The document; see the module."""

    version: int
    sha256: str
    manifest_sha256: str
    key: str
    signature: str


def canonical_manifest(manifest: Manifest) -> bytes:
    """The one JSON that all equal manifests have, however they were written."""
    once = msgspec.json.encode(manifest)
    # Once around: a whole number where a fraction may stand (slo) is 5 or 5.0 by who made it, and 5.0 to who read it.
    return msgspec.json.encode(msgspec.json.decode(once, type=Manifest), order="sorted")


def sign_function(sha256: str, manifest: Manifest, key: Any) -> bytes:
    """The document; ``sha256`` is the module's, in hexadecimal, ``key`` an Ed25519 private key."""
    manifest_sha256 = hashlib.sha256(canonical_manifest(manifest)).hexdigest()
    made = Signature(
        version=_VERSION,
        sha256=sha256,
        manifest_sha256=manifest_sha256,
        key=key.public_key().public_bytes_raw().hex(),
        signature=key.sign(_message(sha256, manifest_sha256)).hex(),
    )
    return msgspec.json.encode(made)


def read_signature(document: bytes) -> Signature:
    """Only its form is checked. Raises Refused."""
    if len(document) > SIGNATURE_BYTES_MAX:
        raise Refused(f"the signature has {len(document)} bytes, over {SIGNATURE_BYTES_MAX}", hint=_HINT)
    try:
        read = msgspec.json.decode(document, type=Signature)
    except UNDECODABLE as error:
        raise Refused(f"the signature cannot be read: {error}"[:300], hint=_HINT) from None
    if read.version != _VERSION:
        raise Refused(
            f"the signature is of version {read.version}, not {_VERSION}",
            hint="it was made by another version of edgeagent",
        )
    for name, size in (
        ("sha256", _DIGEST_BYTES),
        ("manifest_sha256", _DIGEST_BYTES),
        ("key", _KEY_BYTES),
        ("signature", _SIGNED_BYTES),
    ):
        text = getattr(read, name)
        if len(text) != 2 * size or not _HEX.fullmatch(text):
            raise Refused(f"the signature's {name} is not {2 * size} hexadecimal digits", hint=_HINT)
    return read


def differences(signature: Signature, sha256: str, manifest: Manifest) -> list[str]:
    """Why this signature is not of this module with this manifest; empty: it is."""
    found = []
    if signature.sha256 != sha256:
        found.append(f"it is of the module {signature.sha256[:12]}, this one is {sha256[:12]}")
    here = hashlib.sha256(canonical_manifest(manifest)).hexdigest()
    if signature.manifest_sha256 != here:
        found.append(
            f"it is of the manifest {signature.manifest_sha256[:12]}, this one"
            f" (of {manifest.function.name}) is {here[:12]}"
        )
    if not _holds(signature):
        found.append(f"the key {signature.key[:12]} did not sign it")
    return found


def admit_signature(
    document: bytes, sha256: str, manifest: Manifest, trusted: Collection[bytes], *, unknown_ok: bool
) -> str:
    """The public key (hexadecimal) of a signature that fits and is of a trusted key, or, with ``unknown_ok``, of any.

    Raises Refused, which says what is wrong.
    """
    signature = read_signature(document)
    name = manifest.function.name
    if wrong := differences(signature, sha256, manifest):
        raise Refused(f"the signature is not of this {name}: {'; '.join(wrong)}", hint=_HINT)
    if bytes.fromhex(signature.key) not in trusted and not unknown_ok:
        raise Refused(
            f"{name} is signed by {signature.key}, which this node does not trust",
            hint="placement.signers of the node's configuration names the keys that it trusts",
            key=signature.key,
        )
    return signature.key


def public_keys(text: str, key: str) -> frozenset[bytes]:
    """Of a list in hexadecimal, by commas. ``key`` names it in BadConfig, which this raises."""
    words = text.replace(",", " ").split()
    good = all(len(word) == 2 * _KEY_BYTES and _HEX.fullmatch(word.lower()) for word in words)
    if not good or len(words) > SIGNERS_MAX:
        raise BadConfig(
            f"{key} = {text!r:.100} are not at most {SIGNERS_MAX} public keys",
            hint="64 hexadecimal digits each, by commas; edgeagent keys issue --operator prints them",
        )
    return frozenset(bytes.fromhex(word) for word in words)


def _message(sha256: str, manifest_sha256: str) -> bytes:
    return _LABEL + _VERSION.to_bytes(4, "big") + bytes.fromhex(sha256) + bytes.fromhex(manifest_sha256)


def _holds(signature: Signature) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature.key))
    try:
        key.verify(bytes.fromhex(signature.signature), _message(signature.sha256, signature.manifest_sha256))
    except InvalidSignature:
        return False
    return True
