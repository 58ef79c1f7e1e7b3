"""Addresses of the mesh: ``host:port`` with a literal IP address, which no name server can turn elsewhere.

What peers say of themselves is untrusted input: an endpoint must be a literal address within the allowed networks, so
that no record makes a node send packets to hosts that have nothing to do with the mesh.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence

from edgeagent.model.errors import BadConfig

__all__ = ["AddressRefused", "Allowed", "Endpoint", "endpoint_of", "is_loopback", "text_of"]

Endpoint = tuple[str, int]
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressRefused(BadConfig):
    slug = "mesh-address-refused"


@functools.lru_cache(maxsize=65536)
def endpoint_of(text: str) -> Endpoint:
    """(address, port) of ``1.2.3.4:5`` or ``[::1]:5``. Raises AddressRefused."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    digits = port.isascii() and port.isdigit() and len(port) <= 5
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if not colon or address is None or not digits or not 0 < int(port) < 65536:
        raise AddressRefused(
            f"{text!r:.80} is no address of the mesh", hint="give IP:PORT, for instance 192.0.2.7:8481"
        )
    return str(address), int(port)


def text_of(endpoint: Sequence[str | int]) -> str:
    """The text of a socket's address (its first two fields)."""
    host, port = str(endpoint[0]), int(endpoint[1])
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a literal address stays on this machine; False for names."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Allowed:
    """The networks that endpoints may lie in. Raises AddressRefused for a network that is none."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks: list[_Network] = []
        for text in networks:
            try:
                self._networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                raise AddressRefused(
                    f"{text!r:.80} is no network", hint="give one as 10.0.0.0/8 or 2001:db8::/32"
                ) from None
        self._known: dict[str, bool] = {}

    def __contains__(self, host: str) -> bool:
        found = self._known.get(host)
        if found is None:
            address = ipaddress.ip_address(host)
            found = any(
                address.version == network.version and address in network for network in self._networks
            )
            if len(self._known) >= 65536:
                self._known.clear()
            self._known[host] = found
        return found
