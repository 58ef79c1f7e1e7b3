"""What a decision says: where each step goes and why, and what became of every other node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import msgspec

__all__ = ["CandidateExplanation", "Choice", "Decision", "StepExplanation", "Terms"]


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Where one step goes, in milliseconds of real time but for ``start_s``, which is orbital.

    ``legs_ms``: from each step that it follows (without any: from the node that decides), with the payload's time.
    ``transfer_ms``: code that is sent. ``predicted_ms``: from the end of the steps before until it has run: the
    longest leg, transfer, queue and execution. ``ranked``: up to four nodes, this one first, then those to fall back
    on, the best first.
    """

    step: str
    node: str
    why: str
    predicted_ms: float
    legs_ms: tuple[float, ...] = ()
    data_ms: float = 0.0
    exec_ms: float = 0.0
    queue_ms: float = 0.0
    transfer_ms: float = 0.0
    start_s: float = 0.0
    ranked: tuple[str, ...] = ()


class Terms(msgspec.Struct, frozen=True):
    """What a node's score is made of. ``path_ms``: the longest leg in, the way back and the way from ``near``.

    ``transfer_ms`` is payload, state and code on the wire; ``queue_ms``, ``energy_ms`` and ``cost_ms`` are weighted.
    """

    path_ms: float = 0.0
    queue_ms: float = 0.0
    exec_ms: float = 0.0
    data_ms: float = 0.0
    transfer_ms: float = 0.0
    energy_ms: float = 0.0
    cost_ms: float = 0.0


class CandidateExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """One node: ``removed_by`` is the first filter that removed it ("" none), ``detail`` its limit and value.

    ``score_ms`` is None where it was removed; ways are counted from where the steps before were placed.
    """

    node: str
    kind: str = ""
    removed_by: str = ""
    detail: str = ""
    terms: Terms = Terms()
    score_ms: float | None = None


class StepExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """All nodes for one step, in the order of the network's rows."""

    step: str
    node: str
    candidates: tuple[CandidateExplanation, ...]


@dataclass(frozen=True, eq=False)
class Decision:
    """The choices, in the order of the steps asked for.

    ``total_ms`` is the predicted real time until the last step has run and its result is back, ``cost_ms`` what was
    minimized. ``exact``: no plan is better by the same numbers. ``explanations`` are made when they are first read.
    """

    choices: tuple[Choice, ...]
    total_ms: float
    exact: bool
    cost_ms: float
    explain: Callable[[], tuple[StepExplanation, ...]]

    @cached_property
    def explanations(self) -> tuple[StepExplanation, ...]:
        return self.explain()
