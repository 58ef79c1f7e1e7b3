"""A node's state without the node: one store on a disk and its service, in no mesh. For benchmarks and tools."""

from __future__ import annotations

from pathlib import Path

from edgeagent.node.config_schema import Config, StateSection
from edgeagent.node.key_state import KeyState
from edgeagent.node.membership import Membership
from edgeagent.node.meters import Meters

__all__ = ["state_alone"]


def state_alone(directory: Path, *, bytes_max: int) -> KeyState:
    """Not opened yet."""
    meters = Meters()
    section = StateSection(bytes_max=bytes_max)
    membership = Membership(Config(), "alone", meters)
    return KeyState(section, directory, membership, None, meters, node_id="alone", kind="edge")
