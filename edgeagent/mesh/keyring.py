"""The secrets that a cluster shares: several, of which one seals and all open, so that they change without a pause.

Rotation takes three steps, each of which reaches every node before the next: add a secret (all can open it), use it
(all seal with it), drop the old one.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from edgeagent.mesh.errors import KeysRefused
from edgeagent.model.decoding import UNDECODABLE

__all__ = [
    "SECRETS_MAX",
    "SECRET_BYTES",
    "Keyring",
    "Secret",
    "added",
    "dropped",
    "read_keyring",
    "used",
    "write_keyring",
]

SECRET_BYTES = 32
SECRETS_MAX = 4
_VERSION = 1


class Secret(msgspec.Struct, frozen=True):
    """``id`` is public and goes before each packet."""

    id: Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]
    value: Annotated[bytes, msgspec.Meta(min_length=SECRET_BYTES, max_length=SECRET_BYTES)]


class Keyring(msgspec.Struct, frozen=True):
    """``label`` names the cluster; packets of another label do not open. ``primary`` is the id of what seals."""

    label: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    secrets: Annotated[tuple[Secret, ...], msgspec.Meta(min_length=1, max_length=SECRETS_MAX)]
    primary: int
    version: int = _VERSION

    def secret(self, id_: int) -> Secret | None:
        return next((one for one in self.secrets if one.id == id_), None)


def added(ring: Keyring, value: bytes) -> Keyring:
    """With a new secret that opens and does not seal yet. Raises KeysRefused when the ring is full."""
    if len(ring.secrets) >= SECRETS_MAX:
        raise KeysRefused(f"the keyring holds {SECRETS_MAX} secrets", hint="drop the oldest one first")
    newest = max(one.id for one in ring.secrets) + 1
    return msgspec.structs.replace(ring, secrets=(*ring.secrets, Secret(newest, value)))


def used(ring: Keyring) -> Keyring:
    """The newest secret seals."""
    return msgspec.structs.replace(ring, primary=max(one.id for one in ring.secrets))


def dropped(ring: Keyring) -> Keyring:
    """Without the oldest secret. Raises KeysRefused where that one seals."""
    oldest = min(one.id for one in ring.secrets)
    if oldest == ring.primary:
        raise KeysRefused(
            "the oldest secret is the one in use",
            hint="rotate first: add a secret, then use it on every node",
        )
    return msgspec.structs.replace(ring, secrets=tuple(one for one in ring.secrets if one.id != oldest))


def write_keyring(ring: Keyring) -> bytes:
    """The content of ``cluster.json``."""
    return msgspec.json.format(msgspec.json.encode(ring), indent=2) + b"\n"


def read_keyring(data: bytes) -> Keyring:
    """Raises KeysRefused for what is none."""
    try:
        ring = msgspec.json.decode(data, type=Keyring)
    except UNDECODABLE as error:
        raise KeysRefused(f"not a keyring: {error}"[:200], hint="edgeagent keys init makes one") from None
    if ring.version != _VERSION:
        raise KeysRefused(
            f"a keyring of version {ring.version}", hint=f"this program reads version {_VERSION}"
        )
    if ring.secret(ring.primary) is None or len({one.id for one in ring.secrets}) != len(ring.secrets):
        raise KeysRefused("the keyring's primary secret is not in it, or ids repeat", hint="make it anew")
    return ring
