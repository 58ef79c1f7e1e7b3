"""Join tokens: a node gets its keys over any channel, and its private key never leaves it.

1. The node makes its key and a *request*: its id, both public keys, signed with its own key. Public.
2. Whoever has the cluster's folder answers with a *token*: certificate, voucher and the shared secrets, encrypted for
   that key (ephemeral X25519, HKDF-SHA256, AES-256-GCM). Nobody else can open it, so it may be mailed.
3. The node opens it and has its folder.

Both are one line of base64. A token that is older than its expiry is refused; it would hold secrets that were rotated.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, TypeVar

import msgspec

from edgeagent.mesh.errors import KeysRefused
from edgeagent.mesh.identity import KEY_BYTES
from edgeagent.model.decoding import UNDECODABLE

__all__ = ["Grant", "Request", "make_request", "open_token", "read_request", "seal_token"]

_REQUEST, _TOKEN = "edgeagent-request-1.", "edgeagent-token-1."
_LABEL = b"edgeagent join 1\0"
_TEXT_MAX = 16 << 10
_Key = Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]


class Request(msgspec.Struct, frozen=True, array_like=True):
    """``public_key`` is Ed25519's, ``box_key`` X25519's."""

    node: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
    public_key: _Key
    box_key: _Key
    signature: bytes = b""

    def signed(self) -> bytes:
        return _LABEL + msgspec.msgpack.encode((self.node, self.public_key, self.box_key))


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a token gives: files of the node's folder. ``expires_s`` is UTC seconds since 1970."""

    node: str
    expires_s: int
    files: dict[str, bytes]


_Kind = TypeVar("_Kind", Request, Grant)


def make_request(node: str, key: Any) -> str:
    """``key`` is the node's Ed25519 private key."""
    box = _box_of(key).public_key().public_bytes_raw()
    request = Request(node, key.public_key().public_bytes_raw(), box)
    signed = msgspec.structs.replace(request, signature=key.sign(request.signed()))
    return _text(_REQUEST, msgspec.msgpack.encode(signed))


def read_request(text: str) -> Request:
    """Raises KeysRefused for what is none, or is not signed by its own key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    request = _decoded(_bytes(_REQUEST, text, "request"), Request)
    try:
        Ed25519PublicKey.from_public_bytes(request.public_key).verify(request.signature, request.signed())
    except InvalidSignature:
        raise KeysRefused("the request is damaged: its signature is wrong", hint="copy it again") from None
    return request


def seal_token(request: Request, grant: Grant) -> str:
    """For who made the request, and nobody else."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    ephemeral = X25519PrivateKey.generate()
    public = ephemeral.public_key().public_bytes_raw()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(request.box_key))
    sealed = _cipher(shared, public + request.box_key).encrypt(
        bytes(12), msgspec.msgpack.encode(grant), _LABEL
    )
    return _text(_TOKEN, public + sealed)


def open_token(text: str, key: Any, now_s: float) -> Grant:
    """With the node's private key. Raises KeysRefused for what is none, is another node's, or has expired."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    data = _bytes(_TOKEN, text, "token")
    public, box = data[:KEY_BYTES], _box_of(key)
    try:
        shared = box.exchange(X25519PublicKey.from_public_bytes(public))
        salt = public + box.public_key().public_bytes_raw()
        plain = _cipher(shared, salt).decrypt(bytes(12), data[KEY_BYTES:], _LABEL)
    except (InvalidTag, ValueError):
        raise KeysRefused(
            "the token is damaged, or for another key than the one in this folder",
            hint="a token opens where its request was made",
        ) from None
    grant = _decoded(plain, Grant)
    if now_s > grant.expires_s:
        raise KeysRefused("the token has expired", hint="ask for another one: edgeagent keys issue --request")
    return grant


def _box_of(key: Any) -> Any:
    """The X25519 key that goes with an Ed25519 one: one file to keep, and no key with two uses."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    seed = HKDF(SHA256(), KEY_BYTES, salt=None, info=_LABEL + b"box").derive(key.private_bytes_raw())
    return X25519PrivateKey.from_private_bytes(seed)


def _cipher(shared: bytes, salt: bytes) -> Any:
    """One message under each key: the ephemeral key is new each time."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return AESGCM(HKDF(SHA256(), 32, salt=salt, info=_LABEL + b"token").derive(shared))


def _text(kind: str, data: bytes) -> str:
    return kind + base64.urlsafe_b64encode(data).decode("ascii")


def _bytes(kind: str, text: str, what: str) -> bytes:
    stripped = "".join(text.split())
    if not stripped.startswith(kind) or len(stripped) > _TEXT_MAX:
        raise KeysRefused(f"that is no {what}: it begins with {kind[:-1]}", hint="copy all of the line")
    try:
        return base64.urlsafe_b64decode(stripped[len(kind) :])
    except (binascii.Error, ValueError):
        raise KeysRefused(f"the {what} is damaged", hint="copy all of the line") from None


def _decoded(data: bytes, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except UNDECODABLE:
        raise KeysRefused(f"the {kind.__name__.lower()} is damaged", hint="copy all of the line") from None
