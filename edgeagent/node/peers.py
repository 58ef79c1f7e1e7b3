"""The peers that a configuration names: the table ``[hose.peers]``, ``ground = "http://10.0.0.2:8480"``. Pure.

Only these can be named by chains and guests, so that who may call this node cannot make it call others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from edgeagent.model.errors import BadConfig, BadRequest

__all__ = ["PEERS_MAX", "UnknownPeer", "checked_peers", "is_base_url", "peer_url", "split_peers"]

PEERS_MAX = 1024
_NAME = re.compile(r"[a-z0-9-]{1,63}")
_HINT = "names are 1 to 63 of a-z, 0-9 and -; a URL has a host, at most a port, and nothing behind it"


class UnknownPeer(BadRequest):
    """A peer that the configuration does not name; ``details["peers"]`` lists those that it does."""

    slug = "unknown-peer"


def split_peers(text: str) -> dict[str, str]:
    """The table as flags and variables say it: ``NAME=URL, NAME=URL``. Raises BadConfig naming the entry."""
    peers: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, equals, url = (part.strip() for part in entry.partition("="))
        if not equals or name in peers:
            raise BadConfig(
                f"hose.peers: {entry[:200]!r} is not NAME=http://HOST:PORT, or a name twice",
                hint="entries are separated by commas",
            )
        peers[name] = url
    return peers


def checked_peers(table: Mapping[str, Any], *, source: str = "configuration") -> dict[str, str]:
    """Name to base URL, without a slash at its end. Raises BadConfig naming the entry."""
    if len(table) > PEERS_MAX:
        raise BadConfig(f"{source}: hose.peers has {len(table)} entries", hint=f"at most {PEERS_MAX}")
    peers: dict[str, str] = {}
    for name, url in table.items():
        if not _NAME.fullmatch(name) or not isinstance(url, str) or not is_base_url(url):
            raise BadConfig(
                f"{source}: hose.peers: {name[:100]!r} = {str(url)[:200]!r} is not NAME = 'http://HOST:PORT'",
                hint=_HINT,
            )
        peers[name] = url.rstrip("/")
    return peers


def is_base_url(url: str) -> bool:
    """Whether it is ``http://HOST:PORT`` or ``https://...``, at most a slash behind it."""
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username or parts.password) and parts.path in {
        "",
        "/",
    }
    clean = url.isascii() and url.isprintable() and " " not in url and len(url) <= 512
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and has_port and plain and clean


def peer_url(peers: Mapping[str, str], name: str) -> str:
    """Raises UnknownPeer naming those that there are."""
    if name not in peers:
        known = sorted(peers)
        raise UnknownPeer(
            f"this node knows no peer {name}",
            hint=f"[hose.peers] of its configuration has {', '.join(known[:32]) or 'none'}",
            peers=known,
        )
    return peers[name]
