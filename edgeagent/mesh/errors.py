"""What can go wrong between members, beside gossip's own refusals.

EdgeError
├── KeysRefused 400   key files, rings and tokens that cannot be (a ``BadConfig``)
└── SealRefused 400   a packet that no key opens, of another cluster, seen before, or of an earlier life
"""

from __future__ import annotations

from edgeagent.model.errors import BadConfig, BadRequest

__all__ = ["KeysRefused", "SealRefused"]


class KeysRefused(BadConfig):
    slug = "keys-refused"


class SealRefused(BadRequest):
    slug = "mesh-seal-refused"
