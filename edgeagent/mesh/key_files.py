"""Keys on disk. Two kinds of folders:

| folder | files | who has it |
|---|---|---|
| cluster | ``ca.key``, ``ca.crt``, ``cluster.json`` | whoever admits nodes; not a node |
| node | ``node.key``, ``node.crt``, ``voucher``, ``ca.crt``, ``cluster.json`` | one node |

Certificates are X.509 with Ed25519 keys, for TLS on both sides; a node's carries its id as the URI
``edgeagent:node:ID``. Private files are 0600 and are refused when others can read them. Files are replaced whole.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeagent.mesh.errors import KeysRefused
from edgeagent.mesh.identity import KEY_BYTES, VOUCHED_KEY_BYTES, voucher_text, vouches
from edgeagent.mesh.keyring import Keyring, Secret, read_keyring, write_keyring

__all__ = ["NodeKeys", "issue_node", "load_node", "load_ring", "make_cluster", "save_ring"]

RING, AUTHORITY, AUTHORITY_KEY = "cluster.json", "ca.crt", "ca.key"
NODE_KEY, NODE_CERT, VOUCHER = "node.key", "node.crt", "voucher"
_AUTHORITY_DAYS, _NODE_DAYS = 3650, 825
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


def make_cluster(folder: Path, label: str, secret: bytes, now: datetime.datetime) -> Keyring:
    """A new cluster's folder. Raises KeysRefused where one is there already."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    _make_folder(folder)
    for name in (AUTHORITY_KEY, AUTHORITY, RING):
        if (folder / name).exists():
            raise KeysRefused(
                f"{folder / name} exists", hint="keys are never overwritten: name another folder"
            )
    ring = Keyring(label, (Secret(1, secret),), 1)
    read_keyring(write_keyring(ring))  # a label that cannot be
    key = Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"edgeagent {label}"[:64])])
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, None)
    )
    _write(folder / AUTHORITY_KEY, _pem_key(key))
    _write(folder / AUTHORITY, _pem_certificate(certificate))
    save_ring(folder, ring)
    return ring


def issue_node(cluster: Path, out: Path, node: str, addresses: Sequence[str], now: datetime.datetime) -> Path:
    """A node's folder, signed by the cluster's authority. Raises KeysRefused."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    ring = load_ring(cluster)
    authority = _certificate(cluster / AUTHORITY)
    ca_key = _private_key(cluster / AUTHORITY_KEY)
    _make_folder(out)
    if (out / NODE_KEY).exists():
        raise KeysRefused(f"{out / NODE_KEY} exists", hint="keys are never overwritten: name another folder")
    key = Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, node)])
    names = [x509.UniformResourceIdentifier(f"edgeagent:node:{node}"), *map(_general_name, addresses)]
    certificate = (
        x509.CertificateBuilder(authority.subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_NODE_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(ca_key, None)
    )
    voucher = ca_key.sign(voucher_text(node, key.public_key().public_bytes_raw()))
    _write(out / NODE_KEY, _pem_key(key))
    _write(out / NODE_CERT, _pem_certificate(certificate))
    _write(out / VOUCHER, voucher.hex().encode() + b"\n")
    _write(out / AUTHORITY, _pem_certificate(authority))
    save_ring(out, ring)
    return out


def load_node(folder: Path, node: str) -> NodeKeys:
    """The keys of ``node``. Raises KeysRefused, also where they are another node's."""
    ring = load_ring(folder)
    key = _private_key(folder / NODE_KEY)
    authority = _certificate(folder / AUTHORITY).public_key()
    try:
        vouched = key.public_key().public_bytes_raw() + bytes.fromhex(_read(folder / VOUCHER).decode("ascii"))
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
    data = _read(folder / RING)
    try:
        return read_keyring(data)
    except KeysRefused as error:
        raise KeysRefused(f"{folder / RING}: {error.message}", hint=error.hint) from None


def save_ring(folder: Path, ring: Keyring) -> None:
    _write(folder / RING, write_keyring(ring))


def _general_name(text: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    if not text or not all(one.isascii() and (one.isalnum() or one in "-.") for one in text):
        raise KeysRefused(f"{text!r:.80} is neither an IP address nor a host name")
    return x509.DNSName(text)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KeysRefused(f"{folder}: {error.strerror}", hint="name a folder that can be made") from None


def _read(path: Path) -> bytes:
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


def _write(path: Path, data: bytes) -> None:
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


def _pem_key(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


def _pem_certificate(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    pem: bytes = certificate.public_bytes(Encoding.PEM)
    return pem


def _private_key(path: Path) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read(path), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeysRefused(f"{path} holds no Ed25519 key", hint="edgeagent keys init and keys issue make them")
    return key


def _certificate(path: Path) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        certificate = x509.load_pem_x509_certificate(_read(path))
    except ValueError:
        raise KeysRefused(f"{path} holds no certificate", hint="copy it from the cluster's folder") from None
    if not isinstance(certificate.public_key(), Ed25519PublicKey):
        raise KeysRefused(f"{path} is not of edgeagent keys", hint="copy ca.crt from the cluster's folder")
    return certificate
