"""What can go wrong in gossip; the core's state is unchanged in every case.

EdgeError
├── WireRefused 400    a datagram, item or frame is malformed, too large or of an unknown version: a peer's fault
├── RecordRefused 400  a value that no record can carry: our own fault
└── KnobsRefused 400   a preset's number that cannot be (a ``BadConfig``)
"""

from __future__ import annotations

from edgeagent.model.errors import BadConfig, BadRequest

__all__ = ["KnobsRefused", "RecordRefused", "WireRefused"]


class WireRefused(BadRequest):
    slug = "gossip-wire-refused"


class RecordRefused(BadRequest):
    slug = "gossip-record-refused"


class KnobsRefused(BadConfig):
    slug = "gossip-knobs-refused"
