"""The benchmark ``state``: one module a subject."""

from __future__ import annotations

from edgeagent.bench.harness import Case

__all__ = ["cases"]


def cases() -> list[Case]:
    from edgeagent.bench.state_election import election_cases

    return [*election_cases()]
