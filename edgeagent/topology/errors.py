"""What can go wrong with topologies; state is unchanged in every case.

EdgeError
└── TopologyFault 422          base
    ├── TopologyRefused 400    an array, a link, a protocol or a setting that cannot be
    └── NodeAbsent 404         the topology has no node of this name

That there is no route is an answer and no error: None, infinity or False.
"""

from __future__ import annotations

from edgeagent.model.errors import EdgeError

__all__ = ["NodeAbsent", "TopologyFault", "TopologyRefused"]


class TopologyFault(EdgeError):
    """Base of this room's errors."""

    slug, status = "topology-failed", 422


class TopologyRefused(TopologyFault):
    slug, status = "topology-refused", 400


class NodeAbsent(TopologyFault):
    slug, status = "topology-node-absent", 404
