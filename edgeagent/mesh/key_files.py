"""Keys on disk. Two kinds of folders:

| folder | files | who has it |
|---|---|---|
| cluster | ``ca.key``, ``ca.crt``, ``cluster.json`` | whoever admits nodes; not a node |
| node | ``node.key``, ``node.crt``, ``voucher``, ``ca.crt``, ``cluster.json`` | one node |
| operator | ``node.key``, ``node.crt``, ``ca.crt`` | a person or a tool that deploys |

Certificates are X.509 with Ed25519 keys, for TLS on both sides; their holder is a URI (:mod:`tls`). Private files are
0600 and are refused when others can read them. Files are replaced whole.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeagent.mesh.errors import KeysRefused
from edgeagent.mesh.identity import KEY_BYTES, VOUCHED_KEY_BYTES, vouches
from edgeagent.mesh.keyring import Keyring, read_keyring, write_keyring

__all__ = [
    "AUTHORITY",
    "AUTHORITY_KEY",
    "NODE_CERT",
    "NODE_KEY",
    "RING",
    "VOUCHER",
    "NodeKeys",
    "certificate_pem",
    "key_pem",
    "load_certificate",
    "load_node",
    "load_private_key",
    "load_ring",
    "make_folder",
    "new_node_key",
    "read_key_file",
    "save_ring",
    "write_granted",
    "write_key_file",
]

RING, AUTHORITY, AUTHORITY_KEY = "cluster.json", "ca.crt", "ca.key"
NODE_KEY, NODE_CERT, VOUCHER = "node.key", "node.crt", "voucher"
_PRIVATE = frozenset({RING, AUTHORITY_KEY, NODE_KEY})
_FILE_BYTES_MAX = 64 << 10


class NodeKeys:
    """What a node folder holds."""

    def __init__(self, ring: Keyring, key: Any, vouched_key: bytes, authority: bytes) -> None:
        self.ring = ring
        self.vouched_key = vouched_key
        self.authority = authority
        self._key = key

    def sign(self, text: bytes) -> bytes:
        signature: bytes = self._key.sign(text)
        return signature


def new_node_key(folder: Path) -> Any:
    """A new Ed25519 key as ``node.key`` of a folder that has none. Raises KeysRefused."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    make_folder(folder)
    if (folder / NODE_KEY).exists():
        raise KeysRefused(
            f"{folder / NODE_KEY} exists", hint="keys are never overwritten: name another folder"
        )
    key = Ed25519PrivateKey.generate()
    write_key_file(folder / NODE_KEY, key_pem(key))
    return key


def write_granted(folder: Path, granted: Mapping[str, bytes]) -> None:
    """The files that a token gave; a private key is none of them. Raises KeysRefused."""
    expected = {NODE_CERT, VOUCHER, AUTHORITY, RING}
    if set(granted) != expected:
        raise KeysRefused("the token does not hold a node's files", hint="it was made by another version")
    for name, data in granted.items():
        write_key_file(folder / name, data)


def load_node(folder: Path, node: str) -> NodeKeys:
    """The keys of ``node``. Raises KeysRefused, also where they are another node's."""
    ring = load_ring(folder)
    key = load_private_key(folder / NODE_KEY)
    authority = load_certificate(folder / AUTHORITY).public_key()
    try:
        vouched = key.public_key().public_bytes_raw() + bytes.fromhex(
            read_key_file(folder / VOUCHER).decode("ascii")
        )
    except ValueError:
        raise KeysRefused(f"{folder / VOUCHER} holds no signature", hint="issue the keys again") from None
    raw = authority.public_bytes_raw()
    if len(vouched) != VOUCHED_KEY_BYTES or not vouches(raw, node, vouched[:KEY_BYTES], vouched[KEY_BYTES:]):
        raise KeysRefused(
            f"the keys in {folder} are not those of node {node}",
            hint=f"issue them for it: edgeagent keys issue CLUSTER --node {node} --out FOLDER",
        )
    return NodeKeys(ring, key, vouched, raw)


def load_ring(folder: Path) -> Keyring:
    """Raises KeysRefused."""
    data = read_key_file(folder / RING)
    try:
        return read_keyring(data)
    except KeysRefused as error:
        raise KeysRefused(f"{folder / RING}: {error.message}", hint=error.hint) from None


def save_ring(folder: Path, ring: Keyring) -> None:
    write_key_file(folder / RING, write_keyring(ring))


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KeysRefused(f"{folder}: {error.strerror}", hint="name a folder that can be made") from None


def read_key_file(path: Path) -> bytes:
    """A file of a key folder. Raises KeysRefused, also where a private one is open to others."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if path.name in _PRIVATE and mode & 0o077:
                raise KeysRefused(f"{path} is open to other users", hint=f"chmod 600 {path}")
            return file.read(_FILE_BYTES_MAX)
    except OSError as error:
        raise KeysRefused(
            f"{path}: {error.strerror}", hint="edgeagent keys init and keys issue make key folders"
        ) from None


def write_key_file(path: Path, data: bytes) -> None:
    new = path.with_name(f".{path.name}.new")
    mode = 0o600 if path.name in _PRIVATE else 0o644
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)
            file.write(data)
            file.flush()
            os.fsync(fd)
        new.replace(path)
    except OSError as error:
        raise KeysRefused(f"{path}: {error.strerror}", hint="make room, or name another folder") from None


def key_pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


def certificate_pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    pem: bytes = certificate.public_bytes(Encoding.PEM)
    return pem


def load_private_key(path: Path) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(read_key_file(path), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeysRefused(f"{path} holds no Ed25519 key", hint="edgeagent keys init and keys issue make them")
    return key


def load_certificate(path: Path) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        certificate = x509.load_pem_x509_certificate(read_key_file(path))
    except ValueError:
        raise KeysRefused(f"{path} holds no certificate", hint="copy it from the cluster's folder") from None
    if not isinstance(certificate.public_key(), Ed25519PublicKey):
        raise KeysRefused(f"{path} is not of edgeagent keys", hint="copy ca.crt from the cluster's folder")
    return certificate
