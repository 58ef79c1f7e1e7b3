"""Records of runs for tests."""

from __future__ import annotations

import json
from typing import Any

from edgeagent.model.function import FunctionSection, Manifest
from edgeagent.node.runs.function_ref import FunctionRef
from edgeagent.node.runs.record import DataRef, RunRecord, StepRecord
from edgeagent.node.workflow_spec import parse_workflow

__all__ = ["output", "record"]


def output(text: str) -> DataRef:
    return DataRef(text * 8, len(text), None)


def record(*steps: dict[str, Any]) -> RunRecord:
    """A run of these steps at its beginning; every step runs the function f."""
    document = {"workflow": {"name": "w"}, "step": [{"function": "f", **step} for step in steps]}
    spec = parse_workflow(json.dumps(document).encode(), "application/json")
    ref = FunctionRef(name="f", sha256="0" * 64, manifest=Manifest(function=FunctionSection(name="f")))
    return RunRecord(
        id="r",
        spec=spec,
        functions={"f": ref},
        origin="a",
        holder="a",
        created_ms=1000,
        deadline_ms=61_000,
        input=DataRef("in", 3, b"abc"),
        steps=[StepRecord(name=one.name, function="f") for one in spec.step],
    )
