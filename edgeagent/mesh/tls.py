"""TLS between the nodes of a cluster, from their key folders: both sides show a certificate of the one authority.

A certificate says who its holder is by a URI among its names: ``edgeagent:node:ID``, or ``edgeagent:operator:NAME``
for people and their tools. A client checks besides that the certificate names the host or address that it called.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from edgeagent.mesh.errors import KeysRefused
from edgeagent.mesh.key_files import AUTHORITY, NODE_CERT, NODE_KEY, read_key_file

__all__ = ["Holder", "holder_of", "tls_context"]

Kind = Literal["node", "operator"]
_SCHEME = "edgeagent"


class Holder(msgspec.Struct, frozen=True):
    """Who a certificate is for."""

    kind: Kind
    name: str


def holder_of(certificate: Mapping[str, Any] | None) -> Holder | None:
    """The holder of a verified certificate (``SSLSocket.getpeercert``), None where it names none or several."""
    names = () if certificate is None else certificate.get("subjectAltName", ())
    ours = [value for kind, value in names if kind == "URI" and value.startswith(f"{_SCHEME}:")]
    if len(ours) != 1:
        return None
    _, kind, name = [*ours[0].split(":", 2), "", ""][:3]
    if kind == "node" and name:
        return Holder("node", name)
    return Holder("operator", name) if kind == "operator" and name else None


def tls_context(folder: Path, *, server: bool) -> ssl.SSLContext:
    """For one side, TLS 1.3 only. Raises KeysRefused."""
    read_key_file(folder / NODE_KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(folder / NODE_CERT, folder / NODE_KEY, password=lambda: b"")
        context.load_verify_locations(folder / AUTHORITY)
    except (ssl.SSLError, OSError) as error:
        raise KeysRefused(
            f"the certificate or the key in {folder} cannot be used: {error}",
            hint="edgeagent keys issue makes a folder with both",
        ) from None
    context.verify_mode = ssl.CERT_REQUIRED
    return context
