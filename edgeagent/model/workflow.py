"""What a workflow is: its steps with their limits, and what starts it (CONTRACTS: workflow).

Only the shape; :mod:`edgeagent.node.workflow_spec` reads and checks it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["FanOut", "Trigger", "Workflow", "WorkflowSection", "WorkflowStep"]

FanOut = Literal["", "items"]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class WorkflowSection(_Strict, frozen=True):
    """``[workflow]``: ``deadline_ms`` bounds a run from its start to its end; ``budget_usd`` 0 means none."""

    name: str
    deadline_ms: float = 60_000
    budget_usd: float = 0.0
    slo_class: str = "default"


class WorkflowStep(_Strict, frozen=True):
    """``[[step]]``: a function, and what must hold where it runs. 0 and "" mean: no such limit.

    ``latency_ms_max`` and ``bandwidth_mbit_s_min`` bind the edges into the step, ``data_latency_ms_max`` and
    ``data_mbit_s_min`` the one from its ``data_source``. ``timeout_ms`` 0 is the function's own limit. ``retries``
    come after the first attempt. With ``fan_out`` = "items" it runs once for each item of a framed input, and what
    follows gets the outputs framed again. ``when`` is a condition on what it would be given; "" always holds.
    ``args`` None are the manifest's.
    """

    name: str
    function: str
    after: tuple[str, ...] = ()
    latency_ms_max: float = 0
    bandwidth_mbit_s_min: float = 0
    data_source: str = ""
    data_latency_ms_max: float = 0
    data_mbit_s_min: float = 0
    timeout_ms: float = 0
    retries: int = 0
    fan_out: FanOut = ""
    when: str = ""
    needs: tuple[str, ...] = ()
    near: str = ""
    args: tuple[str, ...] | None = None


class Trigger(_Strict, frozen=True):
    """``[[trigger]]``: one of them: every so many seconds, at contact with a node, over a region.

    ``over`` is (latitude in degrees, longitude in degrees, radius in km), or empty.
    """

    every_s: float = 0
    contact_with: str = ""
    over: tuple[float, ...] = ()


class Workflow(_Strict, frozen=True):
    workflow: WorkflowSection
    step: tuple[WorkflowStep, ...]
    trigger: tuple[Trigger, ...] = ()
