"""What the holder of a cluster's folder does: make the cluster, and admit nodes and operators."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeagent.mesh import key_files as files
from edgeagent.mesh.errors import KeysRefused
from edgeagent.mesh.identity import voucher_text
from edgeagent.mesh.join import Grant, Request, seal_token
from edgeagent.mesh.keyring import Keyring, Secret, read_keyring, write_keyring

__all__ = ["Authority", "issue_node", "issue_operator", "make_cluster"]

_AUTHORITY_DAYS, _HOLDER_DAYS = 3650, 825


def make_cluster(folder: Path, label: str, secret: bytes, now: datetime.datetime) -> Keyring:
    """A new cluster's folder. Raises KeysRefused where one is there already."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    files.make_folder(folder)
    for name in (files.AUTHORITY_KEY, files.AUTHORITY, files.RING):
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
    files.write_key_file(folder / files.AUTHORITY_KEY, files.key_pem(key))
    files.write_key_file(folder / files.AUTHORITY, files.certificate_pem(certificate))
    files.save_ring(folder, ring)
    return ring


class Authority:
    """A cluster's folder, read. Raises KeysRefused."""

    def __init__(self, folder: Path) -> None:
        self.ring = files.load_ring(folder)
        self._certificate = files.load_certificate(folder / files.AUTHORITY)
        self._key = files.load_private_key(folder / files.AUTHORITY_KEY)

    def node_files(
        self, node: str, public_key: Any, addresses: Sequence[str], now: datetime.datetime
    ) -> dict[str, bytes]:
        """What a node's folder has beside its key. Raises KeysRefused for an address that is none."""
        voucher = self._key.sign(voucher_text(node, public_key.public_bytes_raw()))
        return {
            **self.holder_files(f"edgeagent:node:{node}", public_key, addresses, now),
            files.VOUCHER: voucher.hex().encode() + b"\n",
            files.RING: write_keyring(self.ring),
        }

    def holder_files(
        self, holder: str, public_key: Any, addresses: Sequence[str], now: datetime.datetime
    ) -> dict[str, bytes]:
        """Certificates for ``holder`` (:mod:`tls`)."""
        from cryptography import x509

        names = [x509.UniformResourceIdentifier(holder), *map(_general_name, addresses)]
        common_name = holder.partition(":")[2][:64]
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
        authority = self._certificate.public_key()
        certificate = (
            x509.CertificateBuilder(
                self._certificate.subject, subject, public_key, x509.random_serial_number()
            )
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=_HOLDER_DAYS))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False)
            .sign(self._key, None)
        )
        return {
            files.NODE_CERT: files.certificate_pem(certificate),
            files.AUTHORITY: files.certificate_pem(self._certificate),
        }

    def token(
        self, request: Request, addresses: Sequence[str], now: datetime.datetime, valid_s: float
    ) -> str:
        """The answer to a request. Raises KeysRefused."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        key = Ed25519PublicKey.from_public_bytes(request.public_key)
        given = self.node_files(request.node, key, addresses, now)
        expires_s = int(now.timestamp() + valid_s)
        return seal_token(request, Grant(node=request.node, expires_s=expires_s, files=given))


def issue_node(cluster: Path, out: Path, node: str, addresses: Sequence[str], now: datetime.datetime) -> None:
    """A node's folder, signed by the cluster's authority. Raises KeysRefused."""
    _issue(cluster, out, lambda authority, key: authority.node_files(node, key, addresses, now))


def issue_operator(cluster: Path, out: Path, operator: str, now: datetime.datetime) -> bytes:
    """The folder of who may deploy over TLS; it opens no gossip. Returns the public key. Raises KeysRefused."""
    holder = f"edgeagent:operator:{operator}"
    return _issue(cluster, out, lambda authority, key: authority.holder_files(holder, key, (), now))


def _issue(cluster: Path, out: Path, given: Any) -> bytes:
    authority = Authority(cluster)
    key = files.new_node_key(out)
    try:
        made = given(authority, key.public_key())
    except KeysRefused:
        (out / files.NODE_KEY).unlink(missing_ok=True)
        raise
    for name, data in made.items():
        files.write_key_file(out / name, data)
    public: bytes = key.public_key().public_bytes_raw()
    return public


def _general_name(text: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    if not text or not all(one.isascii() and (one.isalnum() or one in "-.") for one in text):
        raise KeysRefused(f"{text!r:.80} is neither an IP address nor a host name")
    return x509.DNSName(text)
