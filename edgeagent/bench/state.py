"""The benchmark ``state``: the store, groups, workflows whose state travels ahead, and elections."""

from __future__ import annotations

from edgeagent.bench.harness import Case

__all__ = ["cases"]


def cases() -> list[Case]:
    from edgeagent.bench import state_election, state_group, state_store, state_workflow

    return [
        *state_workflow.cases(),
        *state_election.election_cases(),
        *state_group.cases(),
        *state_store.cases(),
    ]
