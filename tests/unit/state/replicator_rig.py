"""A replicator by itself, and what tests read of its effects."""

from __future__ import annotations

import random
from typing import Any, TypeVar

from edgeagent.state.effects import Effect, NetworkView, PeerView, Send
from edgeagent.state.entry import entry_of
from edgeagent.state.hlc import Version
from edgeagent.state.replicator import Replicator

__all__ = ["AT", "BIG", "LARGE", "UTC_MS", "core", "only", "sent"]

UTC_MS = 1_790_000_000_000
AT = Version(UTC_MS, 0, "me")
BIG = random.Random(1).randbytes(700_000)  # three chunks
LARGE = entry_of("a/large", BIG, AT)
T = TypeVar("T")


def only(effects: list[Effect], kind: type[T]) -> T:
    found = [effect for effect in effects if isinstance(effect, kind)]
    assert len(found) == 1, effects
    return found[0]


def sent(effects: list[Effect]) -> Any:
    return only(effects, Send).message


def core(*peers: str, ground: str = "", **about: Any) -> Replicator:
    made = Replicator("me", life=7, **about)
    made.tick(1.0, UTC_MS, free_bytes=10 << 20)
    made.network(NetworkView({name: PeerView(is_ground=name == ground) for name in peers}))
    return made
