"""The peers that a configuration names: ``hose.peers = "ground=http://10.0.0.2:8480, relay=..."``. Pure.

Only these can be named by chains and guests, so that who may call this node cannot make it call others.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from edgeagent.model.errors import BadConfig, NotFound

__all__ = ["parse_peers", "peer_url"]

_NAME = re.compile(r"[a-z0-9-]{1,63}")


def parse_peers(text: str) -> dict[str, str]:
    """Name to base URL, without a slash at its end. Raises BadConfig naming the entry."""
    peers: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, equals, url = (part.strip() for part in entry.partition("="))
        if not equals or not _NAME.fullmatch(name) or name in peers or not _is_base(url):
            raise BadConfig(
                f"hose.peers: {entry[:200]!r} is not NAME=http://HOST:PORT, or a name twice",
                hint="names are 1 to 63 of a-z, 0-9 and -; entries are separated by commas",
            )
        peers[name] = url.rstrip("/")
    return peers


def _is_base(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username or parts.password) and parts.path in {
        "",
        "/",
    }
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and has_port and plain


def peer_url(peers: dict[str, str], name: str) -> str:
    """Raises NotFound naming those that there are."""
    if name not in peers:
        known = ", ".join(sorted(peers)) or "none"
        raise NotFound(f"this node knows no peer {name}", hint=f"hose.peers has {known}")
    return peers[name]
