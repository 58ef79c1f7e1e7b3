"""The table of states as a Mermaid diagram, for docs/gossip.md."""

from __future__ import annotations

from edgeagent.gossip.states import TRANSITIONS

__all__ = ["mermaid"]


def mermaid() -> str:
    """The diagram's source, without the fence around it."""
    arrows = [f"    {one.before.value} --> {one.after.value}: {one.event.value}" for one in TRANSITIONS]
    head = ["stateDiagram-v2", "    [*] --> alive: verified identity record"]
    return "\n".join(
        [*head, *arrows, "    dead --> [*]: tombstone's age", "    left --> [*]: tombstone's age"]
    )
